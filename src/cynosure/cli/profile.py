"""Profile the heads of a model on the terminal. Knows nothing of how a head is told from another."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import cynosure
from cynosure.cli.loading_bar import LoadingBar
from cynosure.cli.profile_citations import with_citations
from cynosure.cli.profile_focus import with_focus
from cynosure.cli.profile_key import PROFILE_KEY, profile_key_path
from cynosure.cli.profile_needles import read_needles
from cynosure.cli.profile_risk import with_risk
from cynosure.core.errors import InputError, NotFound, UnsupportedArchitecture
from cynosure.insight import HeadProfile, choice_of, read_profile, write_profile
from cynosure.insight.heads.head_kinds import QUICK, ProbeRecipe, Report, find_kinds
from cynosure.insight.heads.kind_finding import KindFinding
from cynosure.insight.heads.probe_tasks import MAX_TOKENS, Vocabulary
from cynosure.insight.heads.profile_choice import KINDS
from cynosure.models.decoder import Decoder
from cynosure.models.fingerprint import digests_of, fingerprint
from cynosure.models.load import LanguageModel, load
from cynosure.models.probe import DecoderProbe

#: Heads of a kind that the table tells one by one.
_NUM_SHOWN = 4
_STYLES = {"confirmed": "green", "found": "yellow", "not found": "dim", "not probed": "dim"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model, and where its profile goes."""
    parser.add_argument("model", nargs="?", metavar="FOLDER", help="a checkpoint's folder, or a hub id")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write it (NAME-heads.json, here)")
    parser.add_argument("--name", help="what it calls the model (its folder's name)")
    parser.add_argument("--dtype", default="float32", help="what to compute in (float32)")
    parser.add_argument("--quick", action="store_true", help="a third of the sequences, and wider margins")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sequences (0)")
    parser.add_argument(
        "--needles",
        type=Path,
        metavar="FILE",
        help="prompts and answers that copy from them, JSON a line, to find retrieval heads on",
    )
    parser.add_argument(
        "--citations",
        type=Path,
        metavar="FILE",
        help="the model's answers from documents, JSON a line, to fit citations to (docs/citations.md)",
    )
    parser.add_argument(
        "--risk",
        type=Path,
        metavar="FILE",
        help="labelled answers, JSON a line, to fit the risk of sentences to (docs/risk.md)",
    )
    parser.add_argument(
        "--focus",
        type=Path,
        metavar="FILE",
        help="labelled answers, JSON a line, to fit focus on trusted instructions to (docs/focus.md)",
    )
    parser.add_argument(
        "--show", type=Path, metavar="FILE", help="verify a profile and print it; probe nothing"
    )


def run(arguments: argparse.Namespace) -> int:
    """Probe and write, or verify and show."""
    console = Console(highlight=False)
    if (arguments.model is None) == (arguments.show is None):
        raise InputError("name a model to profile, or a profile to --show: one of both.")
    key_path = profile_key_path(os.environ)
    if arguments.show is not None:
        others = ("out", "name", "quick", "seed", "needles", "citations", "risk", "focus")
        given = {name: vars(arguments)[name] for name in others}
        if any(given.values()):
            raise InputError("--show verifies and prints, and takes no other option. Leave them out.")
        return _show(arguments.show, key_path, console)
    if arguments.seed < 0:
        raise InputError(f"--seed is {arguments.seed}; it is 0 or more. Change it.")
    key = PROFILE_KEY.read_or_create(os.environ, key_path)
    with LoadingBar(Console(stderr=True, highlight=False)) as bar:
        bar.show("Loading", 0, 0)
        # In float32, whatever is served, where memory allows: scores are of the weights, not of rounding.
        model = load(arguments.model, dtype=arguments.dtype)
        name = arguments.name or model.folder.resolve().name
        out = _checked(arguments.out or Path(f"{name}-heads.json"), model.folder)
        # Before anything slow: what can't be read is not overwritten.
        before = read_profile(out, key) if out.exists() else None
        recipe = _recipe(arguments.seed, is_quick=arguments.quick)
        profile = profile_of(model, name, recipe, bar.show, arguments.needles)
        if arguments.citations is not None:
            profile = with_citations(profile, model, arguments.citations, bar.show)
        if arguments.risk is not None:
            profile = with_risk(profile, model, arguments.risk, bar.show)
        if arguments.focus is not None:
            profile = with_focus(profile, model, arguments.focus, bar.show)
        profile = _joined(profile, before, out)
        write_profile(out, profile, key)
    _print(profile, console)
    console.print(f"{out}: signed with {key_path.name}. Serve it: cynosure serve ... --head-profile {out}")
    return 0


def profile_of(
    model: LanguageModel, name: str, recipe: ProbeRecipe, report: Report, needles: Path | None = None
) -> HeadProfile:
    """Probe a model; retrieval on the needles of a file, where there is one.

    Raises:
        UnsupportedArchitecture: it is no decoder.
        UnknownOption: its layers have no heads that could be left out.
        InputError: it has too few ordinary tokens, or takes too few at a time.
    """
    if not isinstance(model.graph, Decoder):
        raise UnsupportedArchitecture(
            f"{model.architecture} in {model.folder} is of kind {model.kind.value}; heads of decoders alone "
            "are probed. Name another folder."
        )
    if model.scheme is not None:
        raise UnsupportedArchitecture(
            f"{model.folder} holds weights in {model.scheme.name}, of which no head can be left out. Profile "
            "the folder that it was made from, and serve that with --quantization."
        )
    limit = model.spec.max_model_len
    if limit is not None and limit < MAX_TOKENS:
        raise InputError(
            f"{model.folder} takes {limit} tokens at a time; probes need {MAX_TOKENS}. Choose a model that "
            "takes more."
        )
    probe = DecoderProbe(model.graph)
    report("Reading the files", 0, 0)
    found = fingerprint(model.folder, digests_of(model.folder))
    cases = () if needles is None else read_needles(needles, model)
    kinds = find_kinds(probe, vocabulary_of(model), recipe, report, cases)
    made = {
        "by": f"cynosure {cynosure.__version__}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "dtype": str(model.dtype).removeprefix("torch."),
        **asdict(recipe),
        "needles": None if needles is None else needles.name,
    }
    sections = {KINDS: {kind: finding.as_json() for kind, finding in kinds.items()}}
    return HeadProfile(found, name, probe.num_heads, made, sections)


def vocabulary_of(model: LanguageModel) -> Vocabulary:
    """The tokens of a model that stand for text, and those that come before everything."""
    tokenizer, size = model.tokenizer, int(model.spec.vocab_size)
    if tokenizer is None:
        return Vocabulary(tuple(range(size)))
    ids = range(min(size, tokenizer.vocab_size))
    ordinary = (
        one
        for one in ids
        if one not in tokenizer.special_ids
        and not tokenizer.is_control(one)
        and tokenizer.id_to_token(one) is not None
    )
    encoded = tokenizer.encode("a")
    pairs = zip(encoded.ids, encoded.special, strict=True)
    leading = tuple(one for one, _ in takewhile(lambda pair: pair[1], pairs))
    return Vocabulary(tuple(ordinary), leading)


def findings_of(profile: HeadProfile) -> dict[str, KindFinding]:
    """What a profile says of each kind.

    Raises:
        ProfileError: it is not readable.
    """
    kinds: Mapping[str, Any] = profile.section(KINDS) or {}
    return {kind: KindFinding.of_json(kind, written) for kind, written in kinds.items()}


def _recipe(seed: int, *, is_quick: bool) -> ProbeRecipe:
    plain = QUICK if is_quick else ProbeRecipe()
    return ProbeRecipe(**asdict(plain) | {"seed": seed})


def _checked(out: Path, folder: Path) -> Path:
    """A place for the profile: not among the files by which the model is known."""
    if folder.resolve() in out.resolve().parents:
        raise InputError(
            f"--out is {out}, in the model's own folder: there it would change the fingerprint. Name a place "
            "outside."
        )
    if not out.resolve().parent.is_dir():
        raise InputError(f"--out is {out}, in a folder that does not exist. Make it, or name another.")
    return out


def _joined(profile: HeadProfile, before: HeadProfile | None, out: Path) -> HeadProfile:
    """The profile, and what was fitted before in the file whose place it takes.

    Raises:
        InputError: that is of another model, or was fitted beside other findings.
    """
    if before is None:
        return profile
    if before.model != profile.model:
        raise InputError(f"{out} is a profile of another model, {before.name!r}. Name another file.")
    fitted = {name: value for name, value in before.sections.items() if name not in profile.sections}
    if fitted and before.section(KINDS) != profile.section(KINDS):
        raise InputError(
            f"{out} holds {', '.join(fitted)}, fitted beside other findings. Probe as then, or name another "
            "file."
        )
    return replace(profile, sections={**profile.sections, **fitted})


def _show(file: Path, key_path: Path, console: Console) -> int:
    """Print a profile that is as it was written; whether it is signed here is told, where there is a key."""
    try:
        key = PROFILE_KEY.read(os.environ, key_path)
    except NotFound:
        key = None
    profile = read_profile(file, key)
    _print(profile, console)
    console.print("signed with this machine's key" if key else "whole; no key here tells who signed it")
    return 0


def _print(profile: HeadProfile, console: Console) -> None:
    table = Table(title=f"Heads of {profile.name} ({profile.model[:12]})", title_justify="left")
    for column in ("kind", "found", "heads: score, cost alone", "threshold (chance)", "foretold", "why"):
        table.add_column(column)
    for kind, finding in findings_of(profile).items():
        style = _STYLES.get(finding.status, "")
        threshold = f"{finding.threshold:.2f} ({finding.chance:.2f})" if finding.num_cases else ""
        foretold = f"{finding.accuracy:.0%}" if finding.num_cases else ""
        status = f"[{style}]{finding.status}[/]"
        table.add_row(kind, status, _heads(finding), threshold, foretold, finding.reason)
    console.print(table)
    others = [name for name in profile.sections if name != KINDS]
    if others:
        console.print(f"sections that were fitted: {', '.join(others)}")
    choice = choice_of(profile)
    told = "it confirms no head to watch; a server goes on as without it" if choice is None else choice.reason
    console.print(told)


def _heads(finding: KindFinding) -> str:
    rows = zip(finding.heads, finding.scores, finding.drops, strict=True)
    shown = [f"{layer}.{head}: {score:.2f}, {drop:+.2f}" for (layer, head), score, drop in rows]
    more = [f"and {len(shown) - _NUM_SHOWN} more"] if len(shown) > _NUM_SHOWN else []
    return "\n".join(shown[:_NUM_SHOWN] + more)
