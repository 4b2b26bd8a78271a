"""Keys as an operator gives them, and the real engine behind them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest

from cynosure.cli.main import main
from cynosure.cli.serve_access import KEYS_VARIABLE, SECRET_FILE, admission_of
from cynosure.core.errors import InputError
from tests.server.keyrings import ADMIN, ANNA, BEN, bearer

COMMAND = [
    sys.executable,
    "-m",
    "cynosure.cli.main",
    "serve",
    "--port",
    "0",
    "--without-docs",
    "--threads",
    "1",
]
PROMPT = list(range(1, 81))  # two full pages and a half


def _keys_file(folder: Path, text: str) -> Path:
    file = folder / "keys"
    file.write_text(text)
    file.chmod(0o600)
    return file


@contextmanager
def _served(checkpoint: Path, home: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """A server with JSON logs in a file, once it answers; stopped by then."""
    log = home / "log"
    environ = os.environ | {"CYNOSURE_HOME": str(home), KEYS_VARIABLE: f"operator:{ADMIN} admin"}
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*COMMAND, "--model", f"tiny={checkpoint}", "--log-format", "json", *more],
            stderr=stream, text=True, env=environ,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while "Ready" not in (said := log.read_text()):
            assert time.monotonic() < deadline, said
            assert process.poll() is None, said
            time.sleep(0.05)
        yield process, said.split("listens at ")[1].split()[0], log
    finally:
        process.kill()
        process.wait()


def test_the_prefix_cache_is_each_key_s_own(checkpoint: Path, tmp_path: Path) -> None:
    """And the metrics say so, the logs say no word of it, and a key that is taken away is refused."""
    file = _keys_file(tmp_path, f"anna:{ANNA}\nben:{BEN} rpm=3\n")
    with _served(checkpoint, tmp_path, "--api-keys", str(file)) as (process, url, log):

        def cached(key: str) -> int:
            with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
                usage = client.completions.create(
                    model="tiny", prompt=PROMPT, max_tokens=2, temperature=0
                ).usage
            assert usage is not None
            assert usage.prompt_tokens_details is not None
            return usage.prompt_tokens_details.cached_tokens or 0

        assert cached(ANNA) == 0
        assert cached(ANNA) == 64
        assert cached(BEN) == 0, "another key must miss what the first one has"
        assert cached(BEN) == 64
        assert cached(ANNA) == 64

        time.sleep(0.6)  # the engine tells four times a second how busy it is
        text = httpx.get(f"{url}/metrics", headers=bearer(ADMIN)).text
        found = dict(line.rpartition(" ")[::2] for line in text.splitlines() if not line.startswith("#"))
        assert float(found['cynosure_prefix_cache_queries_total{model_name="tiny"}']) == 5 * 64
        assert float(found['cynosure_prefix_cache_hits_total{model_name="tiny"}']) == 3 * 64
        assert float(found['cynosure_prompt_tokens_total{model_name="tiny"}']) == 5 * 80
        assert float(found['cynosure_num_requests_running{model_name="tiny"}']) == 0
        assert float(found['cynosure_kv_cache_usage_perc{model_name="tiny"}']) == 0

        assert httpx.get(f"{url}/v1/models").status_code == 401
        _keys_file(tmp_path, f"ben:{BEN} rpm=3\n")
        process.send_signal(signal.SIGHUP)
        assert httpx.get(f"{url}/v1/models", headers=bearer(ANNA)).status_code == 401
        assert httpx.get(f"{url}/v1/models", headers=bearer(BEN)).status_code == 200
        assert cached(BEN) == 64
        with pytest.raises(openai.RateLimitError):
            cached(BEN)

        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    completed = [line for line in lines if line.get("route") == "/v1/completions" and line["status"] == 200]
    assert [line["cached_tokens"] for line in completed] == [0, 64, 0, 64, 64, 64]
    assert len({line["tenant"] for line in completed}) == 2
    assert "2 keys are in force now" in [line["message"] for line in lines]
    assert (tmp_path / SECRET_FILE).stat().st_mode & 0o777 == 0o600
    written = log.read_text()
    assert not [word for word in (ANNA, BEN, ADMIN, '"anna"', '"ben"', "operator") if word in written]


def _arguments(api_keys: Path | None = None) -> argparse.Namespace:
    return argparse.Namespace(api_keys=api_keys)


def test_without_keys_a_server_is_open_and_keeps_no_secret(tmp_path: Path) -> None:
    assert admission_of(_arguments(), {"CYNOSURE_HOME": str(tmp_path)}).ring.is_open
    assert not list(tmp_path.iterdir())


def test_keys_of_the_environment_are_taken_out_of_it(tmp_path: Path) -> None:
    environ = {"CYNOSURE_HOME": str(tmp_path), KEYS_VARIABLE: f"anna:{ANNA} rpm=5, ben:{BEN}"}
    ring = admission_of(_arguments(), environ).ring
    assert ring.find(ANNA).limits.rpm == 5
    assert ring.find(BEN).name == "ben"
    assert KEYS_VARIABLE not in environ


def test_a_line_that_is_no_key_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"line 1 of {KEYS_VARIABLE}"):
        admission_of(_arguments(), {"CYNOSURE_HOME": str(tmp_path), KEYS_VARIABLE: ANNA})


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--api-keys", str(tmp_path / "absent")]) == 1
    assert "can't be read" in capsys.readouterr().err


def test_a_network_without_keys_is_refused_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: --host 0.0.0.0 can be reached")
    assert "--api-keys FILE" in said
    assert "--allow-open" in said
