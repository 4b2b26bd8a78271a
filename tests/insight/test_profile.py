"""A profile is read as it was written, by whoever has the key, and refused otherwise, in words that help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cynosure.core.errors import NotFound, ProfileError
from cynosure.insight.profile import HeadProfile, read_profile, write_profile
from cynosure.insight.profile_signature import digest_of, is_signed_by, signature_of

KEY = b"k" * 32
PROFILE = HeadProfile(
    "ab" * 32,
    "tiny",
    (4, 0, 2),
    {"seed": 0, "date": "2026-01-01"},
    {
        "kinds": {"induction": {"heads": [[2, 1]], "confirmed": True}},
        "citations": {"heads": [[0, 3], [2, 0]], "weights": [0.1, -2.5e-17]},
    },
)


def write(tmp_path: Path, key: bytes | None = KEY) -> Path:
    path = tmp_path / "tiny.json"
    write_profile(path, PROFILE, key)
    return path


def forge(path: Path, digest: bool = True, **changed: object) -> None:
    """Change a file as somebody would who has no key."""
    content = json.loads(path.read_text()) | changed
    bare = {name: value for name, value in content.items() if name not in ("digest", "signature")}
    path.write_text(json.dumps(content | ({"digest": digest_of(bare)} if digest else {})))


@pytest.mark.parametrize("key", [KEY, None])
def test_what_is_written_is_read(tmp_path: Path, key: bytes | None) -> None:
    path = write(tmp_path, key)
    found = read_profile(path, key)
    assert found == PROFILE
    assert found.digest == PROFILE.digest == json.loads(path.read_text())["digest"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["tiny.json"]
    # Without the key, that it is whole is all that is checked.
    assert read_profile(path) == PROFILE


def test_a_section_is_added_and_the_first_profile_stays() -> None:
    more = PROFILE.with_section("risk", {"heads": [[0, 0]], "weights": [1.0]})
    assert more.section("risk") == {"heads": [[0, 0]], "weights": [1.0]}
    assert PROFILE.section("risk") is None
    assert more.digest != PROFILE.digest


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"model": "cd" * 32},
        {"sections": {}},
        {"sections": {**PROFILE.sections, "citations": {"heads": [[0, 3]], "weights": [0.2]}}},
    ],
)
def test_an_altered_file_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = write(tmp_path)
    forge(path, digest=False, **changed)
    with pytest.raises(ProfileError, match="digest differs"):
        read_profile(path)
    # Who makes the digest new still has no key; without one the change is not seen.
    forge(path, **changed)
    with pytest.raises(ProfileError, match="altered, or signed with another key"):
        read_profile(path, KEY)
    assert read_profile(path) != PROFILE


def test_a_signature_can_not_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="is not signed"):
        read_profile(write(tmp_path, key=None), KEY)
    with pytest.raises(ProfileError, match="another key"):
        read_profile(write(tmp_path), b"x" * 32)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"format": "other"}, "is no head profile"),
        ({"version": 2}, "of version 2; this release reads 1"),
        ({"num_heads": [4, -1]}, "'num_heads' is missing, wrong or not known"),
        ({"made": None}, "'made' is missing"),
        ({"more": 1}, "'more' is missing, wrong or not known"),
        ({"sections": {"risk": 3}}, "'risk' of profile 'tiny' is no JSON object"),
        ({"sections": {"a": {"b": {"heads": [[1, 0]]}}}}, r"head \[1, 0\], which the model lacks"),
        ({"sections": {"a": {"heads": [[0, 4]]}}}, "which the model lacks; its layers have 4, 0, 2 heads"),
        ({"sections": {"a": {"heads": [[3, 0]]}}}, "which the model lacks"),
        ({"sections": {"a": {"heads": [[True, 0]]}}}, "which the model lacks"),
        ({"sections": {"a": {"heads": 3}}}, "its heads are no list"),
        ({"sections": {"a": {"heads": [[0, 0]], "weights": []}}}, "one finite weight for each of 1 heads"),
        ({"sections": {"a": {"heads": [[0, 0]], "weights": ["1"]}}}, "one finite weight"),
    ],
)
def test_what_it_says_is_checked(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    path = write(tmp_path)
    forge(path, **changed)
    with pytest.raises(ProfileError, match=words):
        read_profile(path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"version": NaN}', "[" * 100_000, "\xff"])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ProfileError):
        read_profile(path)


def test_places_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="cynosure profile MODEL"):
        read_profile(tmp_path / "none.json")
    with pytest.raises(ProfileError, match="can't be read"):
        read_profile(tmp_path)
    with pytest.raises(ProfileError, match="can't be written"):
        write_profile(tmp_path / "none" / "x.json", PROFILE)
    with pytest.raises(ProfileError, match="what JSON can't"):
        write_profile(tmp_path / "x.json", PROFILE.with_section("a", {"b": float("nan")}))
    assert list(tmp_path.iterdir()) == []


def test_a_profile_of_another_model_is_refused() -> None:
    PROFILE.check_model("ab" * 32, (4, 0, 2), "tiny")
    with pytest.raises(ProfileError, match="fingerprint abababababab; that of 'other' is cdcdcdcdcdcd"):
        PROFILE.check_model("cd" * 32, (4, 0, 2), "other")
    with pytest.raises(ProfileError, match="has 2 x 4"):
        PROFILE.check_model("ab" * 32, (4, 4), "tiny")


def test_a_signature_is_of_one_digest_and_one_key() -> None:
    one, two = digest_of({"a": 1, "b": 2}), digest_of({"b": 2, "a": 2})
    assert digest_of({"b": 2, "a": 1}) == one != two
    assert is_signed_by(one, signature_of(one, KEY), KEY)
    assert not is_signed_by(two, signature_of(one, KEY), KEY)
    assert not is_signed_by(one, "é", KEY)
