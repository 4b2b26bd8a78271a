"""`cynosure explain REQUEST_ID` against a running server: what was attended to, in words and in JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from cynosure.cli.main import main
from cynosure.insight.trace_level import TraceLevel
from cynosure.server.records.oversight import Oversight
from tests.server.fakes import services, serving
from tests.server.keyrings import ANNA, guarded
from tests.server.told_traces import DOCUMENTS, keeper


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda _: services(), oversight=Oversight(traces=keeper(num_others=2))) as address:
        yield address


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["explain", *arguments]) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def test_an_answer_with_its_parts_citations_and_risk(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "req-parcel", "--url", url)
    assert "[C] A parcel takes three to five days" in said.replace("\n  ", " ")
    assert re.search(r"C\s+doc:shipping\s+█+\s+\d+\.\d%", said)
    shares = [float(one) for one in re.findall(r"(\d+\.\d)% *$", said, re.MULTILINE)]
    assert sum(shares[:8]) == pytest.approx(100, abs=1)
    assert "attended to doc:returns most" in said
    assert f"cites doc:returns, score 61%: “{DOCUMENTS['doc:returns']}”" in said
    assert "risk 83%" in said
    assert "risk unknown" in said
    assert "calibrated for 4 to 12" in said
    assert "8% of the heads" in said
    assert not re.search(r"becaus[e] of", said)


def test_tokens_and_another_group(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "req-parcel", "--url", url, "--tokens", "--group", "citation")
    assert "group citation" in said
    assert re.search(r"^12 +back +D doc:returns +\+\d", said, re.MULTILINE)
    refused = told(capsys, "req-parcel", "--url", url, "--group", "absent", status=1)
    assert "all, retrieval, citation" in refused


def test_a_trace_without_texts(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, "req-little", "--url", url, "--tokens")
    assert "•" in said
    assert "document:1" in said
    assert "parcel" not in said


def test_one_of_averages_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _: services(), oversight=Oversight(traces=keeper(TraceLevel.L0, 0))) as address:
        said = told(capsys, "req-parcel", "--url", address)
    assert re.search(r"attended to: .*document \d+", said)


def test_json_is_what_the_server_tells(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(told(capsys, "req-parcel", "--url", url, "--json"))
    assert said["trace"] == httpx.get(f"{url}/v1/traces/req-parcel").json()
    assert said["request"] is None


def test_a_request_that_left_no_trace_still_tells_how_it_went(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"model": "fake-completer", "prompt": "one two", "max_tokens": 2}
    name = httpx.post(f"{url}/v1/completions", json=body).headers["X-Request-Id"]
    said = told(capsys, name, "--url", url)
    assert f"{name}: finished" in said
    assert "No trace of it is kept" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent"], "keeps nothing of a request 'absent'"),
        ([], "a REQUEST_ID or a --mask"),
        (["one", "--mask", "Causal"], "not both"),
        (["one", "--url", "file:///etc/passwd"], "http://"),
        (["one", "--url", "http://127.0.0.1:1"], "no Cynosure server answers"),
    ],
)
def test_what_can_not_be_explained(
    url: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments if "--url" in arguments else [*arguments, "--url", url]
    assert words in told(capsys, *given, status=1)


def test_a_key_is_sent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CYNOSURE_API_KEY", raising=False)
    with guarded() as address:
        assert "key" in told(capsys, "absent", "--url", address, status=1)
        assert "keeps nothing" in told(capsys, "absent", "--url", address, "--api-key", ANNA, status=1)
        monkeypatch.setenv("CYNOSURE_API_KEY", ANNA)
        assert "keeps nothing" in told(capsys, "absent", "--url", address, status=1)
