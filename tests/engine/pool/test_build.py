from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.engine.pool.build import identity_of
from cynosure.engine.pool.read_card import describe
from cynosure.engine.settings import EngineSettings
from tests.engine.pool.pool_cases import folder_of, served


def test_the_same_weights_in_another_folder_are_the_same(tmp_path: Path) -> None:
    one = served("llama")
    card = describe(one, "auto").card
    shutil.copytree(folder_of("llama"), tmp_path / "copy")
    assert identity_of(one, card, EngineSettings()) == identity_of(
        one, replace(card, folder=str(tmp_path / "copy")), EngineSettings()
    )


@pytest.mark.parametrize("what", ["weights", "config", "dtype", "quantize", "length", "kernels", "backend"])
def test_whatever_shapes_a_page_is_in_it(tmp_path: Path, what: str) -> None:
    one, settings = served("llama"), EngineSettings()
    card = describe(one, "auto").card
    before = identity_of(one, card, settings)
    shutil.copytree(folder_of("llama"), tmp_path / "copy")
    if what in ("weights", "config"):
        card = replace(card, folder=str(tmp_path / "copy"))
        file = tmp_path / "copy" / {"weights": "model.safetensors", "config": "config.json"}[what]
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif what == "kernels":
        settings = replace(settings, kernels="torch")
    elif what == "dtype":
        card = replace(card, dtype="bfloat16")
    else:
        change = {
            "quantize": {"quantize": "int8"},
            "length": {"max_model_len": 7},
            "backend": {"backend": "sdpa"},
        }
        one = replace(one, **change[what])  # type: ignore[arg-type]
    assert identity_of(one, card, settings) != before
