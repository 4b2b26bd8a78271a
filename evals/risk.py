"""Measure how well the risk of a sentence tells what documents told from what they did not.

    python -m evals.risk [--write] [--keep FOLDER]

A small model that was trained here answers questions about made-up documents, through the engine as a server
asks it. A sentence is grounded where its value stands in a document; the others were made up, remembered, or
mistaken. The risk is fitted on prompts of one wording and length, and judged on new ones of that kind (in
range), and on ones of another wording, of another length, and of both (shift).

Beside it stand two judges that look at no attention: the mean log-probability of the sentence's tokens, and a
logistic fit to the last layer's states; and one that fits nothing, the share of attention that documents got.
The control fits labels that were shuffled.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cynosure.evaluate.discrimination import auroc, calibration_error
from cynosure.evaluate.results import write_result
from cynosure.insight import AttentionReport, Reading, ReadToken, choice_of
from cynosure.insight.heads.head_probes import all_heads
from cynosure.insight.judging.risk import RISK, RiskModel, RiskReader, tokens_in
from cynosure.insight.judging.risk_fit import RiskExample, Seen, fit_seen
from cynosure.insight.logistic import fit_logistic
from cynosure.insight.probing import Head
from cynosure.insight.profile import HeadProfile
from cynosure.insight.sentences import sentence_spans
from cynosure.models.probe import DecoderProbe
from cynosure.train.planted_documents import (
    FITTING_SEEDS,
    HELD_OUT_SEEDS,
    VALIDATION_SEEDS,
    Kind,
    PlantedPrompt,
    Regime,
    prompts,
)
from cynosure.train.planted_documents_language import UNKNOWN, Family, World
from evals.planted_answers import NAME, Answered, PlantedServed

COMMAND = "python -m evals.risk --write"
NUM_FITTED, NUM_JUDGED, NUM_SHUFFLES = 2000, 2000, 20
#: Prompts on which it shows which heads retrieve.
RETRIEVED = FITTING_SEEDS[-100:]
RIDGES = (0.1, 1.0, 10.0, 100.0)
#: To how many labelled sentences the risk is fitted besides.
NUMS_LABELLED = (150, 500)
IN_RANGE, SHIFT = "in", "shift"
#: Wording and length of the prompts of each judgement; the first is also that of the fit.
WORLDS: Mapping[str, tuple[Family, Regime]] = {
    IN_RANGE: ("plain", "short"),
    SHIFT: ("record", "long"),
    "shift_wording": ("record", "short"),
    "shift_length": ("plain", "long"),
}


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence that was written, in a prompt of a kind.

    - `is_grounded`: None where it owns that it knows nothing, or says nothing.
    - `span`: its tokens among `token_ids`, prompt and answer.
    """

    kind: Kind
    is_grounded: bool | None
    token_ids: tuple[int, ...]
    span: tuple[int, int]
    reading: Reading
    tokens: tuple[ReadToken, ...]

    @property
    def example(self) -> RiskExample:
        """What a fit learns from."""
        assert self.is_grounded is not None
        return RiskExample(self.token_ids, self.reading.segments, self.span, self.is_grounded)


def sentences_of(served: PlantedServed, world: str, seeds: range, count: int) -> list[Sentence]:
    """What the model writes for so many prompts."""
    family, regime = WORLDS[world]
    drawn = prompts(seeds[:count], families=[family], regimes=[regime], num_asked=(1, 2))
    answers = served.answers(list(drawn), {"level": "summary"})
    return [sentence for answer in answers for sentence in _cut(answer)]


def _cut(answer: Answered) -> Iterator[Sentence]:
    token_ids = (*answer.prompt_ids, *(token.token_id for token in answer.tokens))
    # A sentence for each question, where the model keeps to what it learned.
    for (start, end), asked in zip(sentence_spans(answer.text), answer.prompt.asked, strict=False):
        own = tokens_in((start, end), answer.tokens)
        place = next(place for place, token in enumerate(answer.tokens) if token is own[0])
        first = len(answer.prompt_ids) + place
        is_grounded = told_by_documents(answer.text[start:end], answer.prompt)
        span = (first, first + len(own))
        yield Sentence(asked.kind, is_grounded, token_ids, span, answer.reading, tuple(own))


def told_by_documents(sentence: str, prompt: PlantedPrompt) -> bool | None:
    """Whether the value that a sentence names stands in a document; None where it names none."""
    words, values = sentence.split(), set(World.drawn().values)
    value = " ".join(word for word in words if word in values)
    if UNKNOWN in words or not value:
        return None
    return any(f" {value} " in f" {text} " for _, text in prompt.documents)


@dataclass(frozen=True, eq=False)
class Judged:
    """Numbers of each sentence that is grounded or not; the higher, the less grounded each judge finds it."""

    is_made_up: list[bool]
    risk: list[float]
    is_known: list[bool]
    log_prob: list[float]
    hidden: list[float]
    lookback: list[float]
    features: dict[str, list[float]]

    def told(self) -> dict[str, object]:
        """Areas and errors, of all sentences and of those whose risk is known."""
        known = [place for place, one in enumerate(self.is_known) if one]
        both_kinds = {self.is_made_up[place] for place in known} == {True, False}
        return {
            "num_sentences": len(self.is_made_up),
            "num_ungrounded": sum(self.is_made_up),
            "risk_auroc": auroc(self.risk, self.is_made_up),
            "risk_ece": calibration_error(self.risk, self.is_made_up),
            "unknown_share": 1 - len(known) / len(self.is_known),
            "risk_auroc_known": auroc(_at(self.risk, known), _at(self.is_made_up, known))
            if both_kinds
            else None,
            "risk_ece_known": calibration_error(_at(self.risk, known), _at(self.is_made_up, known))
            if known
            else None,
            "logprob_auroc": auroc(self.log_prob, self.is_made_up),
            "hidden_auroc": auroc(self.hidden, self.is_made_up),
            "mean_lookback_auroc": auroc(self.lookback, self.is_made_up),
            # A feature that falls where sentences are made up tells as much as one that rises.
            "feature_auroc": {
                name: max(area := auroc(values, self.is_made_up), 1 - area)
                for name, values in self.features.items()
            },
        }


def _at(values: Sequence, places: Sequence[int]) -> list:
    return [values[place] for place in places]


class HiddenJudge:
    """A logistic fit to the mean of the states that chose a sentence's tokens."""

    def __init__(self, probe: DecoderProbe, fitting: Sequence[Sentence]) -> None:
        self._probe = probe
        x, is_made_up = self._states(fitting), np.array([not one.is_grounded for one in fitting])
        parts = np.random.default_rng(0).permutation(len(x)) % 5

        def score(ridge: float) -> float:
            logits = np.zeros(len(x))
            for part in range(5):
                fit = fit_logistic(x[parts != part], is_made_up[parts != part], ridge)
                logits[parts == part] = fit.logits(x[parts == part])
            return auroc(logits.tolist(), is_made_up.tolist())

        self._fit = fit_logistic(x, is_made_up, max(RIDGES, key=score))

    def scores(self, sentences: Sequence[Sentence]) -> list[float]:
        """Log-odds of sentences that are not grounded."""
        return self._fit.logits(self._states(sentences)).tolist()

    def _states(self, sentences: Sequence[Sentence]) -> np.ndarray:
        means = []
        for one in sentences:
            start, end = one.span
            means.append(self._probe.hidden(one.token_ids[: end - 1])[start - 1 :].mean(axis=0))
        return np.stack(means).astype(float)


def judged(
    probe: DecoderProbe, risk: RiskModel, hidden: HiddenJudge, sentences: Sequence[Sentence]
) -> Judged:
    """What all judges find."""
    found, is_known = [], []
    for one in sentences:
        reader = RiskReader(risk, one.reading)
        features = reader.features(one.tokens)
        assert not isinstance(features, str), features
        found.append(features)
        is_known.append(reader.doubt(features) is None)
    return Judged(
        is_made_up=[not one.is_grounded for one in sentences],
        risk=[risk.risk_of(features) for features in found],
        is_known=is_known,
        log_prob=[
            -float(probe.log_probs(one.token_ids[: one.span[1]], one.span[0]).mean()) for one in sentences
        ],
        hidden=hidden.scores(sentences),
        lookback=[-_given(one) for one in sentences],
        features=dict(zip(risk.features, np.stack(found, axis=1).tolist(), strict=True)),
    )


def _given(sentence: Sentence) -> float:
    """What documents got, of all watched heads on average."""
    report = AttentionReport("", 0, "", "", "", 0.0, sentence.reading, (), sentence.tokens, None)
    return report.mass_by_role["document"]


def shuffled_control(
    fitting: Sequence[Seen],
    labels: np.ndarray,
    new: Sequence[Seen],
    is_made_up: Sequence[bool],
    heads: Sequence[Head],
) -> dict[str, object]:
    """The same fit to shuffled labels, many times: on average it tells nothing."""
    dice, areas = np.random.default_rng(0), []
    for _ in range(NUM_SHUFFLES):
        risk = fit_seen(fitting, dice.permutation(labels), heads, {})
        areas.append(auroc([risk.risk_of(one.features(risk, heads)) for one in new], is_made_up))
    return {
        "auroc_mean": float(np.mean(areas)),
        "auroc_spread": float(np.std(areas)),
        "num_fits": NUM_SHUFFLES,
    }


def measured(folder: Path, seeds: range) -> dict[str, object]:
    """Fit, judge on prompts of these seeds, and say what was found."""
    served = PlantedServed.of(folder)
    heads = all_heads(served.probe.num_heads)
    fitting = [
        one
        for one in sentences_of(served, IN_RANGE, FITTING_SEEDS, NUM_FITTED)
        if one.is_grounded is not None
    ]
    retrieval = served.retrieving_heads(RETRIEVED)
    seen = [Seen.of(served.probe, one.example) for one in fitting]
    labels = np.array([one.is_grounded for one in fitting], bool)
    wording, length = WORLDS[IN_RANGE]
    described = {"prompts": f"planted documents, {wording}, {length}"}
    risk = fit_seen(seen, labels, heads, described, retrieval=retrieval)
    print(f"retrieval heads {retrieval}; {risk}")
    kinds = {"kinds": {"retrieval": {"confirmed": True, "heads": [list(head) for head in retrieval]}}}
    profile = HeadProfile("planted", NAME, served.probe.num_heads, {}, kinds if retrieval else {})
    profile = profile.with_section(RISK, risk.as_json())
    choice = choice_of(profile)
    assert choice is not None, "the risk has heads"
    served.watch(choice, profile)
    hidden = HiddenJudge(served.probe, fitting)
    told: dict[str, dict[str, object]] = {}
    new: dict[str, list[Seen]] = {}
    is_made_up: dict[str, list[bool]] = {}
    for world in WORLDS:
        sentences = sentences_of(served, world, seeds, NUM_JUDGED)
        claims = [one for one in sentences if one.is_grounded is not None]
        found = judged(served.probe, risk, hidden, claims)
        told[world] = found.told() | {"kinds": dict(Counter(_kind(one) for one in sentences))}
        print(world, told[world], flush=True)
        new[world] = [Seen.of(served.probe, one.example) for one in claims]
        if world == IN_RANGE:
            probed = [risk.risk_of(one.features(risk, heads)) for one in new[world]]
            told[world]["largest_difference_of_engine_and_probe"] = float(
                np.abs(np.array(probed) - np.array(found.risk)).max()
            )
            told[world]["mean_risk_of_unknown_answers"] = _mean_risk(risk, sentences)
        is_made_up[world] = found.is_made_up
    worlds = (IN_RANGE, SHIFT)
    few = {
        f"{count}": {
            world: _judged_by_few(seen[:count], labels[:count], new[world], is_made_up[world], heads)
            for world in worlds
        }
        for count in NUMS_LABELLED
    }
    control = shuffled_control(seen, labels, new[IN_RANGE], is_made_up[IN_RANGE], heads)
    served.completer.close()
    return summary(told) | {
        "num_fitted": len(fitting),
        "num_retrieval_heads": len(retrieval),
        "control_shuffled": control,
        "by_num_labelled": few,
        "worlds": told,
    }


def _judged_by_few(
    seen: Sequence[Seen],
    labels: np.ndarray,
    new: Sequence[Seen],
    is_made_up: Sequence[bool],
    heads: Sequence[Head],
) -> dict[str, object]:
    """What a fit to so few sentences is worth, without heads that were found to retrieve."""
    risk = fit_seen(seen, labels, heads, {})
    chances = [risk.risk_of(one.features(risk, heads)) for one in new]
    return {"auroc": auroc(chances, is_made_up), "ece": calibration_error(chances, is_made_up)}


def _kind(sentence: Sentence) -> str:
    words = {True: "grounded", False: "not grounded", None: "says unknown"}
    return f"{sentence.kind} {words[sentence.is_grounded]}"


def _mean_risk(risk: RiskModel, sentences: Sequence[Sentence]) -> float | None:
    """The mean risk of sentences that own that they do not know."""
    unknown = [one for one in sentences if one.is_grounded is None]
    features = [RiskReader(risk, one.reading).features(one.tokens) for one in unknown]
    risks = [risk.risk_of(one) for one in features if not isinstance(one, str)]
    return float(np.mean(risks)) if risks else None


def summary(told: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """What is claimed, and the baselines beside it."""
    short: dict[str, object] = {"risk_ece": told[IN_RANGE]["risk_ece_known"]}
    for world in (IN_RANGE, SHIFT):
        for judge in ("risk", "logprob", "hidden", "mean_lookback"):
            short[f"{judge}_auroc_{world}"] = told[world][f"{judge}_auroc"]
        short[f"risk_auroc_{world}_known"] = told[world]["risk_auroc_known"]
        short[f"unknown_share_{world}"] = told[world]["unknown_share"]
    return short


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--keep", type=Path, help="a folder for the trained model, used again where it is there"
    )
    parser.add_argument("--write", action="store_true", help="write results/insight_risk.json")
    parser.add_argument(
        "--validation", action="store_true", help="judge on validation prompts, to choose by; writes nothing"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)) / NAME
        metrics = measured(folder, VALIDATION_SEEDS if options.validation else HELD_OUT_SEEDS)
    for name, value in metrics.items():
        print(f"{name:<32}{value}")
    if options.write and not options.validation:
        write_result("insight_risk", metrics, COMMAND)
    return 0


if __name__ == "__main__":
    sys.exit(main())
