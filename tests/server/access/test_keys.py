from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from cynosure.core.errors import InputError, InvalidApiKey
from cynosure.server.access.keys import CHECK_EVERY_S, KeyRing, digest_of, parse_keys, presented_key
from cynosure.server.access.limits import Limits
from tests.server.keyrings import ADMIN, ANNA, BEN, LINES, FakeClock

CANARY = "canary-canary-canary-canary"


def test_a_line_names_a_key_and_what_it_may() -> None:
    hashed = digest_of(BEN).hex().upper()
    lines = ["# ours", "", f" anna:{ANNA} rpm=60 tpm=10000 concurrency=4", f"ben:sha256:{hashed} tpm=5"]
    text = "\n".join([*lines, f"op:{ADMIN} admin"])
    anna, ben, operator = parse_keys(text, "the test")
    assert (anna.name, anna.digest, anna.is_admin) == ("anna", digest_of(ANNA), False)
    assert anna.limits == Limits(60, 10000, 4)
    assert (ben.digest, ben.limits) == (digest_of(BEN), Limits(tpm=5))
    assert operator.is_admin


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (CANARY, "name and a colon"),
        (f":{CANARY}", "name and a colon"),
        (f"a b:{CANARY}", "name and a colon"),
        (f"{'n' * 65}:{CANARY}", "name and a colon"),
        ("canary:short", "16 to 512"),
        (f"canary:{CANARY}\u00e9", "visible ASCII"),
        ("canary:sha256:canary", "64 hexadecimal"),
        (f"canary:sha256:{'g' * 64}", "64 hexadecimal"),
        (f"n:{CANARY} canary", "not known"),
        (f"n:{CANARY} rpm=0", "not known"),
        (f"n:{CANARY} rpm=-1", "not known"),
        (f"n:{CANARY} rpm=canary", "not known"),
        (f"n:{CANARY} rpm=1 rpm=2", "each once"),
        (f"n:{CANARY} RPM=1", "not known"),
        (f"anna:{CANARY}", "one name"),
        (f"n:{ANNA}", "one value"),
        (f"n:sha256:{digest_of(ANNA).hex()}", "one value"),
    ],
)
def test_a_line_that_is_no_key_is_refused_without_being_quoted(line: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        parse_keys(f"anna:{ANNA}\n{line}", "the file")
    said = str(refused.value)
    assert "the file" in said
    assert "one" in words or "line 2" in said
    assert "canary" not in said
    assert ANNA not in said


def test_a_key_does_not_show_itself() -> None:
    ring = KeyRing(parse_keys(LINES, "the test"))
    shown = f"{ring!r} {ring.find(ANNA)!r} {vars(ring)!r}"
    assert ANNA not in shown
    assert digest_of(ANNA).hex() not in shown
    assert repr(digest_of(ANNA)) not in shown


def test_a_key_is_found_by_its_whole_value() -> None:
    ring = KeyRing(parse_keys(LINES, "the test"))
    assert ring.find(ANNA).name == "anna"
    assert ring.find(BEN).name == "ben"
    for wrong in ("", ANNA[:-1], f"{ANNA}x", ANNA.upper(), digest_of(ANNA).hex(), "\u00e9\udc80"):
        with pytest.raises(InvalidApiKey) as refused:
            ring.find(wrong)
        assert not wrong or wrong not in str(refused.value)


def test_every_comparison_is_of_digests_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return one == other

    ring = KeyRing(parse_keys(LINES, "the test"))
    monkeypatch.setattr("cynosure.server.access.keys.hmac.compare_digest", compare)
    ring.find(ANNA)
    assert [one for one, _ in compared] == [digest_of(key) for key in (ANNA, BEN, ADMIN)]
    assert {len(part) for pair in compared for part in pair} == {32}


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {ANNA}")],
        [("authorization", f"bearer  {ANNA} ")],
        [("x-api-key", ANNA)],
        [("x-api-key", ANNA), ("authorization", f"Bearer {ANNA}")],
    ],
)
def test_a_key_comes_as_openai_s_or_anthropic_s_clients_send_it(headers: list[tuple[str, str]]) -> None:
    assert presented_key(_headers(headers)) == ANNA


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer ")],
        [("authorization", f"Basic {ANNA}")],
        [("authorization", ANNA)],
        [("x-api-key", "")],
        [("x-api-key", ANNA), ("authorization", f"Bearer {BEN}")],
        [("x-api-key", ANNA), ("x-api-key", BEN)],
    ],
)
def test_no_key_and_two_keys_are_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(InvalidApiKey, match="exactly one"):
        presented_key(_headers(headers))


def _headers(pairs: list[tuple[str, str]]) -> Headers:
    return Headers(raw=[(name.encode(), value.encode()) for name, value in pairs])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return _written(tmp_path / "keys", f"anna:{ANNA}\n")


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_file_is_read_again_when_it_changes(file: Path) -> None:
    clock = FakeClock()
    ring = KeyRing(file=file, clock=clock)
    assert ring.find(ANNA).name == "anna"
    _written(file, f"ben:{BEN} rpm=3\n")
    assert ring.find(ANNA).name == "anna", "it is looked at once a second"
    clock.pass_s(CHECK_EVERY_S)
    assert ring.find(BEN).limits == Limits(rpm=3)
    with pytest.raises(InvalidApiKey):
        ring.find(ANNA)


def test_it_is_read_at_once_where_that_was_asked_for(file: Path) -> None:
    ring = KeyRing(file=file, clock=FakeClock())
    _written(file, f"ben:{BEN}\n")
    ring.look_again()
    assert ring.find(BEN).name == "ben"


@pytest.mark.parametrize("text", ["", "# nothing\n", "canary\n", None])
def test_a_file_that_breaks_changes_nothing_and_is_reported(
    file: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    ring = KeyRing(file=file, clock=clock)
    if text is None:
        file.unlink()
    else:
        _written(file, text)
    clock.pass_s(2)
    with caplog.at_level(logging.ERROR):
        assert ring.find(ANNA).name == "anna"
        clock.pass_s(2)
        assert ring.find(ANNA).name == "anna"
    [record] = caplog.records
    assert "the keys in force stay" in record.getMessage()
    assert "canary" not in caplog.text
    _written(file, f"ben:{BEN}\n")
    clock.pass_s(2)
    assert ring.find(BEN).name == "ben"


@pytest.mark.parametrize("text", ["", "# nothing\n", "\udcff"])
def test_a_server_does_not_begin_with_a_file_without_keys(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="keys file"):
        KeyRing(file=path)
    with pytest.raises(InputError, match="can't be read"):
        KeyRing(file=tmp_path / "absent")


def test_keys_of_a_file_stand_beside_those_given(file: Path) -> None:
    ring = KeyRing(parse_keys(f"ben:{BEN}", "the environment"), file)
    assert {ring.find(ANNA).name, ring.find(BEN).name} == {"anna", "ben"}
    with pytest.raises(InputError, match="one name"):
        KeyRing(parse_keys(f"anna:{BEN}", "the environment"), file)


def test_only_a_ring_without_any_is_open(file: Path) -> None:
    assert KeyRing().is_open
    assert not KeyRing(file=file).is_open
    assert not KeyRing(parse_keys(LINES, "the test")).is_open


@pytest.mark.parametrize(
    ("mode", "is_warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)]
)
def test_a_file_that_others_may_read_is_warned_of(
    file: Path, mode: int, is_warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    os.chmod(file, mode)
    KeyRing(file=file)
    assert ("chmod 600" in caplog.text) is is_warned
