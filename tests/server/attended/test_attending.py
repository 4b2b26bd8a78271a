"""Every watched answer is reported when it ends: whole, given up, cut by a stop text, and watched unasked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import httpx
import pytest

from cynosure.cli.local_completer import load_completer
from cynosure.insight import AttentionReport, HeadChoice, HeadGroup, ReportSink, WatchPolicy
from cynosure.server.runtime import Report
from cynosure.server.services import Services
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

HEADS = ((0, 0), (1, 1))
CHOICE = HeadChoice(
    HEADS, "a test chose them", (HeadGroup("halves", (0.5, 0.5)), HeadGroup("odd", (-1.0, 2.0)))
)
BODY = {
    "messages": [{"role": "user", "content": "Tell."}],
    "max_tokens": 5,
    "temperature": 0,
    "ignore_eos": True,
}


@dataclass
class Kept:
    """Keeps what it is told."""

    reports: list[AttentionReport] = field(default_factory=list)
    came: threading.Event = field(default_factory=threading.Event)

    def told(self, report: AttentionReport) -> None:
        self.reports.append(report)
        self.came.set()

    def last(self) -> AttentionReport:
        assert self.came.wait(10), "nobody was told"
        self.came.clear()
        return self.reports[-1]


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, kept: Kept) -> Iterator[str]:
    folder = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=1024)
    write(folder, byte_level())
    (folder / "chat_template.jinja").write_text(SOURCE)

    def load(_: Report) -> Services:
        plain = load_completer("plain", folder, dtype="float32")
        always = load_completer("always", folder, dtype="float32")
        always.watching = WatchPolicy(CHOICE, is_always=True)
        services = Services({}, {}, {"plain": plain, "always": always}, int(time.time()))
        return replace(services, report_sinks=(kept,))

    with serving(load, wait_s=60) as address:
        yield address


def ask(url: str, model: str, **options: object) -> httpx.Response:
    body = BODY | {"model": model} | options
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers={"X-Request-Id": "r-1"}, timeout=60)


def test_is_a_sink(kept: Kept) -> None:
    assert isinstance(kept, ReportSink)


def test_what_is_watched_unasked_is_told_to_the_sink_alone(url: str, kept: Kept) -> None:
    answer = ask(url, "always").json()["choices"][0]
    report = kept.last()
    assert "attention" not in answer
    assert (report.request_id, report.index, report.model) == ("r-1", 0, "always")
    assert report.route == "/v1/chat/completions"
    assert not report.reading.is_asked
    assert report.finish == "length"
    assert report.text == answer["message"]["content"]
    assert len(report.tokens) == 5
    assert [report.text[one.start :].startswith(one.text) for one in report.tokens] == [True] * 5
    assert sum(report.mass_by_role.values()) == pytest.approx(1, abs=1e-5)
    for token, halves in zip(report.tokens, report.fold("halves"), strict=True):
        assert token.shares is not None
        assert halves is not None
        # The group that is the mean says what the mean says: sink and template lie before the caller's parts.
        callers = [
            mass for part, mass in zip(report.reading.segments.parts, halves, strict=False) if part.is_callers
        ]
        assert callers == pytest.approx(token.shares.masses, abs=1e-6)
        assert halves[-1] == pytest.approx(token.shares.generated_mass, abs=1e-6)
    with pytest.raises(KeyError, match="none"):
        report.fold("none")


def test_what_is_asked_is_told_to_both(url: str, kept: Kept) -> None:
    answer = ask(url, "plain", attention={"level": "summary"}).json()["choices"][0]
    report = kept.last()
    assert report.reading.is_asked
    assert report.mean is not None
    told = answer["attention"]
    assert told["sink_mass"] == pytest.approx(report.mean.sink_mass, abs=1e-6)


def test_nobody_is_told_of_what_nobody_watches(url: str, kept: Kept) -> None:
    before = len(kept.reports)
    assert ask(url, "plain").status_code == 200
    assert ask(url, "always").status_code == 200
    kept.last()
    assert len(kept.reports) == before + 1


def test_each_of_several_answers_is_told(url: str, kept: Kept) -> None:
    before = len(kept.reports)
    ask(url, "always", n=2, temperature=1, seed=5)
    deadline = time.monotonic() + 10
    while len(kept.reports) < before + 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(report.index for report in kept.reports[before:]) == [0, 1]
    kept.came.clear()


def test_a_stream_that_is_left_is_told_as_far_as_it_was_read(url: str, kept: Kept) -> None:
    body = BODY | {"model": "always", "stream": True, "max_tokens": 900}
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
        next(answer.iter_lines())
    report = kept.last()
    assert report.finish is None
    assert 0 < len(report.tokens) < 900
