"""Ask whether a head profile finds the induction head that was planted, and finds none where there is none.

    python evals/profiles.py [--write] [--keep FOLDER] [--seeds 0,1,2,3,4]

For each seed a decoder of two layers is trained to say stretches of words again, with one head of the second
layer in the end that may look back. Which one that is, is known in three ways that the profile knows nothing
of: it was planted; of all heads of that layer, leaving it out of `transformers`' own model costs the most
repeated words, on rows that no training saw; and by `transformers`' eager attention maps, beside which the
probe's own are laid. Then the model is profiled as `cynosure profile` does it.

A second model answers from documents of made-up words (`cynosure train planted-documents`). Random tokens are
nothing to it; needles of its own kind, with seeds that are set apart for fitting, show the heads that copy.

Controls: the same shapes untrained, where nothing may be confirmed; and a model in which every head was free
to learn it, where leaving out one head tells little, and all of the kind a lot.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers

from cynosure.cli.profile import findings_of, profile_of
from cynosure.evaluate.results import write_result
from cynosure.insight.heads.head_kinds import INDUCTION, RETRIEVAL, ProbeRecipe, silent
from cynosure.insight.heads.head_probes import all_heads
from cynosure.insight.heads.kind_finding import KindFinding
from cynosure.insight.probing import Head
from cynosure.models.load import load
from cynosure.models.probe import DecoderProbe
from cynosure.pack import CORE_LM, pack_folder
from cynosure.train.planted_checkpoint import word_tokenizer, write_planted
from cynosure.train.planted_documents import FITTING_SEEDS, prompts
from cynosure.train.planted_documents_model import PlantedRecipe, train_planted_documents
from cynosure.train.planted_induction import (
    WORDS,
    InductionRecipe,
    held_out_rows,
    new_decoder,
    train_planted_induction,
)

RECIPE = InductionRecipe()


class Oracle:
    """The same checkpoint as `transformers` runs it, with eager attention."""

    def __init__(self, folder: Path, recipe: InductionRecipe) -> None:
        """Load it, and take rows that no training saw."""
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self._width = recipe.shape.head_dim
        self._rows, self._is_repeated = held_out_rows(recipe)

    @torch.inference_mode()
    def accuracy(self, without: Sequence[Head] = ()) -> float:
        """The share of repeated words that come first, where heads give nothing."""
        kept = []
        for layer, head in without:
            weight = self.model.model.layers[layer].self_attn.o_proj.weight
            columns = slice(head * self._width, (head + 1) * self._width)
            kept.append((weight, columns, weight[:, columns].clone()))
            weight[:, columns] = 0
        asked = self._is_repeated[:, 1:] & self._is_repeated[:, :-1]
        right = self.model(self._rows[:, :-1]).logits.argmax(-1) == self._rows[:, 1:]
        for weight, columns, values in reversed(kept):
            weight[:, columns] = values
        return float(right[asked].float().mean())

    @torch.inference_mode()
    def map_error(self, probe: DecoderProbe) -> float:
        """The largest difference of any share between the probe's maps and eager attention's."""
        errors = []
        for row in self._rows[:4].tolist():
            maps = self.model(torch.tensor([row]), output_attentions=True).attentions
            dense = torch.cat([one[0] for one in maps]).transpose(0, 1).numpy()
            errors.append(np.abs(probe.shares(row, range(len(row)), range(len(row))) - dense).max())
        return float(max(errors))


def kinds_of(folder: Path, needles: Path | None = None) -> dict[str, KindFinding]:
    """What a profile says of a checkpoint."""
    model = load(folder, dtype="float32")
    return findings_of(profile_of(model, folder.name, ProbeRecipe(), silent, needles))


def trained(recipe: InductionRecipe, keep: Path) -> Path:
    """The checkpoint of a recipe, made where it is not there yet."""
    folder = keep / f"induction-{'planted' if recipe.is_planted else 'free'}-{recipe.seed}"
    if not folder.exists():
        made = train_planted_induction(recipe, folder)
        seconds = sum(one.seconds for one in made.fitted)
        print(f"{folder.name}: trained in {seconds:.0f} s, accuracy {made.accuracy:.3f}", flush=True)
    return folder


def planted(recipe: InductionRecipe, keep: Path) -> dict[str, float | bool]:
    """What one seed shows."""
    folder = trained(recipe, keep)
    oracle, probe = Oracle(folder, recipe), DecoderProbe(load(folder, dtype="float32").graph)
    head, whole = recipe.planted_head, oracle.accuracy()
    others = [one for one in all_heads(probe.num_heads) if one[0] == head[0] and one != head]
    costs = {one: whole - oracle.accuracy([one]) for one in [head, *others]}
    found = kinds_of(folder)[INDUCTION]
    first = found.heads[0] if found.heads else None
    report = {
        "accuracy": whole,
        "is_dearest": max(costs, key=lambda one: costs[one]) == head,
        "is_first": first == head,
        "is_confirmed": found.status == "confirmed",
        "num_found": len(found.heads),
        "score": found.scores[0] if found.scores else 0.0,
        "drop_nats": found.drops[0] if found.drops else 0.0,
        "accuracy_drop": costs[head],
        "accuracy_drop_others_max": max(costs[one] for one in others),
        "map_max_error": oracle.map_error(probe),
    }
    print(f"seed {recipe.seed}, planted {head}: first {first}, {report}", flush=True)
    return report


def untrained(recipe: InductionRecipe, keep: Path) -> int:
    """How many kinds are confirmed in a model of the same shape that learned nothing."""
    folder = keep / f"induction-untrained-{recipe.seed}"
    if not folder.exists():
        write_planted(folder, new_decoder(recipe), word_tokenizer(WORDS), "An untrained decoder.\n")
    confirmed = [kind for kind, finding in kinds_of(folder).items() if finding.status == "confirmed"]
    print(f"untrained, seed {recipe.seed}: confirmed {confirmed or 'nothing'}", flush=True)
    return len(confirmed)


def free(recipe: InductionRecipe, keep: Path) -> dict[str, float | int]:
    """What a model shows in which heads share the work."""
    folder = trained(recipe, keep)
    oracle, found = Oracle(folder, recipe), kinds_of(folder)[INDUCTION]
    whole = oracle.accuracy()
    report = {
        "num_found": len(found.heads),
        "is_confirmed": found.status == "confirmed",
        "accuracy_drop_first": whole - oracle.accuracy(found.heads[:1]),
        "accuracy_drop_all": whole - oracle.accuracy(found.heads),
    }
    print(f"free, seed {recipe.seed}: {report}", flush=True)
    return report


def needles_of(count: int) -> Iterator[dict[str, object]]:
    """Questions that a document answers, and the words of the answer that stand in that document alone."""
    for prompt in prompts(FITTING_SEEDS, kinds=("answerable",), regimes=("short",)):
        (asked,) = prompt.asked
        assert asked.gold is not None
        others = " ".join(text for at, (_, text) in enumerate(prompt.documents) if at != asked.gold)
        known = {*others.split(), *prompt.question.split(), "."}
        copied = " ".join(word for word in asked.answer.split() if word not in known)
        if copied and copied in asked.answer and copied in prompt.documents[asked.gold][1]:
            yield {"messages": prompt.messages, "answer": asked.answer, "copied": copied}
            count -= 1
        if not count:
            return


def retrieving(keep: Path) -> dict[str, object]:
    """What a model shows that answers from documents: on random tokens, and on its own kind."""
    folder = keep / "planted-documents"
    if not folder.exists():
        train_planted_documents(PlantedRecipe(), folder)
    file = keep / "needles.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in needles_of(ProbeRecipe.num_cases)))
    found = {"random_tokens": kinds_of(folder)[RETRIEVAL], "own_words": kinds_of(folder, file)[RETRIEVAL]}
    for name, finding in found.items():
        print(f"planted documents, {name}: {finding.status}; {finding.reason}", flush=True)
    return {name: told(finding) for name, finding in found.items()}


def told(finding: KindFinding) -> dict[str, object]:
    """A finding as it is written down."""
    return {
        "status": finding.status,
        "heads": ", ".join(f"{layer}.{head}" for layer, head in finding.heads),
        "best_score": finding.best_score,
        "threshold": finding.threshold,
        "accuracy": finding.accuracy,
        "drop": None if finding.ablation is None else finding.ablation.drop,
        "drop_others": None if finding.ablation is None else finding.ablation.random_mean,
        "drop_others_max": None if finding.ablation is None else finding.ablation.random_max,
        "drop_alone_max": max(finding.drops, default=None),
    }


def packed() -> dict[str, object]:
    """What the pack's decoder shows."""
    found = kinds_of(pack_folder(CORE_LM))
    for kind, finding in found.items():
        print(f"{CORE_LM}, {kind}: {finding.status}; {finding.reason}", flush=True)
    return {kind: told(finding) for kind, finding in found.items()}


def measure(seeds: Sequence[int], keep: Path) -> dict[str, object]:
    """All that is written down."""
    reports = [planted(replace(RECIPE, seed=seed), keep) for seed in seeds]
    return {
        "num_seeds": len(seeds),
        "induction_first": sum(one["is_first"] for one in reports),
        "induction_confirmed": sum(one["is_confirmed"] for one in reports),
        "dearest_is_planted": sum(one["is_dearest"] for one in reports),
        "accuracy_min": min(one["accuracy"] for one in reports),
        "accuracy_drop_min": min(one["accuracy_drop"] for one in reports),
        "accuracy_drop_others_max": max(one["accuracy_drop_others_max"] for one in reports),
        "score_min": min(one["score"] for one in reports),
        "drop_nats_min": min(one["drop_nats"] for one in reports),
        "map_max_error": max(one["map_max_error"] for one in reports),
        "untrained_confirmed": sum(untrained(replace(RECIPE, seed=seed), keep) for seed in seeds),
        "free": free(replace(RECIPE, is_planted=False), keep),
        "planted_documents": retrieving(keep),
        "core_lm": packed(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/insight_profiles.json")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where trained models stay")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="which (0,1,2,3,4)")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        keep = options.keep or Path(scratch)
        keep.mkdir(parents=True, exist_ok=True)
        measured = measure([int(seed) for seed in options.seeds.split(",")], keep)
    print(measured)
    if options.write:
        print(write_result("insight_profiles", measured, "python evals/profiles.py --write"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
