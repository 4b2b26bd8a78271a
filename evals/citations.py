"""Measure how often a sentence cites the document that it was drawn from, and how often none where none is.

    python -m evals.citations [--write] [--keep FOLDER] [--rehearse]

A small model that was trained here answers questions about made-up documents, through the engine as a server
asks it; some sentences of other documents are about what is asked, and do not tell it. Weights of its heads
are fitted to ablations of other prompts (AT2, arXiv 2504.13752), and what a score means to ablations of yet
others; no label of a document is used. Judged is, on prompts that nothing was fitted to:

- top-1: of prompts that a document answers, the share whose sentence gives that document the best score;
- abstains: of prompts that none answers ("unknown", or made up because the question wants a guess), the share
  whose sentence cites nothing; beside it, how often nothing is cited though a document answers.

Beside the fitted weights stand four that are not: all heads alike, those of the last layer alike, those that
retrieve alike (arXiv 2404.15574), and the best single head by the ablations of the fit. Each gets a
calibration of its own. `by_document` adds up what a whole document got, as is often done, where long ones get
more. The control shuffles the fitted weights among the heads, many times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cynosure.evaluate.results import write_result
from cynosure.insight import HeadChoice, HeadGroup, Reading
from cynosure.insight.citing.attribution import (
    SentenceAblations,
    SourceEffects,
    ablate_at_random,
    ablate_one_by_one,
)
from cynosure.insight.citing.citation_fit import CitationFit, fit_head_weights, weights_with_chances
from cynosure.insight.citing.citation_weights import GROUP, SECTION, CitationWeights
from cynosure.insight.citing.citations import CitationReader, CitationRule, citable_parts
from cynosure.insight.heads.head_probes import all_heads
from cynosure.insight.profile import HeadProfile
from cynosure.train.planted_documents import (
    FITTING_SEEDS,
    HELD_OUT_SEEDS,
    REGIMES,
    VALIDATION_SEEDS,
    Regime,
    prompts,
)
from cynosure.train.planted_documents_language import FAMILIES
from evals.planted_answers import NAME, Answered, PlantedServed

COMMAND = "python -m evals.citations --write"
NUM_LEARNED, NUM_CALIBRATED, NUM_JUDGED = 150, 250, 2000
#: Prompts of a rehearsal: of the fitting seeds, behind those that anything is fitted to.
REHEARSED = FITTING_SEEDS[-NUM_JUDGED:]
RECIPE = CitationFit()
#: Sentences that are about what is asked, and do not tell it.
NUM_MENTIONS = (0, 1, 2, 4)
JUDGED_REGIMES: tuple[Regime, ...] = (*REGIMES, "uneven")
NUM_SHUFFLES = 5
#: What is cited is told of all, so that the best can be judged where none is cited.
EVERYTHING = 64


@dataclass(frozen=True, eq=False)
class Ablated:
    """What was seen of the prompts of the fit."""

    learned_from: tuple[SentenceAblations, ...]
    calibrated_on: tuple[SourceEffects, ...]

    @classmethod
    def of(cls, served: PlantedServed) -> Ablated:
        """Have the model answer, and take its sources away."""
        dice = np.random.default_rng(RECIPE.seed)
        learned, calibrated = list[SentenceAblations](), list[SourceEffects]()
        for answer in _answers(served, FITTING_SEEDS[:NUM_LEARNED]):
            learned += ablate_at_random(served.probe, answer.to_learn_from, RECIPE.num_ablations, dice)
        for answer in _answers(served, VALIDATION_SEEDS[:NUM_CALIBRATED]):
            calibrated += ablate_one_by_one(served.probe, answer.to_learn_from)
        return cls(tuple(learned), tuple(calibrated))


def _answers(
    served: PlantedServed, seeds: Sequence[int], regimes: Sequence[Regime] = REGIMES
) -> list[Answered]:
    """Answers whose documents are cut into sentences."""
    asked = prompts(seeds, regimes=regimes, num_mentions=NUM_MENTIONS)
    return served.answers(list(asked), {"citations": {}})


def groups_of(served: PlantedServed, ablated: Ablated) -> dict[str, np.ndarray]:
    """Weights of all heads, fitted and not."""
    heads = all_heads(served.probe.num_heads)
    retrieving = served.retrieving_heads(FITTING_SEEDS[-NUM_JUDGED - 100 : -NUM_JUDGED])
    last = max(layer for layer, _ in heads)
    fitted = fit_head_weights(ablated.learned_from, max_heads=RECIPE.max_heads)
    dice = np.random.default_rng(1)
    shuffled = {f"shuffled_{number}": dice.permutation(fitted) for number in range(NUM_SHUFFLES)}
    return {
        "learned": fitted,
        "mean_of_heads": np.full(len(heads), 1 / len(heads)),
        "last_layer": np.array([float(layer == last) for layer, _ in heads]),
        "retrieval_heads": np.array([float(head in retrieving) for head in heads]),
        "best_head": fit_head_weights(ablated.learned_from, max_heads=1),
    } | shuffled


def watched(served: PlantedServed, fits: Mapping[str, CitationWeights]) -> None:
    """Have all heads watched, and folded by the weights of each way to cite."""
    heads = tuple(all_heads(served.probe.num_heads))

    def group(name: str, fit: CitationWeights) -> HeadGroup:
        own = dict(zip(fit.heads, fit.weights, strict=True))
        return HeadGroup(name, tuple(own.get(head, 0.0) for head in heads))

    groups = [group(GROUP if name == "learned" else name, fit) for name, fit in fits.items()]
    profile = HeadProfile("planted", NAME, served.probe.num_heads, {}, {SECTION: fits["learned"].as_json()})
    served.watch(HeadChoice(heads, "an evaluation watches all heads", tuple(groups)), profile)


@dataclass(frozen=True)
class Judgement:
    """One sentence: which document ought to be cited, which is best, and whether it is cited.

    `is_right`: whether the sentence says what it ought to; made-up ones have no right answer.
    """

    kind: str
    regime: str
    family: str
    gold: int | None
    best: int | None
    best_by_document: int | None
    is_cited: bool
    is_right: bool


def judged(answers: Sequence[Answered], name: str, fit: CitationWeights) -> list[Judgement]:
    """What one way to cite makes of the answers."""
    told = []
    for answer in answers:
        reading = answer.reading
        if name != "learned":
            renamed = [replace(one, name=GROUP if one.name == name else "") for one in reading.choice.groups]
            reading = replace(reading, choice=replace(reading.choice, groups=tuple(renamed)))
        rule = CitationRule(fit, 0.0, EVERYTHING)
        first, *_ = answer.prompt.asked
        reader = CitationReader(rule, reading)
        best = next(iter(reader.citations(answer.tokens, answer.text)), None)
        names = [name for name, _ in answer.prompt.documents]
        told.append(
            Judgement(
                first.kind,
                answer.prompt.regime,
                answer.prompt.family,
                first.gold,
                None if best is None else names.index(reading.segments.parts[best.part].name),
                _by_document(answer, reading, names),
                best is not None and best.score >= fit.min_score,
                answer.text == answer.prompt.answer,
            )
        )
    return told


def _by_document(answer: Answered, reading: Reading, names: Sequence[str]) -> int | None:
    """The document that got most over all its sentences."""
    place = [group.name for group in reading.choice.groups].index(GROUP)
    folds = [token.folds[place] for token in answer.tokens if token.folds]
    if not folds:
        return None
    total = np.sum(folds, axis=0)
    parts = reading.segments.parts
    got = [sum(total[one] for one in range(len(parts)) if parts[one].name == name) for name in names]
    return int(np.argmax(got))


def share(of: Sequence[Judgement], test: Callable[[Judgement], bool]) -> float:
    """How many of them pass."""
    return sum(map(test, of)) / len(of)


def figures(told: Sequence[Judgement]) -> dict[str, object]:
    """What is published of one way to cite."""
    gold = [one for one in told if one.gold is not None]
    right = [one for one in gold if one.is_right]
    nothing = [one for one in told if one.kind == "unanswerable"]
    remembered = [one for one in told if one.kind == "memorised"]
    by_world = {
        f"{family}_{regime}": share(own, _is_gold)
        for family in FAMILIES
        for regime in JUDGED_REGIMES
        if (own := [one for one in gold if (one.family, one.regime) == (family, regime)])
    }
    return {
        "top1": share(gold, _is_gold),
        "top1_of_right_answers": share(right, _is_gold),
        "top1_by_document": share(gold, lambda one: one.best_by_document == one.gold),
        "top1_by_wording_and_length": by_world,
        "abstains": share(nothing, lambda one: not one.is_cited),
        "abstains_memorised": share(remembered, lambda one: not one.is_cited),
        "silent_though_told": share(gold, lambda one: not one.is_cited),
        "gold_cited": share(gold, lambda one: one.is_cited and _is_gold(one)),
    }


def _is_gold(one: Judgement) -> bool:
    return one.best == one.gold


def measured(folder: Path, seeds: Sequence[int]) -> dict[str, object]:
    """Fit, judge, and say what was found."""
    served = PlantedServed.of(folder)
    unfitted = CitationWeights(((0, 0),), (1.0,), 0.0, 1.0, 0.0, 0.5, 1.0, "nothing")
    watched(served, {"learned": unfitted})
    ablated = Ablated.of(served)
    described = f"{NUM_LEARNED} and {NUM_CALIBRATED} planted prompts"
    fits = {
        name: weights_with_chances(served.probe, weights, ablated.calibrated_on, described, RECIPE)
        for name, weights in groups_of(served, ablated).items()
        if weights.any()
    }
    watched(served, fits)
    print(fits["learned"])
    answers = _answers(served, seeds, JUDGED_REGIMES)
    served.completer.close()
    judgements = {name: judged(answers, name, fit) for name, fit in fits.items()}
    ways = {name: figures(told) for name, told in judgements.items()}
    for name, one in ways.items():
        print(
            f"{name:<18}" + "  ".join(f"{key} {value:.3f}" for key, value in one.items() if _is_number(value))
        )
    first, learned = judgements["learned"], ways.pop("learned")
    print(learned["top1_by_wording_and_length"])
    shuffled = [ways.pop(f"shuffled_{number}") for number in range(NUM_SHUFFLES)]
    kinds = sorted({one.kind for one in first})
    return {
        "citation_top1": _number(learned, "top1"),
        "citation_gain_over_mean": _gain(learned, ways["mean_of_heads"], "top1"),
        "citation_gain_over_mean_by_document": _gain(learned, ways["mean_of_heads"], "top1_by_document"),
        "gold_cited_gain_over_mean": _gain(learned, ways["mean_of_heads"], "gold_cited"),
        "abstains": learned["abstains"],
        "learned": learned,
        "baselines": ways,
        "control_shuffled": {
            name: float(np.mean([_number(one, name) for one in shuffled]))
            for name in ("top1", "top1_by_document", "gold_cited")
        },
        "num_prompts": len(answers),
        "num_prompts_by_kind": {kind: sum(one.kind == kind for one in first) for kind in kinds},
        "right_answers": share([one for one in first if one.gold is not None], lambda one: one.is_right),
        "num_sources_mean": float(np.mean([len(citable_parts(one.reading.segments)) for one in answers])),
        "min_score": fits["learned"].min_score,
        "num_heads_with_weight": len(fits["learned"].heads),
        "fitted_on": described,
    }


def _number(way: Mapping[str, object], name: str) -> float:
    value = way[name]
    assert isinstance(value, float)
    return value


def _gain(way: Mapping[str, object], over: Mapping[str, object], name: str) -> float:
    return _number(way, name) - _number(over, name)


def _is_number(value: object) -> bool:
    return isinstance(value, float)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write results/insight_citations.json")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the model is, or is to be kept")
    parser.add_argument("--rehearse", action="store_true", help="judge prompts that are not held out")
    options = parser.parse_args(arguments)
    seeds = REHEARSED if options.rehearse else HELD_OUT_SEEDS[:NUM_JUDGED]
    with tempfile.TemporaryDirectory() as scratch:
        metrics = measured((options.keep or Path(scratch)) / NAME, seeds)
    if options.write and not options.rehearse:
        print(write_result("insight_citations", metrics, COMMAND))


if __name__ == "__main__":
    main(sys.argv[1:])
