"""Measure the auditor of citations: what it records, and how soon it tells random citations from fitted ones.

    python evals/auditor.py [--write] [--keep FOLDER]

A small model that was trained here answers questions about made-up documents, through the engine as a server
asks it, and cites under weights that were fitted on other prompts. Every document of a new prompt is then
taken away: fully, so that the whole prompt is read without it; late, so that it is hidden from what writes
the answer alone; and, as the oracle of both, in a plain pass of the checkpoint without pages or chunks.
`auditor_spearman` is the rank correlation of the late form, the cheap one, with that oracle, over all
documents of all prompts; that of the full form says whether the engine computes what it should.

The alarm is run on audits that are drawn again and again from those that were measured: of the fitted
citations, of citations drawn at random, and of trials at the very floor of what is claimed, where it may trip
in one of a hundred runs: the control.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_completer import local_completer
from cynosure.evaluate.results import write_result
from cynosure.insight import AttentionReport, HeadProfile, WatchPolicy, choice_of
from cynosure.insight.citing.attribution import AttributedAnswer
from cynosure.insight.citing.auditor import Audit, AuditorSettings, planned, runs_of
from cynosure.insight.citing.citation_fit import fit_citations
from cynosure.insight.citing.citation_weights import SECTION
from cynosure.insight.citing.citations import citable_parts
from cynosure.insight.citing.cited import Cited, cited_in, most_attended, token_span
from cynosure.insight.citing.held_test import HeldAlarm
from cynosure.insight.rank_correlation import rank_correlation
from cynosure.insight.sentences import sentence_spans
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.probe import DecoderProbe
from cynosure.server.answers.attention import AttentionPlan
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.attended.attending import attending
from cynosure.server.attended.attention_audits import AttentionAudits, log_prob
from cynosure.server.schemas.chat import ChatRequest
from cynosure.server.services import Services
from cynosure.server.visit import Visit
from cynosure.train.planted_documents import (
    FITTING_SEEDS,
    HELD_OUT_SEEDS,
    VALIDATION_SEEDS,
    PlantedPrompt,
    prompts,
)
from cynosure.train.planted_documents_model import PlantedRecipe, train_planted_documents

COMMAND = "python evals/auditor.py --write"
NAME = "planted-documents"
NUM_LEARNED, NUM_CALIBRATED, NUM_JUDGED, NUM_TOGETHER = 300, 300, 400, 32
SETTINGS = AuditorSettings(share=1.0)
#: Audits of each answer that runs of the alarm are drawn from.
NUM_DRAWS = 24
NUM_RUNS, NUM_STATIONARY, NUM_AT_FLOOR, NUM_GOOD = 100, 10_000, 2_000, 2_000

#: By how many nats an answer is less likely without each document.
Drops = Mapping[int, float]


@dataclass(frozen=True, eq=False)
class Measured:
    """An answer of one sentence, its citation, if any, and what each document takes with it."""

    report: AttentionReport
    span: tuple[int, int]
    cited: tuple[Cited, ...]
    full: Drops
    late: Drops
    oracle: Drops

    def audit(self, cited: Sequence[Cited], dice: random.Random, *, is_late: bool) -> Audit | None:
        """One audit, as the auditor draws it."""
        case, drops = planned(self.report, cited, dice), self.late if is_late else self.full
        return None if case is None else Audit(case, drops[case.cited], drops[case.other])

    def at_random(self, dice: random.Random) -> list[Cited]:
        """A citation of any document."""
        parts = list(self.full)
        part = parts.pop(dice.randrange(len(parts)))
        return [Cited(*self.span, part, 0.0, tuple((other, 0.0) for other in parts))]


class Keeper:
    """Keeps the reports that it is told."""

    def __init__(self) -> None:
        """Begin with none."""
        self.reports: dict[str, AttentionReport] = {}

    def told(self, report: AttentionReport) -> None:
        """Keep it."""
        self.reports[report.request_id] = report


class Served:
    """The model, as it is served and as it is probed."""

    def __init__(self, folder: Path) -> None:
        """Load a folder, and start its engine."""
        model = load(folder, dtype="float32")
        assert isinstance(model.graph, Decoder)
        self.probe = DecoderProbe(model.graph)
        # The engine replaces layers by its kernels: the probe computes with a copy.
        self.completer: EngineCompleter = local_completer(NAME, load(folder, dtype="float32"))

    @property
    def services(self) -> Services:
        """What a server would answer with."""
        return Services({}, {}, {NAME: self.completer}, 0)

    def reports(self, asked: Sequence[PlantedPrompt]) -> list[AttentionReport]:
        """What the model writes, and attends to, for each prompt."""
        keeper = Keeper()
        services = replace(self.services, report_sinks=(keeper,))
        slots = asyncio.Semaphore(NUM_TOGETHER)

        async def answer(number: int, prompt: PlantedPrompt) -> None:
            visit = Visit(str(number), 0.0)
            visit.admit("eval", is_admin=False)
            model = attending(services, visit, "/v1/chat/completions").completers[NAME]
            body = ChatRequest.model_validate(
                {"model": NAME, "messages": prompt.messages, "temperature": 0, "max_tokens": 32,
                 "attention": {"level": "summary"}}
            )  # fmt: skip
            assert model.chat is not None
            built = model.chat.prompt(body.turns)
            segments = chat_segments(built, body.segment_names)
            plan = AttentionPlan(model, body.attention, lambda: segments)
            generation = plan.applied(body.asked(built.token_ids, body.sampling(32)))
            async with slots, aclosing(model.complete(generation, "eval")) as coming:
                async for together in coming:
                    for _ in together:
                        pass

        async def answer_all() -> None:
            await asyncio.gather(*(answer(number, prompt) for number, prompt in enumerate(asked)))

        asyncio.run(answer_all())
        return [keeper.reports[str(number)] for number in range(len(asked))]

    def fit(self) -> None:
        """Learn to cite from prompts of their own, and watch the heads that tell."""
        learned = list(map(attributed, self.reports(list(prompts(FITTING_SEEDS[:NUM_LEARNED])))))
        calibrated = list(map(attributed, self.reports(list(prompts(VALIDATION_SEEDS[:NUM_CALIBRATED])))))
        weights = fit_citations(self.probe, learned, calibrated, "planted documents")
        profile = HeadProfile("", NAME, self.probe.num_heads, {}, {SECTION: weights.as_json()})
        self.completer.watching = WatchPolicy(choice_of(profile), profile=profile)

    def measure(self, reports: Sequence[AttentionReport]) -> list[Measured]:
        """Take every document of every answer away, in all three ways."""
        return [found for report in reports if (found := asyncio.run(self._measured(report))) is not None]

    async def _measured(self, report: AttentionReport) -> Measured | None:
        spans = sentence_spans(report.text)
        span = token_span(report, spans[0]) if len(spans) == 1 else None
        if span is None:
            return None
        parts = citable_parts(report.reading.segments)
        whole = await log_prob(self.completer, report, span)

        async def drops(*, is_late: bool) -> Drops:
            return {
                part: whole - await log_prob(self.completer, report, span, part, is_late=is_late)
                for part in parts
            }

        first = len(report.prompt_ids) + span[0]
        text = [*report.prompt_ids, *(token.token_id for token in report.tokens[: span[1]])]
        open_sum = self.probe.log_probs(text, first).sum()

        def oracle_of(part: int) -> float:
            denied = self.probe.log_probs(text, first, denied=runs_of(report.reading.segments, part))
            return float(open_sum - denied.sum())

        oracle = {part: oracle_of(part) for part in parts}
        late = await drops(is_late=True)
        return Measured(report, span, tuple(cited_in(report)), await drops(is_late=False), late, oracle)

    def audited(self, measured: Sequence[Measured]) -> dict[str, object]:
        """What the server's own auditor tells of the same answers."""
        audits = AttentionAudits(lambda: self.services, SETTINGS)

        async def run() -> None:
            for one in measured:
                audits.told(one.report)
                await audits.settle()

        asyncio.run(run())
        told = audits.summary(NAME)
        assert told is not None, "nothing was audited"
        return {**vars(told), "skipped": dict(audits.skipped)}


def attributed(report: AttentionReport) -> AttributedAnswer:
    """An answer as a fit of citations takes it."""
    first, segments = len(report.prompt_ids), report.reading.segments
    spans = [token_span(report, span) for span in sentence_spans(report.text)]
    return AttributedAnswer(
        (*report.prompt_ids, *(token.token_id for token in report.tokens)),
        first,
        tuple((first + span[0], first + span[1]) for span in spans if span is not None),
        tuple(run for part in citable_parts(segments) for run in runs_of(segments, part)),
    )


def spearmans(measured: Sequence[Measured]) -> dict[str, object]:
    """Rank correlations with the oracle, over all documents together, and by answer on average."""
    numbers: dict[str, Callable[[Measured, int], float]] = {
        "full": lambda one, part: one.full[part],
        "late": lambda one, part: one.late[part],
        "score": lambda one, part: scores_of(one).get(part, 0.0),
        "mean_attention": lambda one, part: dict(by_attention(one))[part],
    }
    told: dict[str, object] = {}
    for name, number in numbers.items():
        pairs = [(number(one, part), drop) for one in measured for part, drop in one.oracle.items()]
        told[f"{name}_spearman"] = correlation(pairs)
        by_answer = [
            correlation([(number(one, part), one.oracle[part]) for part in one.oracle]) for one in measured
        ]
        known = [value for value in by_answer if value is not None]
        told[f"{name}_spearman_by_answer"] = statistics.mean(known)
    return told


def correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's, of pairs."""
    return rank_correlation([left for left, _ in pairs], [right for _, right in pairs])


def scores_of(one: Measured) -> dict[int, float]:
    """What the citation's weights say of each document; nothing where none is cited."""
    return {cited.part: cited.score for cited in one.cited} | dict(
        pair for cited in one.cited for pair in cited.uncited
    )


def by_attention(one: Measured) -> list[tuple[int, float]]:
    """The mean share of each document."""
    (cited,) = most_attended(one.report)
    return [(cited.part, cited.score), *cited.uncited]


def outcomes(
    measured: Sequence[Measured],
    cite: Callable[[Measured, random.Random], Sequence[Cited]],
    *,
    is_late: bool = False,
) -> list[list[bool]]:
    """Whether citations held, some audits of each answer."""
    dice, found = random.Random(1), []
    for one in measured:
        audits = [one.audit(cite(one, dice), dice, is_late=is_late) for _ in range(NUM_DRAWS)]
        held = [audit.is_held for audit in audits if audit is not None]
        if held:
            found.append(held)
    return found


def share_of(found: Sequence[Sequence[bool]]) -> float:
    """How many held, each answer counted once."""
    return statistics.mean(statistics.mean(held) for held in found)


def held_by(cited: Sequence[Measured], *, is_late: bool) -> dict[str, object]:
    """The share of audits in which citations held, by what cites."""
    attributions: dict[str, Callable[[Measured, random.Random], Sequence[Cited]]] = {
        "fitted": lambda one, dice: one.cited,
        "most_attended": lambda one, dice: most_attended(one.report),
        "random": lambda one, dice: one.at_random(dice),
    }
    return {name: share_of(outcomes(cited, cite, is_late=is_late)) for name, cite in attributions.items()}


def trips_at(
    draw: Callable[[random.Random], bool], limit: int, seed: int, alarm: HeldAlarm | None = None
) -> int | None:
    """After how many audits the alarm trips; None where it does not."""
    dice, alarm = random.Random(seed), alarm or HeldAlarm(SETTINGS.floor, SETTINGS.alpha)
    for number in range(1, limit + 1):
        if alarm.add(is_held=draw(dice)):
            return number
    return None


def alarms(faithful: Sequence[Sequence[bool]], at_random: Sequence[Sequence[bool]]) -> dict[str, object]:
    """How soon the alarm trips, and how often falsely."""

    def drawn(found: Sequence[Sequence[bool]]) -> Callable[[random.Random], bool]:
        return lambda dice: dice.choice(dice.choice(found))

    soon = [trips_at(drawn(at_random), 1_000, seed) or 1_000 for seed in range(NUM_RUNS)]
    false = [trips_at(drawn(faithful), NUM_STATIONARY, seed) for seed in range(NUM_RUNS)]
    at_floor = [
        trips_at(lambda dice: dice.random() < SETTINGS.floor, NUM_AT_FLOOR, seed) for seed in range(NUM_RUNS)
    ]
    later = []
    for seed in range(NUM_RUNS):
        alarm = HeldAlarm(SETTINGS.floor, SETTINGS.alpha)
        trips_at(drawn(faithful), NUM_GOOD, seed, alarm)
        later.append(trips_at(drawn(at_random), 1_000, seed + 1_000, alarm) or 1_000)
    return {
        "alarm_audits_max": max(soon),
        "alarm_audits_median": statistics.median(soon),
        "alarm_audits_max_after_faithful": max(later),
        "alarm_audits_median_after_faithful": statistics.median(later),
        "num_faithful_before": NUM_GOOD,
        "false_alarms": sum(trip is not None for trip in false),
        "num_runs": NUM_RUNS,
        "num_audits_of_a_run": NUM_STATIONARY,
        "control_floor_alarms": sum(trip is not None for trip in at_floor),
        "num_audits_of_a_control": NUM_AT_FLOOR,
    }


def judge(folder: Path) -> dict[str, object]:
    """All figures of one model."""
    served = Served(folder)
    served.fit()
    measured = served.measure(served.reports(list(prompts(HELD_OUT_SEEDS[:NUM_JUDGED]))))
    cited = [one for one in measured if one.cited]
    faithful = outcomes(cited, lambda one, dice: one.cited)
    at_random = outcomes(cited, lambda one, dice: one.at_random(dice))
    told = {"all": spearmans(measured), "where_cited": spearmans(cited)}
    error = max(abs(one.full[part] - one.oracle[part]) for one in measured for part in one.oracle)
    return {
        "auditor_spearman": told["all"]["late_spearman"],
        "auditor_spearman_full": told["all"]["full_spearman"],
        "spearman": told,
        "full_max_error_nats": error,
        "held": held_by(cited, is_late=False),
        "held_late": held_by(cited, is_late=True),
        "drop_of_cited_nats": statistics.mean(one.full[one.cited[0].part] for one in cited),
        "drop_of_cited_late_nats": statistics.mean(one.late[one.cited[0].part] for one in cited),
        **alarms(faithful, at_random),
        "floor": SETTINGS.floor,
        "alpha": SETTINGS.alpha,
        "server": served.audited(measured),
        "num_answers": len(measured),
        "num_cited": len(cited),
        "num_documents": sum(len(one.oracle) for one in measured),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the trained model lies, or is to")
    parser.add_argument("--write", action="store_true", help="write results/insight_auditor.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)) / NAME
        if not folder.exists():
            train_planted_documents(PlantedRecipe(), folder)
        metrics = judge(folder)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    if options.write:
        write_result("insight_auditor", metrics, COMMAND)
    return 0


if __name__ == "__main__":
    sys.exit(main())
