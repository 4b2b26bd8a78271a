"""Servers are started, watched and ended with all below them: on scripts of a few lines."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.evaluate.server_process import ServerProcess, free_port

SCRIPT = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "the-child"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_server_with_a_child(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", SCRIPT, str(port)]
    with ServerProcess(command, f"http://127.0.0.1:{port}", tmp_path / "log") as server:
        assert server.wait_until_ready("/", 30.0) > 0
        child = server.process_of("the-child")
        assert child is not None
        assert len(list(server.processes())) == 2
        assert server.process_of("nobody") is None
        both = server.rss_bytes
        assert both > 5 << 20
        os.kill(child, 9)
        deadline = time.monotonic() + 10
        while server.rss_bytes > both * 0.75:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (pid, *_) = server.processes()
    assert not Path(f"/proc/{pid}").exists()


def test_the_children_of_a_server_end_with_it(tmp_path: Path) -> None:
    port = free_port()
    with ServerProcess(
        [sys.executable, "-c", SCRIPT, str(port)], f"http://127.0.0.1:{port}", tmp_path / "log"
    ) as server:
        server.wait_until_ready("/", 30.0)
        child = server.process_of("the-child")
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("code", "words"),
    [("raise SystemExit('no weights')", "exit status 1"), ("import time; time.sleep(60)", "is not ready")],
)
def test_a_server_that_never_is_ready_is_told_of_with_its_last_words(
    tmp_path: Path, code: str, words: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with ServerProcess([sys.executable, "-c", code], url, tmp_path / "log") as server:
        with pytest.raises(EnvironmentFault, match=words) as failed:
            server.wait_until_ready("/", 1.0)
        assert ("no weights" in str(failed.value)) == ("no weights" in code)
