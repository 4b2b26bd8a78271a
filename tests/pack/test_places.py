"""The pack is whole, small enough, and says what it lacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cynosure.core.errors import CheckpointNotFound
from cynosure.pack import CORE_LM, RANKER, is_demonstration, pack_bytes, pack_folder

#: What a repository or a wheel may carry for it.
MAX_BYTES = 60_000_000


@pytest.mark.parametrize("name", [RANKER, CORE_LM])
def test_each_model_is_whole_and_says_how_it_was_made(name: str) -> None:
    folder = pack_folder(name)
    for file in ("config.json", "tokenizer.json", "model.safetensors", "recipe.json", "README.md"):
        assert (folder / file).stat().st_size > 0, file
    recipe = json.loads((folder / "recipe.json").read_text())
    assert {"seed", "versions", "data_sha256"} <= recipe.keys()


def test_the_pack_stays_small() -> None:
    assert 0 < pack_bytes() <= MAX_BYTES


def test_bytes_are_counted_over_all_models(tmp_path: Path) -> None:
    for name, size in (("a", 3), ("b", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(size))
    assert pack_bytes(tmp_path) == 7


def test_a_missing_model_is_named_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.safetensors").touch()
    with pytest.raises(CheckpointNotFound, match=r"no model 'ranker'; it has other.*cynosure train ranker"):
        pack_folder(RANKER, tmp_path)
    # A folder without weights is none.
    (tmp_path / "ranker").mkdir()
    with pytest.raises(CheckpointNotFound, match="no model 'ranker'"):
        pack_folder(RANKER, tmp_path)


def test_a_recipe_says_whether_its_model_is_a_demonstration(tmp_path: Path) -> None:
    assert not is_demonstration(tmp_path)
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"standing": "useful"}')
    assert not is_demonstration(tmp_path)
    recipe.write_text('{"standing": "demonstration"}')
    assert is_demonstration(tmp_path)
