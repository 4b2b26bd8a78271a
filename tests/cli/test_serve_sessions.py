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
#: Pages of 8 tokens, so that a tiny model's prompt has some.
FLAGS = ["--served-model-name", "tiny", "--threads", "1", "--block-size", "8", "--dtype", "float32"]


@contextmanager
def _served(checkpoint: Path, folder: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, str(checkpoint), *FLAGS, "--cache-dir", str(folder / "cache"), *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"CYNOSURE_HOME": str(folder / "home")},
    )
    assert process.stderr is not None
    try:
        found = re.search(r"listens at (http://\S+)", process.stderr.readline())
        assert found is not None
        _until(lambda: httpx.get(f"{found[1]}/ready").status_code == 200)
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


def _answer(url: str, key: str = "none", **fields: object) -> tuple[str, int]:
    """The text, and how many tokens of the prompt were found."""
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "temperature": 0} | fields
    asked = httpx.post(
        f"{url}/v1/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=60
    )
    assert asked.status_code == 200, asked.text
    answer = asked.json()
    return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_session_survives_kill_9_and_stays_its_tenants(checkpoint: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann:sk-ann-0123456789abcdef\nbob:sk-bob-0123456789abcdef\n")
    ann, bob = "sk-ann-0123456789abcdef", "sk-bob-0123456789abcdef"
    lists = tmp_path / "cache" / "sessions"
    with _served(checkpoint, tmp_path, "--api-keys", str(keys)) as (process, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key=ann, max_retries=0) as client:
            first = client.completions.create(
                model="tiny",
                prompt=PROMPT,
                max_tokens=6,
                temperature=0,
                extra_body={"prompt_cache_key": "talk", "prompt_cache_retention": "24h"},
            )
        _answer(url, ann, prompt="nothing of this is kept on disk " * 4)
        _until(lambda: bool(list(lists.iterdir())), 10)
        process.send_signal(signal.SIGKILL)
        process.wait()
    names = [path.name for path in tmp_path.glob("cache/*/*")]
    assert names
    assert all(re.fullmatch("[0-9a-f]{64}", name) for name in names)
    said = [path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not any(b"talk" in content or b"ann" in content for content in said)
    with _served(checkpoint, tmp_path, "--api-keys", str(keys)) as (_, url):
        assert _answer(url, bob)[1] == 0
        again, num_found = _answer(url, ann)
        assert again == first.choices[0].text
        assert num_found >= 8
        assert _answer(url, ann, prompt="nothing of this is kept on disk " * 4)[1] == 0


def test_spoilt_files_are_not_served(checkpoint: Path, tmp_path: Path) -> None:
    session = {"prompt_cache_key": "talk", "prompt_cache_retention": "24h"}
    with _served(checkpoint, tmp_path) as (process, url):
        first, _ = _answer(url, **session)
        process.send_signal(signal.SIGTERM)  # what waits is written first
        assert process.wait(15) == 0
    pages = list(tmp_path.glob("cache/pages/*"))
    assert pages
    for page in pages:
        page.write_bytes(page.read_bytes()[::-1])
    with _served(checkpoint, tmp_path) as (_, url):
        assert _answer(url) == (first, 0)


def test_without_a_folder_a_session_on_disk_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    process = subprocess.Popen([*COMMAND, str(checkpoint), *FLAGS], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = re.search(r"listens at (http://\S+)", process.stderr.readline())
        assert found is not None
        url = found[1]
        _until(lambda: httpx.get(f"{url}/ready").status_code == 200)
        body = {"model": "tiny", "prompt": "a", "max_tokens": 2, "prompt_cache_key": "talk"}
        refused = httpx.post(f"{url}/v1/completions", json=body | {"prompt_cache_retention": "24h"})
        assert refused.status_code == 400
        assert "--cache-dir" in refused.json()["error"]["message"]
        assert httpx.post(f"{url}/v1/completions", json=body).status_code == 200
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
