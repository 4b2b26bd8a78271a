"""A key is made once, seen by its owner only, and refused where others could have read it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from cynosure.core.errors import AuditFault, NotFound
from cynosure.guard import KEY_VARIABLE, read_key, read_or_create_key


def test_a_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "audit.key"
    key = read_or_create_key({}, path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_or_create_key({}, path) == read_key({}, path) == key
    assert [entry.name for entry in path.parent.iterdir()] == ["audit.key"]


def test_many_that_make_a_key_get_the_same(tmp_path: Path) -> None:
    keys: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: keys.append(read_or_create_key({}, tmp_path / "key")))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 16
    assert len(set(keys)) == 1


def test_the_environment_comes_first_and_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert read_or_create_key({KEY_VARIABLE: "ab" * 32}, path) == b"\xab" * 32
    assert not path.exists()


def test_checking_makes_no_key(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=KEY_VARIABLE):
        read_key({}, tmp_path / "key")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "short", "ab" * 31, "zz" * 32])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(AuditFault) as caught:
        read_key({}, path)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    read_or_create_key({}, path)
    path.chmod(mode)
    with pytest.raises(AuditFault, match=f"{mode:o}"):
        read_key({}, path)


def test_a_link_to_a_key_is_refused(tmp_path: Path) -> None:
    read_or_create_key({}, tmp_path / "key")
    os.symlink(tmp_path / "key", tmp_path / "link")
    with pytest.raises(AuditFault, match="plain file"):
        read_key({}, tmp_path / "link")
