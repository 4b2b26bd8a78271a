"""Sessions on disk, with the server as people start it: killed, started again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai

COMMAND = [sys.executable, "-m", "cynosure.cli.main", "serve", "--port", "0", "--without-docs"]
PROMPT = "the centre of attention is " * 4
ANN, BOB = "sk-ann-0123456789abcdef0123456789abcdef", "sk-bob-0123456789abcdef0123456789abcdef"
#: Pages of 8 tokens, so that a tiny model's prompt has some.
FLAGS = ["--served-model-name", "tiny", "--threads", "1", "--block-size", "8", "--dtype", "float32"]


@contextmanager
def _served(checkpoint: Path, folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, str(checkpoint), *FLAGS, *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CYNOSURE_HOME": str(folder / "home")},
    )
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        found = next(found for line in lines if (found := re.search(r"listens at (http://\S+)", line)))
        _until(lambda: httpx.get(f"{found[1]}/ready", headers=_as(ANN)).status_code == 200)
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _as(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _answer(url: str, key: str, **fields: object) -> tuple[str, int]:
    """The text, and how many tokens of the prompt were found."""
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "temperature": 0} | fields
    asked = httpx.post(f"{url}/v1/completions", json=body, headers=_as(key), timeout=60)
    assert asked.status_code == 200, asked.text
    answer = asked.json()
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_session_survives_kill_9_and_stays_its_tenants(checkpoint: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"ann:{ANN}\nbob:{BOB}\n")
    keys.chmod(0o600)
    flags = ["--api-keys", str(keys), "--cache-dir", str(tmp_path / "cache")]
    lists = tmp_path / "cache" / "sessions"
    with _served(checkpoint, tmp_path, *flags) as (process, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key=ANN, max_retries=0) as client:
            first = client.completions.create(
                model="tiny",
                prompt=PROMPT,
                max_tokens=6,
                temperature=0,
                extra_body={"prompt_cache_key": "talk", "prompt_cache_retention": "24h"},
            )
        _answer(url, ANN, prompt="nothing of this is kept on disk " * 4)
        _until(lambda: bool(list(lists.iterdir())), 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
    names = [path.name for path in tmp_path.glob("cache/*/*")]
    assert names
    assert all(re.fullmatch("[0-9a-f]{64}", name) for name in names)
    said = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not any(b"talk" in content or b"ann" in content for content in said)
    with _served(checkpoint, tmp_path, *flags) as (_, url):
        assert _answer(url, BOB)[1] == 0
        again, num_found = _answer(url, ANN)
        assert again == first.choices[0].text
        assert num_found >= 8
        assert _answer(url, ANN, prompt="nothing of this is kept on disk " * 4)[1] == 0
