"""Keys of any kind are read and made alike, and each speaks of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.core.errors import NotFound, ProfileError
from cynosure.guard.key_file import KeyKind

KIND = KeyKind("star key", "STAR_KEY", ProfileError, "look away")


def test_a_kind_speaks_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "a" / "key"
    with pytest.raises(NotFound, match=r"no star key: .*\$STAR_KEY is not set"):
        KIND.read({}, path)
    key = KIND.read_or_create({}, path)
    assert KIND.read({}, path) == key != KIND.read({"STAR_KEY": "ab" * 32}, path)
    path.chmod(0o644)
    with pytest.raises(ProfileError, match=r"mode 644; others may read it.*look away"):
        KIND.read({}, path)
    with pytest.raises(ProfileError, match=r"star key in \$STAR_KEY is not usable"):
        KIND.read({"STAR_KEY": "short"}, path)


def test_a_place_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="cannot be"):
        KIND.read_or_create({}, tmp_path / "file" / "key")
