"""A card says what a model turns out to be, before a weight is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cynosure.core.errors import (
    CheckpointCorrupt,
    InputError,
    UnknownOption,
    UnsupportedArchitecture,
    UnsupportedConfig,
)
from cynosure.engine.features import FeatureShape
from cynosure.engine.pool import ModelRole, PoolSettings, ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.engine.pool.resident import load_resident
from cynosure.engine.settings import EngineSettings
from cynosure.engine.turnstile import Turnstile
from tests.engine.pool.pool_cases import folder_of, served
from tests.models.seq2seq_cases import ANSWER_LEN, MAX_LEN, NUM_BINS, NUM_FRAMES

CACHE = 1 << 18


@pytest.mark.parametrize("kind", ["llama", "t5", "whisper", "led", "embedder", "ranker", "classifier"])
@pytest.mark.parametrize("options", [{}, {"dtype": "bfloat16"}, {"quantize": "int8"}], ids=str)
def test_the_weights_take_what_the_card_says(kind: str, options: dict[str, str]) -> None:
    model = served(kind, **options)
    found = describe(model)
    # Packed for native kernels, matrices are filled up to whole tiles.
    plain = PoolSettings(engine=EngineSettings(kernels="torch"))
    resident = load_resident(model, found.card, plain, CACHE, Turnstile())
    cache = CACHE if found.cache_bytes_per_token else 0
    assert resident.num_bytes - cache == found.card.weight_bytes
    assert bool(cache) == found.card.role.generates
    resident.close()


@pytest.mark.parametrize("kind", ["llama", "t5", "embedder", "classifier"])
def test_packed_weights_count(kind: str) -> None:
    model = served(kind, dtype="bfloat16")
    card = describe(model).card
    resident = load_resident(model, card, PoolSettings(), CACHE, Turnstile())
    assert resident.num_bytes - CACHE * card.role.generates >= card.weight_bytes
    resident.close()


def test_quantised_models_take_less() -> None:
    plain, coded = (describe(served("llama", quantize=code)).card for code in (None, "int8"))
    assert coded.weight_bytes < plain.weight_bytes


def test_a_cache_in_eight_bits_takes_less() -> None:
    wide, narrow = (describe(served("llama"), kind) for kind in ("auto", "int8"))
    assert 0 < narrow.cache_bytes_per_token < wide.cache_bytes_per_token


def test_no_weight_is_looked_at(tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("llama"), tmp_path / "llama")
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    weights.write_bytes(content[:start] + b"\xff" * (len(content) - start))
    model = ServedModel("llama", str(folder))
    card = describe(model).card
    with pytest.raises(CheckpointCorrupt, match="NaN"):
        load_resident(model, card, PoolSettings(), CACHE, Turnstile())


def test_roles_are_checked() -> None:
    assert describe(served("ranker", role=ModelRole.CLASSIFIER)).card.role is ModelRole.CLASSIFIER
    assert describe(served("llama", role=ModelRole.DECODER)).card.role is ModelRole.DECODER
    for kind, role in (
        ("llama", ModelRole.RANKER),
        ("embedder", ModelRole.RANKER),
        ("t5", ModelRole.DECODER),
    ):
        with pytest.raises(InputError, match=role.value):
            describe(served(kind, role=role))
    with pytest.raises(InputError, match="3 outputs"):
        describe(served("classifier", role=ModelRole.RANKER))


def test_what_answers_nothing_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedArchitecture, match="BertModel, which answers no request"):
        describe(served("encoder"))
    with pytest.raises(UnknownOption, match="'magic'"):
        describe(served("llama", backend="magic"))
    with pytest.raises(UnknownOption):
        describe(served("llama", quantize="int3"))


def test_a_length_is_for_models_that_generate() -> None:
    assert describe(served("llama", max_model_len=50)).card.max_model_len == 50
    assert describe(served("ranker", max_model_len=50)).card.max_tokens == 48


def test_an_encoder_decoder_says_what_it_reads_and_how_much() -> None:
    whisper, led, t5 = (describe(served(kind)).card for kind in ("whisper", "led", "t5"))
    assert whisper.features == FeatureShape(NUM_BINS, NUM_FRAMES)
    assert (whisper.max_tokens, whisper.max_model_len) == (NUM_FRAMES // 2, MAX_LEN)
    assert (led.features, led.max_tokens, led.max_model_len) == (None, MAX_LEN, ANSWER_LEN)
    assert (t5.max_tokens, t5.max_model_len) == (None, None)
    assert [card.longest for card in (whisper, led, t5)] == [
        NUM_FRAMES // 2 + MAX_LEN,
        MAX_LEN + ANSWER_LEN,
        None,
    ]
    assert describe(served("llama", max_model_len=50)).card.longest == 50
    short = describe(served("led", max_model_len=50)).card
    assert (short.max_tokens, short.max_model_len) == (50, 50)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("suppress_tokens", [3, 200], r"tokens \[200\]; the vocabulary is 0\.\.199"),
        ("forced_bos_token_id", 999, r"tokens \[999\]"),
        ("bad_words_ids", [[1, 2]], "several tokens"),
    ],
)
def test_rules_that_can_not_be_kept_are_refused(tmp_path: Path, key: str, value: object, words: str) -> None:
    folder = shutil.copytree(folder_of("bart"), tmp_path / "bart")
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UnsupportedConfig, match=words):
        describe(ServedModel("bart", str(folder)))


def test_an_encoder_decoder_must_say_what_answers_begin_with(tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("t5"), tmp_path / "t5")
    (folder / "generation_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config.pop("decoder_start_token_id")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedConfig, match="decoder_start_token_id"):
        describe(ServedModel("t5", str(folder)))


def test_packed_weights_are_kept_for_the_next_time(tmp_path: Path) -> None:
    model = served("llama", dtype="bfloat16")
    card = describe(model).card
    settings = PoolSettings(packed_folder=tmp_path / "packed")
    sizes = []
    for _ in range(2):
        resident = load_resident(model, card, settings, CACHE, Turnstile())
        sizes.append(resident.num_bytes)
        resident.close()
    assert len([*(tmp_path / "packed").iterdir()]) == 1
    assert sizes[0] == sizes[1] >= card.weight_bytes + CACHE
