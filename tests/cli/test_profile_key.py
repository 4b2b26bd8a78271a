from __future__ import annotations

from pathlib import Path

from cynosure.cli.profile_key import PROFILE_KEY, profile_key_path


def test_the_key_lies_in_the_users_state(tmp_path: Path) -> None:
    assert profile_key_path({"CYNOSURE_HOME": str(tmp_path)}) == tmp_path / "profile.key"
    assert profile_key_path({"XDG_STATE_HOME": str(tmp_path)}) == tmp_path / "cynosure" / "profile.key"
    assert PROFILE_KEY.read({"CYNOSURE_PROFILE_KEY": "ab" * 32}, tmp_path / "none") == b"\xab" * 32
