"""Freeze what a model attended to, break its service, and count the requests until somebody says so.

    python -m evals.drift [--write] [--keep FOLDER]

The planted model answers through the server's path: templates, engine, reports (`evals/drift_world.py`). Its
reference is made of answers to prompts that fits may use; everything that is reported is of held-out prompts.

- A stationary stream has 10,000 answers, drawn with replacement from 2,000 real ones, without any fault.
- A shifted one has 200 of these, then answers of a service with one fault: another template, a document lost
  of each prompt, keys and values in int8, or one head silent (the one that matters most, and the least).
- Frozen prompts (sentinels) are asked in turn, one after 25 answers, and their false alarms are counted while
  other requests run beside them.

Beside our alarm stands what is often used: PSI of at least 0.25 over 200 answers, ADWIN by feature, and our
own rule over the length of answers and their log-probability alone, which needs no attention.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cynosure.evaluate.results import write_result
from cynosure.insight.drift.drift_adwin import Adwin
from cynosure.insight.drift.drift_distance import psi
from cynosure.insight.drift.drift_features import FEATURES
from cynosure.insight.drift.drift_monitor import WINDOW
from cynosure.insight.drift.drift_reference import MIN_STRATUM, DriftReference, freeze
from cynosure.insight.drift.drift_rule import NUM_STATIONARY, Cusum, course, limit_of
from cynosure.insight.drift.drift_scale import DriftScale
from cynosure.insight.drift.drift_sentinel import FrozenSentinel, SentinelAnswer, SentinelWatch
from cynosure.server.attended.sentinels import EVERY
from cynosure.train.planted_documents import FITTING_SEEDS, HELD_OUT_SEEDS, VALIDATION_SEEDS
from cynosure.train.planted_documents_model import PlantedRecipe, train_planted_documents
from evals.drift_world import (
    OTHER_TEMPLATE_START,
    Answered,
    Fault,
    answered,
    important_head,
    sentinel_answers,
)

NUM_REFERENCE, NUM_STATIONARY_REAL, NUM_SHIFTED, NUM_SENTINELS = 2000, 2000, 600, 8
NUM_STREAMS, NUM_ADWIN_STREAMS, NUM_REPEATS = 100, 5, 40
#: The held-out prompts before were looked at while features were chosen.
FIRST_HELD_OUT = 20_000
#: Features that need no attention.
COUNTED = ("documents", "prompt_tokens", "answer_tokens")
#: Answers before a shift, and after it at most; within how many it is to be found.
CALM, AFTER, BAR = 200, 600, 200
PSI_BAR, LOOK_EVERY = 0.25, 25

#: When an alarm comes in a stream of rows, their lengths and log-probabilities; None where none does.
Rule = Callable[[Sequence[Answered]], int | None]


@dataclass(frozen=True)
class Evidence:
    """What was answered: without a fault, and with each."""

    reference: list[Answered]
    stationary: list[Answered]
    shifted: Mapping[str, list[Answered]]


def arrays(answers: Sequence[Answered]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of features, and lengths of prompts."""
    rows = np.array([one.row.values for one in answers])
    return rows, np.array([one.row.num_prompt_tokens for one in answers])


def first_over(values: np.ndarray, limit: float) -> int | None:
    """The place of the first value at a limit."""
    over = values >= limit
    return int(over.argmax()) if over.any() else None


def by_features(reference: DriftReference) -> Rule:
    """Our alarm, without sentinels."""
    return lambda answers: first_over(course(reference.scale.scores(*arrays(answers))), reference.limit)


def by_attention(answers: Sequence[Answered]) -> Rule:
    """The same rule without what is counted: lengths, and documents."""

    def rows(some: Sequence[Answered]) -> tuple[np.ndarray, np.ndarray]:
        values, lengths = arrays(some)
        return values[:, [at for at, one in enumerate(FEATURES) if one.name not in COUNTED]], lengths

    scale = DriftScale.fit(*rows(answers), MIN_STRATUM)
    limit = limit_of(*rows(answers), MIN_STRATUM)
    return lambda some: first_over(course(scale.scores(*rows(some))), limit)


def first_chart(reference: DriftReference, answers: Sequence[Answered]) -> str:
    """What our alarm says has moved."""
    cusum = Cusum(len(reference.chart_names), reference.limit)
    for row in reference.scale.scores(*arrays(answers)):
        if cusum.add(row):
            return reference.chart_names[cusum.worst(len(FEATURES))[0]]
    return "none"


def by_length_and_likelihood(answers: Sequence[Answered]) -> Rule:
    """The same rule over two numbers that every server has."""

    def rows(some: Sequence[Answered]) -> tuple[np.ndarray, np.ndarray]:
        told = [(np.log2(one.num_tokens), one.mean_logprob) for one in some]
        return np.array(told), arrays(some)[1]

    scale = DriftScale.fit(*rows(answers), MIN_STRATUM)
    limit = limit_of(*rows(answers), MIN_STRATUM)
    return lambda some: first_over(course(scale.scores(*rows(some))), limit)


def by_psi(reference: DriftReference) -> Rule:
    """Any feature's PSI over the last answers, looked at now and then."""

    def rule(answers: Sequence[Answered]) -> int | None:
        standard = reference.scale.standard(*arrays(answers))
        for end in range(WINDOW, len(answers) + 1, LOOK_EVERY):
            window = standard[end - WINDOW : end].T
            if any(psi(one, kept) >= PSI_BAR for one, kept in zip(window, reference.pooled, strict=True)):
                return end - 1
        return None

    return rule


def by_adwin(reference: DriftReference) -> Rule:
    """Any feature's mean, by ADWIN as river has it."""

    def rule(answers: Sequence[Answered]) -> int | None:
        scores = reference.scale.scores(*arrays(answers))[:, : len(FEATURES)]
        detectors = [Adwin() for _ in FEATURES]
        for at, row in enumerate(scores):
            if any(one.changed(float(score)) for one, score in zip(detectors, row, strict=True)):
                return at
        return None

    return rule


def false_alarms(rule: Rule, stationary: Sequence[Answered], num_streams: int) -> float:
    """Alarms in 10,000 stationary answers, on average; after one, the rule begins anew."""
    dice, num_alarms = random.Random(1), 0
    for _ in range(num_streams):
        stream = dice.choices(stationary, k=NUM_STATIONARY)
        while stream and (at := rule(stream)) is not None:
            num_alarms += 1
            stream = stream[at + 1 :]
    return num_alarms / num_streams


def delays(rule: Rule, evidence: Evidence, shift: str) -> list[int | None]:
    """Answers from a shift to its alarm, in streams that were calm before; one before it counts as none."""
    found: list[int | None] = []
    for repeat in range(NUM_REPEATS):
        dice = random.Random(repeat)
        calm = dice.choices(evidence.stationary, k=CALM)
        at = rule([*calm, *dice.choices(evidence.shifted[shift], k=AFTER)])
        found.append(None if at is None or at < CALM else at - CALM + 1)
    return found


def sentinel_delays(frozen: Sequence[FrozenSentinel], now: Sequence[SentinelAnswer]) -> list[int | None]:
    """The same of sentinels, by which of them is next and how long ago one was asked."""
    found: list[int | None] = []
    for repeat in range(NUM_REPEATS):
        dice, watch = random.Random(repeat), SentinelWatch(frozen)
        place, at = dice.randrange(len(frozen)), dice.randrange(EVERY) + 1
        while at <= AFTER and not watch.is_moved:
            watch.add(place % len(frozen), now[place % len(frozen)])
            place += 1
            # One that differs is confirmed by the next at once.
            at += 0 if watch.is_moved or watch.is_in_doubt else EVERY
        found.append(at if watch.is_moved else None)
    return found


def told(found: Sequence[int | None]) -> dict[str, object]:
    """Median and maximum where all were found, and the share that was within the bar."""
    within = sum(one is not None and one <= BAR for one in found) / len(found)
    known = [one for one in found if one is not None]
    is_all = len(known) == len(found)
    return {
        "median": statistics.median(known) if len(known) > len(found) / 2 else None,
        "max": max(known) if is_all else None,
        "found_within_200": within,
    }


def earliest(first: Sequence[int | None], second: Sequence[int | None]) -> list[int | None]:
    """Whichever of two alarms came first, repeat by repeat."""
    pairs = zip(first, second, strict=True)
    return [min((one for one in pair if one is not None), default=None) for pair in pairs]


def planted(folder: Path) -> Path:
    """The planted model in a folder; it is trained where it is not there."""
    if not folder.exists():
        train_planted_documents(PlantedRecipe(), folder)
    return folder


def collect(folder: Path, faults: Mapping[str, Fault]) -> Evidence:
    """Have everything answered."""
    seeds = HELD_OUT_SEEDS[FIRST_HELD_OUT:]
    stationary = answered(folder, seeds[:NUM_STATIONARY_REAL])
    shifted = {}
    for number, (name, fault) in enumerate(faults.items()):
        start = NUM_STATIONARY_REAL + number * NUM_SHIFTED
        shifted[name] = answered(folder, seeds[start : start + NUM_SHIFTED], fault)
        print(f"answered: {name}", flush=True)
    return Evidence(answered(folder, FITTING_SEEDS[:NUM_REFERENCE]), stationary, shifted)


def measure(folder: Path) -> dict[str, object]:
    """Everything."""
    most, least = important_head(folder, VALIDATION_SEEDS[:20])
    print(f"heads: {most} matters most, {least} least")
    faults = {
        "other_template": Fault(template=OTHER_TEMPLATE_START),
        "document_dropped": Fault(drops_document=True),
        "int8_kv_cache": Fault(kv_cache_dtype="int8"),
        "head_ablated": Fault(without=(most,)),
        "least_head_ablated": Fault(without=(least,)),
    }
    evidence = collect(folder, faults)
    reference = freeze("planted", "heads", [one.row for one in evidence.reference], 0.0)
    asked = VALIDATION_SEEDS[100 : 100 + NUM_SENTINELS]
    first, second = sentinel_answers(folder, asked), sentinel_answers(folder, asked)
    frozen = [
        FrozenSentinel.of(f"line {at}", *pair) for at, pair in enumerate(zip(first, second, strict=True))
    ]
    rules = {
        "psi": by_psi(reference),
        "adwin": by_adwin(reference),
        "length_and_logprob": by_length_and_likelihood(evidence.reference),
    }
    ours, attention = by_features(reference), by_attention(evidence.reference)
    detected: dict[str, dict[str, object]] = {}
    baselines: dict[str, dict[str, object]] = {name: {} for name in rules}
    for shift, fault in faults.items():
        passive = delays(ours, evidence, shift)
        active = sentinel_delays(frozen, sentinel_answers(folder, asked, fault))
        detected[shift] = {
            **told(earliest(passive, active)),
            "by_features": told(passive),
            "by_attention_alone": told(delays(attention, evidence, shift)),
            "chart": first_chart(reference, evidence.shifted[shift]),
            "by_sentinels": told(active),
        }
        print(f"{shift}: {detected[shift]}", flush=True)
        for name, rule in rules.items():
            baselines[name][shift] = told(delays(rule, evidence, shift))
    streams = {"adwin": NUM_ADWIN_STREAMS}
    for name, rule in rules.items():
        count = false_alarms(rule, evidence.stationary, streams.get(name, NUM_STREAMS // 5))
        baselines[name]["false_alarms_per_10000"] = count
        print(f"{name}: {baselines[name]}", flush=True)
    per_10000 = false_alarms(ours, evidence.stationary, NUM_STREAMS)
    beside, num_moved = sentinel_false_alarms(folder, asked, frozen)
    print(f"false alarms: {per_10000} in 10,000 answers; of {beside} sentinels {num_moved} moved")
    return {
        "drift_detect_requests": detected,
        "false_alarms_per_10000": per_10000,
        "false_alarms_per_10000_attention_alone": false_alarms(
            attention, evidence.stationary, NUM_STREAMS // 5
        ),
        "sentinel_answers_beside_traffic": beside,
        "sentinel_answers_moved": num_moved,
        "held_out_in_order_alarms": int(ours(evidence.stationary) is not None),
        "baselines": baselines,
        "median_requests": medians(detected, baselines),
        "num_reference": NUM_REFERENCE,
        "num_stationary_real": NUM_STATIONARY_REAL,
        "num_streams": NUM_STREAMS,
        "num_repeats": NUM_REPEATS,
        "ablated_head": f"layer {most[0]}, head {most[1]}",
    }


def medians(
    detected: Mapping[str, Mapping[str, object]], baselines: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, object]]:
    """For each shift the median of every way to find it; `-` where most streams have no alarm."""

    def median(found: object) -> object:
        assert isinstance(found, Mapping)
        return "-" if found["median"] is None else found["median"]

    return {
        shift: {
            "alarm": median(ours),
            **{way: median(ours[way]) for way in ("by_features", "by_attention_alone", "by_sentinels")},
            **{name: median(found[shift]) for name, found in baselines.items()},
        }
        for shift, ours in detected.items()
    }


def sentinel_false_alarms(
    folder: Path, asked: Sequence[int], frozen: Sequence[FrozenSentinel]
) -> tuple[int, int]:
    """How many sentinels were answered while others were served, and how many of these differed."""
    num_rounds, watch, num_moved = 25, SentinelWatch(frozen), 0
    again = sentinel_answers(folder, list(asked) * num_rounds, beside=VALIDATION_SEEDS[200:600])
    for at, answer in enumerate(again):
        num_moved += watch.add(at % len(frozen), answer).state != "same"
    return len(again), num_moved


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the planted model is, or is put")
    parser.add_argument("--write", action="store_true", help="write results/insight_drift.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        metrics = measure(planted(options.keep or Path(scratch) / "planted-documents"))
    if options.write:
        write_result("insight_drift", metrics, "python -m evals.drift --write")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
