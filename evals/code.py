"""Fill masked lines of held-out modules, and run the modules' own tests over the result. Trains nothing.

    python -m evals.code [--model FOLDER] [--lines 300] [--runs 150] [--write]

core-lm fills each gap through the engine, greedily, until the line ends; `known` is held to names that exist.
Beside it stand an n-gram cache over the file and the training corpus, the nearest line of the file that
begins alike, and jedi's first proposal. Of the lines that are executed, the original is the control that must
pass, and the line left out is the other one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import Gap, Question
from cynosure.cli.editor.known_names import known_names
from cynosure.cli.editor.local_filler import LocalFiller
from cynosure.cli.editor.module_names import ModuleNames
from cynosure.cli.local_completer import load_completer
from cynosure.evaluate.results import write_result
from cynosure.pack import CORE_LM, pack_folder
from cynosure.train.code_corpus import read_code
from cynosure.train.core_lm_card import write_card
from cynosure.train.corpus import library_folder
from cynosure.train.licences import permissive_packages
from evals.code_baselines import NgramCache, by_jedi, nearest_line
from evals.code_execution import Changed, all_pass
from evals.code_lines import Masked, edit_similarity, existing_names, masked_lines, name_share

COMMAND = "python -m evals.code --write"
MAX_TOKENS = 48
Proposals = Sequence[str]


class CoreLm:
    """The pack's model, asked as an editor asks it."""

    def __init__(self, folder: Path, library: Path) -> None:
        """Load it."""
        self._filler = LocalFiller(load_completer(CORE_LM, folder))
        self._library = library
        self._modules = ModuleNames()
        self.milliseconds: list[float] = []

    def propose(self, masked: Masked) -> str:
        """The rest of a line, by the likeliest tokens; notes how long it took."""
        text, taken = self._filled(masked, None)
        self.milliseconds.append(taken)
        return text

    def propose_known(self, masked: Masked) -> str:
        """The same, of names only that the file, its imports or Python have."""
        gap = _gap(masked)
        known = known_names(gap, self._library / masked.path, self._modules)
        return self._filled(masked, known.names)[0]

    def close(self) -> None:
        """Stop the engine."""
        self._filler.close()

    def _filled(self, masked: Masked, names: tuple[str, ...] | None) -> tuple[str, float]:
        question = Question(_gap(masked), Extent.LINE, names, MAX_TOKENS)
        found = asyncio.run(self._filler.fill(question))
        return found.text.rstrip(), found.total_ms


def _gap(masked: Masked) -> Gap:
    return Gap(masked.prefix + masked.suffix, len(masked.prefix))


def quality(lines: Sequence[Masked], proposals: Proposals) -> dict[str, float]:
    """Exact match, edit similarity and the share of names that exist."""
    pairs = list(zip(lines, proposals, strict=True))
    shares = [name_share(proposal, existing_names(masked)) for masked, proposal in pairs]
    return {
        "exact_match": float(
            np.mean([proposal.strip() == masked.line.strip() for masked, proposal in pairs])
        ),
        "edit_similarity": float(
            np.mean([edit_similarity(proposal, masked.line) for masked, proposal in pairs])
        ),
        "names_exist": float(np.mean([share for share in shares if share is not None] or [0.0])),
    }


def whole_and_rest(lines: Sequence[Masked], proposals: Proposals) -> dict[str, float]:
    """Exact match of lines that are not begun, and of those that are."""
    found: dict[str, list[bool]] = {"whole_line": [], "rest_of_line": []}
    for masked, proposal in zip(lines, proposals, strict=True):
        kind = "whole_line" if masked.is_whole else "rest_of_line"
        found[kind].append(proposal.strip() == masked.line.strip())
    return {f"{kind}_exact_match": float(np.mean(hits)) for kind, hits in found.items() if hits}


def executed(
    lines: Sequence[Masked], proposed: Mapping[str, Proposals], library: Path, num_workers: int
) -> dict[str, float]:
    """The share of lines over which a module's tests pass, by who wrote them, and by the two controls."""
    written = {
        **proposed,
        "original": [masked.line for masked in lines],
        "deleted": ["pass" if not masked.typed.strip() else "" for masked in lines],
    }
    changes = [
        Changed(masked.module, masked.path, masked.filled(text))
        for texts in written.values()
        for masked, text in zip(lines, texts, strict=True)
    ]
    passed = np.array(all_pass(changes, library, num_workers)).reshape(len(written), len(lines))
    return {name: float(share) for name, share in zip(written, passed.mean(1), strict=True)}


def measure(chosen: argparse.Namespace, folder: Path) -> dict[str, object]:
    """All figures."""
    library = library_folder()
    lines = masked_lines(library, chosen.lines)
    print(f"{len(lines)} lines of {len({masked.module for masked in lines})} modules")
    model = CoreLm(folder, library)
    model.propose(lines[0])  # the first one pays for what is compiled and mapped
    model.milliseconds.clear()
    proposers: dict[str, Callable[[Masked], str]] = {
        "": model.propose,
        "known_": model.propose_known,
        "copy_": nearest_line,
        "jedi_": lambda masked: by_jedi(masked, library),
    }
    proposed: dict[str, Proposals] = {
        name: [one(masked) for masked in lines] for name, one in proposers.items()
    }
    model.close()
    corpus = read_code(library, permissive_packages(left_out=("cynosure",)))
    ngrams = NgramCache(file.text for file in corpus.train)
    proposed["ngram_"] = [ngrams.propose(masked) for masked in lines]
    metrics: dict[str, object] = {"lines": len(lines), "modules": len({masked.module for masked in lines})}
    for prefix, texts in proposed.items():
        metrics |= {f"{prefix}{name}": value for name, value in quality(lines, texts).items()}
        metrics |= {f"{prefix}{name}": value for name, value in whole_and_rest(lines, texts).items()}
    metrics["original_names_exist"] = quality(lines, [masked.line for masked in lines])["names_exist"]
    runs = lines[: chosen.runs]
    shares = executed(
        runs, {name: texts[: chosen.runs] for name, texts in proposed.items()}, library, chosen.workers
    )
    metrics |= {
        f"{name}tests_pass" if name in proposed else f"{name}_tests_pass": one for name, one in shares.items()
    }
    metrics |= {
        "runs": len(runs),
        "line_ms_median": float(np.median(model.milliseconds)),
        "threads": chosen.threads,
    }
    metrics["line_ms_p90"] = float(np.quantile(model.milliseconds, 0.9))
    if chosen.show:
        for place, masked in enumerate(lines[: chosen.show]):
            print(f"{masked.path}:{masked.number} {masked.typed.strip()!r} -> {masked.line!r}")
            print(
                *(f"    {name or 'core-lm'}: {texts[place]!r}" for name, texts in proposed.items()), sep="\n"
            )
    return metrics


def show(metrics: Mapping[str, object]) -> None:
    names = ("exact_match", "whole_line_exact_match", "rest_of_line_exact_match", "edit_similarity")
    names += ("names_exist", "tests_pass")
    print(f"{'':10}" + "".join(f"{name.replace('_exact_match', ''):>17}" for name in names))
    for label in ("core-lm", "known", "ngram", "copy", "jedi", "original", "deleted"):
        prefix = "" if label == "core-lm" else f"{label}_"
        cells = [metrics.get(prefix + name) for name in names]
        shown = [f"{cell:17.3f}" if isinstance(cell, float) else f"{'':17}" for cell in cells]
        print(f"{label:10}" + "".join(shown))
    median, high = metrics["line_ms_median"], metrics["line_ms_p90"]
    print(f"a line: {median:.0f} ms at the median, {high:.0f} ms at the 90th percentile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="another model than the pack's")
    parser.add_argument("--lines", type=int, default=300)
    parser.add_argument("--runs", type=int, default=150, help="lines over which tests run")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="tests at a time")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--show", type=int, default=0, metavar="N", help="print the proposals of so many lines"
    )
    parser.add_argument("--write", action="store_true", help="write results/code.json and the pack's card")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    folder = chosen.model or pack_folder(CORE_LM)
    metrics = measure(chosen, folder)
    show(metrics)
    if chosen.write:
        if chosen.model is not None:
            raise SystemExit("figures are of the pack's model; leave --model out to write them.")
        print(write_result("code", metrics, COMMAND))
        write_card(folder, metrics)


if __name__ == "__main__":
    main()
