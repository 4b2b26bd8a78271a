"""The server as people start it: a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import pytest
import transformers

from cynosure.cli.main import main
from cynosure.models.text.tokenizer import Tokenizer
from tests.cli.conftest import continuation

COMMAND = [sys.executable, "-m", "cynosure.cli.main", "serve", "--port", "0"]


@contextmanager
def _served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        first = process.stderr.readline()
        found = re.search(r"listens at (http://\S+)", first)
        assert found is not None, first + process.stderr.read()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def _wait(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while httpx.get(f"{url}/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_real_server_answers_the_stock_client(
    index_folder: Path, checkpoint: Path, oracle: transformers.LlamaForCausalLM
) -> None:
    named = ["--model", f"tiny={checkpoint}", "--index-dir", str(index_folder), "--threads", "1"]
    with _served(*named) as (process, url):
        assert httpx.get(f"{url}/live").status_code == 200  # before anything is loaded
        _wait(url)
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["all-MiniLM-L6-v2", "tiny", "ranker"]
            [one] = client.embeddings.create(model="all-MiniLM-L6-v2", input="merge").data
            assert len(one.embedding) == 384
            with pytest.raises(openai.BadRequestError, match="limit is 256"):
                client.embeddings.create(model="all-MiniLM-L6-v2", input="word " * 300)
            page = client.vector_stores.search("python-docs", query="how do I merge sorted iterables")
            assert page.data[0].filename == "heapq.merge"
            parts = client.completions.create(
                model="tiny", prompt="the centre", max_tokens=12, temperature=0, stream=True
            )
            text = "".join(part.choices[0].text for part in parts)
            ids = continuation(oracle, "the centre", 12)
            assert text == Tokenizer.from_folder(checkpoint).decode(ids)
        # Every word of an index of four modules is rare; these are the least so.
        asked = httpx.post(
            f"{url}/v1/ask", json={"question": "wrap a paragraph of text into a list of lines"}
        )
        asked = asked.json()
        assert asked["quotes"][0]["object"] == "textwrap.wrap"
        assert asked["quotes"][0]["attended"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stderr is not None
        rest = process.stderr.read()
        assert re.search(r"Ready after \d+\.\d s: open http://127.0.0.1:\d+", rest)
        assert "Traceback" not in rest


def test_sigterm_lets_what_is_under_way_end_and_takes_the_engine_along(checkpoint: Path) -> None:
    """One sequence at a time, so that there is enough under way."""
    options = ["--without-docs", "--max-num-seqs", "1", "--served-model-name", "tiny", "--threads", "1"]
    with _served(str(checkpoint), *options) as (process, url):
        _wait(url)
        body = {"model": "tiny", "prompt": "a", "max_tokens": 100, "ignore_eos": True}
        with ThreadPoolExecutor(8) as threads:
            asked = [
                threads.submit(httpx.post, f"{url}/v1/completions", json=body, timeout=30) for _ in range(8)
            ]
            wait(asked, return_when=FIRST_COMPLETED)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").parent.parent
            engines = [
                int(pid) for task in children.iterdir() for pid in (task / "children").read_text().split()
            ]
            process.send_signal(signal.SIGTERM)
            assert [one.result().json()["usage"]["completion_tokens"] for one in asked] == [100] * 8
        assert process.wait(10) == 0
        assert engines
        assert not any(Path(f"/proc/{pid}").exists() for pid in engines)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_at_once_while_it_still_loads(tmp_path: Path, number: signal.Signals) -> None:
    with _served("--index-dir", str(tmp_path)) as (process, url):
        assert httpx.get(f"{url}/ready").status_code == 503
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(15) == 0
        assert time.monotonic() - begun < 12
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_port_in_use_is_known_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        begun = time.monotonic()
        assert main(["serve", "--port", str(port)]) == 1
        assert time.monotonic() - begun < 2
    said = capsys.readouterr().err
    assert said == (
        f"error: port {port} of 127.0.0.1 is in use by another process. Stop that one, or take another: "
        f"--port {port + 1}.\n"
    )


def test_a_model_that_can_not_be_loaded_ends_it_with_one_line(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    done = subprocess.run(
        [*COMMAND, "--without-docs", "--model", absent],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: there is no folder '{absent}'")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "70000"], "65535"),
        (["--host", "203.0.113.1", "--allow-open"], "can't be listened on"),
        (["--host", "no such host", "--allow-open"], "no address"),
        (["--host", "0.0.0.0"], "there are no API keys"),
        (["--without-docs"], "nothing to serve"),
        (["--threads", "0"], "at least 1"),
        (["--shutdown-timeout", "0"], "1 to 3600"),
    ],
)
def test_what_can_not_be_served(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said
