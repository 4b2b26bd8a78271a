"""Citations are tested behind everybody's back: the numbers are right, and nobody is the worse for it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_completer import load_completer
from cynosure.core.errors import EngineBusy
from cynosure.insight import (
    AttentionReport,
    HeadProfile,
    PromptPart,
    PromptSegments,
    Reading,
    ReadToken,
    TokenShares,
    WatchPolicy,
    choice_of,
)
from cynosure.insight.citing.auditor import AuditorSettings, planned, runs_of
from cynosure.insight.citing.citation_weights import SECTION, CitationWeights
from cynosure.insight.citing.cited import cited_in
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.probe import DecoderProbe
from cynosure.observe.load import EngineLoad
from cynosure.server.attended import attention_audits
from cynosure.server.attended.attention_audits import (
    BUSY,
    DROPPED,
    FAILED,
    MAX_WAITING,
    UNLIKE,
    AttentionAudits,
)
from cynosure.server.records.oversight import Oversight
from cynosure.server.runtime import Report
from cynosure.server.services import Generation, Services, Tokens
from cynosure.server.stand_in import StandIn
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

ALL = AuditorSettings(share=1.0, seed=3)
CANARY = "heronsbill"
DOCUMENTS = (f"{CANARY} one", "two gulls.", "red three")
#: What has more than a third of what three documents got is cited: one at least, and never all.
WEIGHTS = CitationWeights(((0, 0), (1, 1)), (1.0, 1.0), -20 / 3, 0.0, 20.0, 0.5, 1.0, "a test")
PROFILE = HeadProfile("print", "tiny", (4, 4), {}, {SECTION: WEIGHTS.as_json()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=512)


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[EngineCompleter]:
    made = load_completer("tiny", folder, dtype="float32")
    made.watching = WatchPolicy(choice_of(PROFILE), profile=PROFILE)
    yield made
    made.close()


class Noting(StandIn):
    """Notes what is asked of a model, which may be busy or broken."""

    def __init__(self, model: EngineCompleter, *, is_busy: bool = False, is_broken: bool = False) -> None:
        super().__init__(model)
        self.asked: list[tuple[Generation, str]] = []
        self._is_busy, self._is_broken = is_busy, is_broken

    @property
    def load(self) -> EngineLoad:
        return EngineLoad(num_running=int(self._is_busy))

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        self.asked.append((asked, tenant))
        if self._is_broken:
            raise EngineBusy("it is not loaded.")
        return self._model.complete(asked, tenant)


def report_of(model: EngineCompleter, /, **changes: object) -> AttentionReport:
    """An answer of one sentence that attended to the second document most."""
    assert model.watchable is not None
    parts = [PromptPart(f"doc:{n}", f"doc:{n}", "document", text=text) for n, text in enumerate(DOCUMENTS)]
    token_ids, owners = [3], list[int | None]([None])
    for index, text in enumerate(DOCUMENTS):
        ids = model.tokenizer.encode(text).ids[:8]
        token_ids += ids
        owners += [index] * len(ids)
    token_ids, owners = [*token_ids, 5], [*owners, None]
    segments = PromptSegments.of(parts, owners, [None] * len(owners))
    shares, folds = TokenShares((0.1, 0.5, 0.2), 0.2, 0.0, 0.0, 1.0), ((0.2, 0.0, 0.1, 0.5, 0.2, 0.0),)
    tokens = tuple(
        ReadToken(40 + n, word, 2 * n, shares=shares, folds=folds)
        for n, word in enumerate(("a", " b", " c."))
    )
    choice = model.watching.choice
    assert choice is not None
    reading = Reading(segments, choice, model.watchable.num_heads, profile=PROFILE)
    made = AttentionReport("r", 0, "anna", "tiny", "/", 0.0, reading, tuple(token_ids), tokens, "stop")
    return replace(made, **changes)


def audited(
    noting: Noting | EngineCompleter, *reports: AttentionReport, settings: AuditorSettings = ALL
) -> AttentionAudits:
    audits = AttentionAudits(lambda: Services({}, {}, {"tiny": noting}, 0), settings)

    async def run() -> None:
        for report in reports:
            audits.told(report)
        await audits.settle()

    asyncio.run(run())
    return audits


def test_the_numbers_are_those_of_the_probe(folder: Path, model: EngineCompleter) -> None:
    report, dice = report_of(model), random.Random(ALL.seed)
    told = audited(model, report).summary("tiny")
    dice.random()
    case = planned(report, cited_in(report), dice)
    graph = load(folder, dtype="float32").graph
    assert isinstance(graph, Decoder)
    probe, first = DecoderProbe(graph), len(report.prompt_ids)
    text = [*report.prompt_ids, *(token.token_id for token in report.tokens)]

    def drop(part: int) -> float:
        denied = probe.log_probs(text, first, denied=runs_of(report.reading.segments, part))
        return float(probe.log_probs(text, first).sum() - denied.sum())

    assert told is not None
    assert case is not None
    assert told.mean_drop_nats == pytest.approx(drop(case.cited), abs=1e-3)
    assert drop(case.cited) != pytest.approx(drop(case.other), abs=1e-2)
    assert told.held == float(drop(case.cited) > drop(case.other) + 0.1)
    assert told.num == 1


@pytest.mark.parametrize("is_late", [False, True])
def test_what_is_asked_of_the_engine(model: EngineCompleter, is_late: bool) -> None:
    """In the background, for the tenant whose answer it is, of the sentence alone."""
    noting, report = Noting(model), report_of(model)
    audited(noting, report, settings=replace(ALL, is_late=is_late))
    first = len(report.prompt_ids)
    assert [tenant for _, tenant in noting.asked] == ["anna"] * 3
    whole, cited, other = (asked for asked, _ in noting.asked)
    assert all(asked.is_background and asked.reading is None for asked, _ in noting.asked)
    assert whole.token_ids == (*report.prompt_ids, 40, 41, 42)
    assert whole.bias == ()
    assert whole.bias_from == 0
    assert {cited.bias_from, other.bias_from} == {first - 1 if is_late else 0}
    assert all(asked.sampling.prompt_logprobs_start == first for asked, _ in noting.asked)
    assert [(start, end) for start, end, _ in cited.bias] == list(runs_of(report.reading.segments, 3))
    assert cited.bias != other.bias


def test_what_the_caller_denied_stays_denied(model: EngineCompleter) -> None:
    runs = runs_of(report_of(model).reading.segments, 2)
    bias = tuple((*run, -float("inf")) for run in runs)
    noting = Noting(model)
    audited(noting, report_of(model, bias=bias))
    whole, cited, other = (asked.bias for asked, _ in noting.asked)
    assert whole == bias
    assert set(bias) < set(cited)
    assert set(bias) < set(other)


def test_a_share_of_the_answers_is_audited(model: EngineCompleter) -> None:
    audits = AttentionAudits(lambda: None, AuditorSettings(share=0.25, seed=1))

    async def run() -> int:
        taken = 0
        for _ in range(400):
            before = len(audits._waiting)
            audits.told(report_of(model))
            taken += len(audits._waiting) > before
            audits._waiting.clear()
        return taken

    assert asyncio.run(run()) == pytest.approx(100, abs=30)


def test_while_others_are_served_nothing_is_audited(
    model: EngineCompleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_audits, "PATIENCE_S", 0.01)
    noting = Noting(model, is_busy=True)
    audits = audited(noting, report_of(model))
    assert noting.asked == []
    assert audits.skipped == {DROPPED: 0, BUSY: 1, UNLIKE: 0, FAILED: 0}
    assert audits.summary("tiny") is None


def test_what_comes_too_fast_is_dropped_and_counted(model: EngineCompleter) -> None:
    audits = audited(Noting(model), *[report_of(model)] * (MAX_WAITING + 3))
    assert audits.num_dropped == audits.skipped[DROPPED] == 3
    told = audits.summary("tiny")
    assert told is not None
    assert told.num == MAX_WAITING


def test_what_is_told_outside_of_the_server_is_dropped(model: EngineCompleter) -> None:
    audits = AttentionAudits(lambda: None, ALL)
    audits.told(report_of(model))
    assert audits.num_dropped == 1
    assert not audits._waiting


def test_an_audit_that_breaks_ends_no_other(model: EngineCompleter) -> None:
    assert audited(Noting(model, is_broken=True), *[report_of(model)] * 2).skipped[FAILED] == 2


def test_one_document_has_nothing_to_compare_with(model: EngineCompleter) -> None:
    report = report_of(model)
    parts = tuple(
        replace(part, role="user") if part.id in ("doc:0", "doc:2") else part
        for part in report.reading.segments.parts
    )
    segments = replace(report.reading.segments, parts=parts)
    audits = audited(Noting(model), replace(report, reading=replace(report.reading, segments=segments)))
    assert audits.skipped[UNLIKE] == 1


def test_answers_that_nobody_can_judge_are_left_alone(model: EngineCompleter) -> None:
    """Of a model that is gone, where a request chose the heads, and where nothing says what is cited."""
    other = replace(report_of(model).reading, choice=replace(report_of(model).reading.choice, reason="mine"))
    noting = Noting(model)
    bare = replace(report_of(model).reading, profile=None)
    reports = [report_of(model, model="gone"), *(report_of(model, reading=one) for one in (other, bare))]
    audits = audited(noting, *reports)
    assert noting.asked == []
    assert not any(audits.skipped.values())


def test_nothing_of_a_text_is_kept(model: EngineCompleter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        audits = audited(Noting(model), report_of(model))
    assert CANARY in report_of(model).reading.segments.parts[2].text or ""
    assert CANARY not in f"{vars(audits)} {[vars(record) for _, record in audits._records.values()]}"
    assert CANARY not in caplog.text
    assert not audits._waiting


def test_the_alarm_is_told_once(
    model: EngineCompleter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def same(*_: object, is_late: bool = False) -> float:
        return -1.0

    monkeypatch.setattr(attention_audits, "log_prob", same)
    audits = AttentionAudits(lambda: Services({}, {}, {"tiny": Noting(model)}, 0), ALL)

    async def run() -> None:
        for _ in range(60):
            audits.told(report_of(model))
            await audits.settle()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "citations of tiny do not hold" in caplog.text
    assert audits.state.models["tiny"].is_alarmed


def test_another_choice_of_heads_begins_anew(model: EngineCompleter) -> None:
    noting, audits = Noting(model), audited(Noting(model), report_of(model), report_of(model))
    before = audits.summary("tiny")
    assert before is not None
    assert before.num == 2
    choice = replace(report_of(model).reading.choice, reason="another profile")
    noting.watching = WatchPolicy(choice, profile=PROFILE)
    audits._services = lambda: Services({}, {}, {"tiny": noting}, 0)

    async def run() -> None:
        audits.told(report_of(model, reading=replace(report_of(model).reading, choice=choice)))
        await audits.settle()

    asyncio.run(run())
    after = audits.summary("tiny")
    assert after is not None
    assert after.num == 1


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    def read(_: Report) -> Services:
        made = load_completer("tiny", folder, dtype="float32")
        made.watching = WatchPolicy(choice_of(PROFILE), profile=PROFILE)
        return Services({}, {}, {"tiny": made}, int(time.time()))

    with serving(read, wait_s=60, oversight=Oversight(auditor=ALL)) as address:
        yield address


def test_answers_that_cite_say_how_far_that_held(url: str) -> None:
    parts = [{"type": "text", "text": text, "segment": f"doc:{n}"} for n, text in enumerate(DOCUMENTS)]
    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "Tell."}]}],
        "max_tokens": 6,
        "temperature": 0,
        "ignore_eos": True,
        "attention": {"level": "summary", "citations": {"granularity": "part", "min_score": 0}},
    }

    def ask() -> dict:
        answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["choices"][0]["attention"]

    first = ask()
    assert first["citations"]
    assert first.get("audits") is None
    deadline = time.monotonic() + 20
    while 'cynosure_attn_citation_audits_total{model_name="tiny"} 1.0' not in metrics(url):
        assert time.monotonic() < deadline, metrics(url)
        time.sleep(0.05)
    assert 'cynosure_attn_citation_drop_nats{model_name="tiny"}' in metrics(url)
    told = ask()["audits"]
    assert told["num"] >= 1
    assert 0 <= told["held"] <= 1
    assert set(told) == {"num", "held", "mean_drop_nats", "rank_correlation", "is_alarmed"}


def metrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", timeout=10).text
