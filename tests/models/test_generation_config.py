"""Test the reading of generation_config.json. Knows nothing of sampling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import GenerationConfig

from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.models.generation_config import GenerationDefaults, read_generation_defaults


def write(folder: Path, name: str = "generation_config.json", **values: object) -> Path:
    (folder / name).write_text(json.dumps(values))
    return folder


def test_absent_files_give_no_defaults(tmp_path: Path) -> None:
    assert read_generation_defaults(tmp_path) == GenerationDefaults()


def test_reads_what_the_oracle_writes(tmp_path: Path) -> None:
    GenerationConfig(
        bos_token_id=1,
        eos_token_id=[2, 3],
        pad_token_id=0,
        do_sample=True,
        temperature=0.6,
        top_k=20,
        top_p=0.9,
    ).save_pretrained(tmp_path)
    defaults = read_generation_defaults(tmp_path)
    assert defaults.eos_token_ids == (2, 3)
    assert (defaults.bos_token_id, defaults.pad_token_id, defaults.decoder_start_token_id) == (1, 0, None)
    assert (defaults.do_sample, defaults.temperature, defaults.top_k, defaults.top_p) == (True, 0.6, 20, 0.9)
    assert "transformers_version" in defaults.other


def test_ids_fall_back_to_the_config(tmp_path: Path) -> None:
    write(tmp_path, eos_token_id=7, temperature=0)
    write(tmp_path, "config.json", eos_token_id=9, pad_token_id=-1, decoder_start_token_id=0, temperature=3.0)
    defaults = read_generation_defaults(tmp_path)
    assert defaults == GenerationDefaults(eos_token_ids=(7,), decoder_start_token_id=0, temperature=0.0)


def test_what_an_answer_may_not_hold_comes_from_either_file(tmp_path: Path) -> None:
    write(tmp_path, suppress_tokens=[5, 6], begin_suppress_tokens=[7], forced_bos_token_id=3)
    write(tmp_path, "config.json", bad_words_ids=[[9], [5]], suppress_tokens=[1])
    defaults = read_generation_defaults(tmp_path)
    assert (defaults.suppressed_ids, defaults.begin_suppressed_ids) == ((9, 5, 6), (7,))
    assert defaults.forced_bos_token_id == 3
    longer = read_generation_defaults(write(tmp_path, bad_words_ids=[[9, 10], [4]]))
    assert (longer.suppressed_ids, longer.other) == ((4, 1), ("bad_words_ids",))


def test_unknown_keys_are_listed(tmp_path: Path) -> None:
    write(tmp_path, twist=1, top_k=0, nothing=None)
    assert read_generation_defaults(tmp_path) == GenerationDefaults(other=("twist",))


@pytest.mark.parametrize(
    "values",
    [
        {"eos_token_id": "2"},
        {"eos_token_id": [1, None]},
        {"eos_token_id": [-1]},
        {"temperature": -0.1},
        {"top_p": 1.5},
        {"top_k": 2.5},
        {"do_sample": 1},
        {"repetition_penalty": 0},
    ],
)
def test_values_that_make_no_sense(tmp_path: Path, values: dict[str, object]) -> None:
    with pytest.raises(UnsupportedConfig, match=next(iter(values))):
        read_generation_defaults(write(tmp_path, **values))


def test_broken_file(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(CheckpointCorrupt, match="generation_config"):
        read_generation_defaults(tmp_path)
