"""What options say of guard, audit log and spans; and a served log that is killed and verified."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from cynosure.cli.audit import KEY_NAME, LOG_NAME
from cynosure.cli.main import main
from cynosure.cli.serve_oversight import add_oversight_arguments, oversight_of
from cynosure.core.errors import AuditFault, InputError, UnknownOption
from cynosure.guard import KEY_VARIABLE, Action, Policy, Rules
from cynosure.server.records.oversight import Oversight

KEY = "ab" * 32


def parsed(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_oversight_arguments(parser)
    return parser.parse_args(list(given))


@contextmanager
def watching(environ: dict[str, str], *given: str) -> Iterator[Oversight]:
    oversight = oversight_of(parsed(*given), environ)
    try:
        yield oversight
    finally:
        oversight.close()


def test_by_default_the_guard_and_the_audit_log_watch_and_no_spans_are_sent(tmp_path: Path) -> None:
    environ = {"CYNOSURE_HOME": str(tmp_path)}
    with watching(environ) as oversight:
        assert oversight.policy == Policy()
        assert oversight.spans is None
        assert (tmp_path / "audit" / LOG_NAME).exists()
        assert (tmp_path / "audit" / KEY_NAME).stat().st_mode & 0o777 == 0o600
    with watching(environ, "--no-audit", "--no-guard") as oversight:
        assert (oversight.policy, oversight.audit, oversight.spans) == (None, None, None)


def test_a_policy_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text('[input]\ncard = "block"\n[output]\nemail = "redact"\n')
    with watching({}, "--no-audit", "--guard", str(file)) as oversight:
        assert oversight.policy == Policy(input=Rules(card=Action.BLOCK), output=Rules(email=Action.REDACT))


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("[input\n", InputError, "no TOML"),
        ("input = 3\n", InputError, "no table"),
        ("[input]\ncard = 1\n", InputError, "no table"),
        ("[calls]\nmin_focus = 3\n", InputError, "from 0 to 1"),
        ("[calls]\nmin_focus = [1]\n", InputError, "from 0 to 1"),
        ('[inputs]\ncard = "block"\n', UnknownOption, "inputs"),
        ('[input]\ncards = "block"\n', UnknownOption, "cards"),
        ('[input]\ncard = "drop"\n', UnknownOption, "drop"),
        (None, InputError, "can't be read"),
    ],
)
def test_a_policy_that_can_not_be_used(
    tmp_path: Path, text: str | None, error: type[Exception], words: str
) -> None:
    file = tmp_path / "guard.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(error, match=words):
        oversight_of(parsed("--no-audit", "--guard", str(file)), {})


def test_two_servers_do_not_share_a_log(tmp_path: Path) -> None:
    with watching({}, "--audit", str(tmp_path)), pytest.raises(AuditFault, match="--audit FOLDER"):
        oversight_of(parsed("--audit", str(tmp_path)), {})


def test_servers_of_one_user_start_side_by_side_and_every_log_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ, told = {"CYNOSURE_HOME": str(tmp_path)}, list[str]()
    for name in (KEY_VARIABLE, "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CYNOSURE_HOME", str(tmp_path))
    with closing(oversight_of(parsed(), environ, told.append)):
        assert told == []
        with closing(oversight_of(parsed(), environ, told.append)):
            assert str(tmp_path / "audit" / "2") in told[0]
            with closing(oversight_of(parsed(), environ, told.append)):
                assert (tmp_path / "audit" / "3" / LOG_NAME).exists()
    # Whoever comes next goes on with the first log.
    with closing(oversight_of(parsed(), environ, told.append)):
        assert len(told) == 2
    assert main(["audit", "verify", "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    folders = [tmp_path / "audit", *(tmp_path / "audit" / number for number in "23")]
    assert [one["log"] for one in shown] == [str(folder / LOG_NAME) for folder in folders]
    (folders[2] / f"{LOG_NAME}.head").write_text("{}\n")
    assert main(["audit", "verify"]) == 1
    assert f"{folders[2] / LOG_NAME}:\nBROKEN" in capsys.readouterr().out


def test_the_audit_key_is_taken_out_of_the_environment(tmp_path: Path) -> None:
    environ = {KEY_VARIABLE: KEY}
    with watching(environ, "--audit", str(tmp_path)):
        assert environ == {}
        assert not (tmp_path / KEY_NAME).exists()


def test_what_says_two_things_is_refused() -> None:
    for given in (("--guard", "f", "--no-guard"), ("--audit", "f", "--no-audit")):
        with pytest.raises(argparse.ArgumentError, match="not allowed with"):
            parsed(*given)
    with pytest.raises(InputError, match="0 seconds or more"):
        oversight_of(parsed("--audit-sync-every", "-1"), {})


def test_spans_are_sent_where_an_option_or_the_environment_says(tmp_path: Path) -> None:
    with watching({}, "--no-audit", "--otlp-traces-endpoint", "http://127.0.0.1:1/v1/traces") as oversight:
        assert oversight.spans is not None
    with watching({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "--no-audit") as oversight:
        assert oversight.spans is not None


def test_a_served_log_survives_a_kill_and_is_verified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real command, ended by SIGKILL while requests go on; then one flipped byte is found."""
    folder = tmp_path / "audit"
    arguments = ["--port", "0", "--audit", str(folder), "--index-dir", str(tmp_path / "index")]
    process = subprocess.Popen(
        [sys.executable, "-m", "cynosure.cli.main", "serve", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    try:
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        deadline = time.monotonic() + 30
        while True:
            assert time.monotonic() < deadline
            try:
                with httpx.Client(base_url=url) as client:
                    statuses = [client.get("/v1/models").status_code for _ in range(5)]
                break
            except httpx.TransportError:
                time.sleep(0.05)
        # What was answered was recorded before, also while the models still load.
        assert set(statuses) <= {200, 503}
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=10)
    log = folder / LOG_NAME
    with log.open("ab") as file:
        file.write(b'{"seq":6,"time":"torn')
    verify = ["audit", "verify", "--log", str(log), "--json"]
    assert main(verify) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["num_records"] >= 5
    assert told["torn_bytes"] > 0
    with watching({}, "--audit", str(folder)):
        pass
    assert main(verify) == 0
    assert json.loads(capsys.readouterr().out)["torn_bytes"] == 0
    written = bytearray(log.read_bytes())
    written[written.index(b'"seq":3') + 60] ^= 1
    log.write_bytes(bytes(written))
    assert main(verify) == 1
    assert json.loads(capsys.readouterr().out)["broken"]["seq"] == 3


def test_the_port_is_free_again(tmp_path: Path) -> None:
    """An audit log that can't be opened ends the start with one line, and holds no port."""
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert main(["serve", "--port", str(port), "--audit", str(in_the_way)]) == 1
