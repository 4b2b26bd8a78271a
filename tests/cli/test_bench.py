from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cynosure.cli.bench import table
from cynosure.cli.local_completer import load_completer
from cynosure.cli.main import main
from cynosure.evaluate.timing import Timing, summarise
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.services import Services
from tests.models import t5_oracle
from tests.server.fakes import CREATED, serving

SMALL = ["--input-len", "24", "--output-len", "6"]


@pytest.fixture(scope="module")
def url(checkpoint: Path) -> Iterator[str]:
    model = load_completer("tiny", checkpoint, dtype="float32")
    with serving(lambda report: Services({}, {}, {"tiny": model}, CREATED), wait_s=60) as url:
        yield url


def _measured(capsys: pytest.CaptureFixture[str], *given: str) -> list[dict[str, Any]]:
    assert main(["bench", *given, *SMALL, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_checkpoint_under_several_loads(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = _measured(capsys, str(checkpoint), "--clients", "1,3", "--dtype", "float32")
    assert [one["load"] for one in found] == ["1 at once", "3 at once"]
    assert [one["num_answers"] for one in found] == [1, 3]
    for one in found:
        assert (one["prompt_tokens"], one["output_tokens"], one["num_failed"]) == (24, 6, 0)
        assert 0 < one["ttft_p50_s"] <= one["ttft_p99_s"]
        assert one["tokens_per_s"] > 0


def test_a_server_under_clients_and_at_a_rate(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = _measured(
        capsys,
        "--url",
        f"{url}/v1/",
        "--model",
        "tiny",
        "--clients",
        "2",
        "--rate",
        "50",
        "--num-prompts",
        "5",
    )
    assert [one["load"] for one in found] == ["2 at once", "50 a second"]
    for one in found:
        assert (one["num_answers"], one["num_failed"], one["output_tokens"]) == (5, 0, 6)
        # As the server counts them; words were chosen to come close.
        assert 12 <= one["prompt_tokens"] <= 48


def test_a_server_that_asks_for_a_key_gets_it_from_the_environment(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_completer("tiny", checkpoint, dtype="float32")
    key = "sk-" + "k" * 40
    admission = Admission(KeyRing(parse_keys(f"me:{key}", "test")), b"s" * 32)
    given = ["--model", "tiny", "--clients", "1", "--num-prompts", "1"]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda report: Services({}, {}, {"tiny": model}, CREATED), admission=admission) as url:
        assert main(["bench", "--url", url, *given, *SMALL]) == 1
        assert "answered 401" in capsys.readouterr().err
        monkeypatch.setenv("OPENAI_API_KEY", key)
        assert _measured(capsys, "--url", url, *given)[0]["num_answers"] == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "Name one of them"),
        (["x", "--url", "http://127.0.0.1:1"], "Name one of them"),
        (["x", "--rate", "3"], "--rate is for a server"),
        (["x", "--input-len", "0"], "--input-len is 0"),
        (["--url", "http://127.0.0.1:1"], "needs --model"),
        (["--url", "https://127.0.0.1:1", "--model", "m"], "plain HTTP"),
        (["--url", "http://127.0.0.1:1", "--model", "m"], "does not answer"),
        (["--url", "http://127.0.0.1:1", "--model", "m", "--dtype", "float32"], "are of a FOLDER"),
    ],
)
def test_what_can_not_be_measured_is_said(
    given: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *given]) == 1
    assert words in capsys.readouterr().err


def test_a_model_that_the_server_lacks_is_the_servers_word(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--url", url, "--model", "other"]) == 1
    assert "answered 404: no completion model is called 'other'" in capsys.readouterr().err


def test_what_is_no_decoder_or_too_short_is_said(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    t5_oracle.save(t5_oracle.build(t5_oracle.VARIANTS["v1"]), tmp_path)
    assert main(["bench", str(tmp_path)]) == 1
    assert "is no decoder" in capsys.readouterr().err
    assert main(["bench", str(checkpoint), "--input-len", "100"]) == 1
    assert "--output-len" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [["--clients", "0"], ["--clients", "a"], ["--rate", "nan"], ["--rate", "0"]]
)
def test_lists_are_checked(given: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "x", *given])


def test_the_table_says_what_failed() -> None:
    rows = table({"4 at once": summarise([Timing(0.0, 0.5, 1.5, 10, 11)], num_failed=7)})
    assert rows[1].split() == [
        "4",
        "at",
        "once",
        "10+11",
        "500.0",
        "500.0",
        "100.0",
        "100.0",
        "20",
        "7.3",
        "7",
    ]
