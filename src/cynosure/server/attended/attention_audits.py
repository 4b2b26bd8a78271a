"""Put a share of what answers cite to the test, in the background. Knows nothing of routes or metrics.

The sentence is scored three times: with all of its prompt, without what it cites, and without another part of
like size. The engine computes that while it has nothing else to do, with the pages of the same tenant alone.
Numbers are kept of an audit, and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from contextlib import aclosing

from cynosure.core.errors import CynosureError, EngineFault
from cynosure.engine.sampling import SamplingParams
from cynosure.insight import AttentionReport, HeadChoice
from cynosure.insight.audit_summary import AuditSummary
from cynosure.insight.citing.audit_record import AuditRecord
from cynosure.insight.citing.auditor import Audit, AuditorSettings, planned, runs_of, with_denied
from cynosure.insight.citing.cited import cited_in
from cynosure.observe.audit_metrics import AuditNumbers, AuditState
from cynosure.server.answers.attention import default_choice
from cynosure.server.services import CompletionModel, Generation, Services

#: Answers that wait to be audited; their texts are held so long.
MAX_WAITING = 8
#: How long an answer waits for a moment in which nobody is served, and for its scores.
PATIENCE_S = 30.0
_LOOK_EVERY_S = 0.05

#: Why an audit is given up: too many wait, others are served all the time, no part is alike, or it broke.
DROPPED, BUSY, UNLIKE, FAILED = REASONS = ("dropped", "busy", "unlike", "failed")

_log = logging.getLogger(__name__)


class AttentionAudits:
    """Takes reports, and audits some. Lives on the event loop of the server."""

    def __init__(self, services: Callable[[], Services | None], settings: AuditorSettings) -> None:
        """Audit with the models of `services`, once they are there."""
        self._services = services
        self._settings = settings
        self._dice = random.Random(settings.seed)
        self._waiting: deque[AttentionReport] = deque()
        self._work: asyncio.Task[None] | None = None
        self._records: dict[str, tuple[HeadChoice, AuditRecord]] = {}
        self.skipped: Counter[str] = Counter(dict[str, int].fromkeys(REASONS, 0))

    @property
    def num_dropped(self) -> int:
        """Reports that were not taken for want of room."""
        return self.skipped[DROPPED]

    def told(self, report: AttentionReport) -> None:
        """Take a share of the reports; one too many is dropped, and counted."""
        if self._dice.random() >= self._settings.share:
            return
        if len(self._waiting) == MAX_WAITING:
            self.skipped[DROPPED] += 1
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            # An answer that nobody closed is told by whoever collects garbage, on any thread.
            self.skipped[DROPPED] += 1
            return
        self._waiting.append(report)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._audit_all())

    def summary(self, model: str) -> AuditSummary | None:
        """How far the citations of a model have held; None where none was audited."""
        kept = self._records.get(model)
        return None if kept is None else kept[1].summary

    @property
    def state(self) -> AuditState:
        """The numbers of all models."""
        told = {name: self.summary(name) for name in self._records}
        numbers = {
            name: AuditNumbers(one.num, one.held, one.mean_drop_nats, one.is_alarmed)
            for name, one in told.items()
            if one is not None
        }
        return AuditState(numbers, dict(self.skipped))

    async def settle(self) -> None:
        """Wait until nothing waits."""
        if self._work is not None:
            await asyncio.wait([self._work])

    async def _audit_all(self) -> None:
        while self._waiting:
            reason = await self._audited(self._waiting.popleft())
            if reason is not None:
                self.skipped[reason] += 1

    async def _audited(self, report: AttentionReport) -> str | None:
        """Audit one answer; why not, where it is given up."""
        try:
            services = self._services()
            model = None if services is None else services.completers.get(report.model)
            if services is None or model is None or not _is_usual(report, model):
                return None
            cited = cited_in(report)
            case = planned(report, cited, self._dice)
            if case is None:
                return UNLIKE if cited else None
            async with asyncio.timeout(PATIENCE_S):
                await _idle(services)
                span, is_late = (case.first, case.end), self._settings.is_late
                whole = await log_prob(model, report, span)
                drop = whole - await log_prob(model, report, span, case.cited, is_late=is_late)
                other_drop = whole - await log_prob(model, report, span, case.other, is_late=is_late)
        except TimeoutError:
            return BUSY
        except CynosureError as error:
            _log.info("an audit of %s failed: %s", report.model, type(error).__name__)
            return FAILED
        except Exception:
            # One audit that fails must not end the later ones.
            _log.exception("an audit of %s broke", report.model)
            return FAILED
        self._count(report, Audit(case, drop, other_drop))
        return None

    def _count(self, report: AttentionReport, audit: Audit) -> None:
        choice, record = self._records.get(report.model, (None, None))
        # What another profile cites is another matter.
        if record is None or choice != report.reading.choice:
            record = AuditRecord(self._settings)
            self._records[report.model] = (report.reading.choice, record)
        if record.add(audit):
            told = record.summary
            assert told is not None, "an audit was counted"
            _log.warning(
                "citations of %s do not hold: in %.0f%% of %d audits the cited part mattered more than "
                "another; at least %.0f%% should. Make its head profile again, or cite nothing",
                report.model,
                100 * told.held,
                told.num,
                100 * self._settings.floor,
            )


async def log_prob(
    model: CompletionModel,
    report: AttentionReport,
    span: tuple[int, int],
    without: int | None = None,
    *,
    is_late: bool = False,
) -> float:
    """How likely tokens `first:end` of an answer are, in nats, where a part of its prompt is denied.

    It is denied to the whole prompt, or, where `is_late`, to what chooses those tokens alone.

    Raises:
        CynosureError: the engine can't, or won't now.
    """
    first = len(report.prompt_ids) + span[0]
    answer = tuple(token.token_id for token in report.tokens[: span[1]])
    denied = () if without is None else runs_of(report.reading.segments, without)
    asked = Generation(
        (*report.prompt_ids, *answer),
        SamplingParams(max_tokens=0, prompt_logprobs=0, prompt_logprobs_start=first),
        bias=with_denied(report.bias, denied),
        is_background=True,
        # The query before a token chooses it. What the caller weighed held for all of the prompt.
        bias_from=first - 1 if is_late and denied and not report.bias else 0,
    )
    found = list[float]()
    async with aclosing(model.complete(asked, report.tenant)) as coming:
        async for together in coming:
            for token in together:
                found += [scored.token.logprob for scored in token.prompt_logprobs]
    if len(found) != span[1] - span[0]:
        raise EngineFault(f"{len(found)} of {span[1] - span[0]} tokens were scored.")
    return sum(found)


def _is_usual(report: AttentionReport, model: CompletionModel) -> bool:
    """Whether those heads were watched that are watched where a request names none."""
    if model.watchable is None:
        return False
    return report.reading.choice == (model.watching.choice or default_choice(model.watchable))


async def _idle(services: Services) -> None:
    """Wait until no model serves anybody: all of them compute on the same cores."""
    while any(model.load.num_running + model.load.num_waiting for model in services.completers.values()):
        await asyncio.sleep(_LOOK_EVERY_S)
