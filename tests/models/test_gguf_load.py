"""A GGUF file is the same model as a folder of the weights that the public package gives back."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import cynosure
from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointNotFound,
    UnsupportedArchitecture,
    UnsupportedConfig,
)
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.read_card import describe
from cynosure.models.checkpoint import open_weights
from cynosure.models.fingerprint import digests_of, fingerprint
from cynosure.models.gguf import config as gguf_config
from cynosure.models.gguf import tensors as gguf_tensors
from cynosure.models.load import LanguageModel, load
from cynosure.models.quantize import scheme_of
from cynosure.models.quantized_folder import quantise_folder
from tests.models.decoder_oracle import logits_of
from tests.models.gguf_files import CODED, MODELS, VOCAB, Kind, write_pair
from tests.models.gguf_vocabularies import byte_level_metadata, cut_like
from tests.models.tiny_tokenizers import write

PROMPT = torch.randint(0, VOCAB, (20,), generator=torch.Generator().manual_seed(1)).tolist()
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gguf_export.py"
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


@torch.no_grad()
def logits(model: LanguageModel) -> Tensor:
    return logits_of(model.graph, PROMPT)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, *CODED], ids=lambda kind: kind.name)
def test_every_kind_of_numbers(tmp_path: Path, kind: Kind) -> None:
    path, folder = write_pair(tmp_path, MODELS["llama"], kind)
    assert torch.equal(logits(load(path, dtype="float32")), logits(load(folder)))


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture(tmp_path: Path, name: str) -> None:
    path, folder = write_pair(tmp_path, MODELS[name])
    ours, theirs = load(path), load(folder)
    if name != "llama3":  # its scaling comes as one number a frequency, instead of four for all
        assert ours.spec == theirs.spec
    expected = logits(theirs)
    assert (logits(ours) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_rows_that_stayed_in_pairs_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = write_pair(tmp_path, MODELS["llama"])
    monkeypatch.setattr(gguf_tensors, "_unpaired", lambda rows, num_heads: rows)
    assert (logits(load(path)) - logits(load(folder))).abs().max() > 0.01


def test_norms_that_kept_their_one_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = write_pair(tmp_path, MODELS["gemma2"])
    monkeypatch.setattr(gguf_tensors, "_GEMMAS", ())
    monkeypatch.setattr(gguf_tensors, "_LAYER", gguf_tensors._GEMMA_LAYER)
    assert (logits(load(path)) - logits(load(folder))).abs().max() > 0.01


@pytest.mark.parametrize(
    ("kind", "dtype"), [(Kind.F32, "float32"), (Kind.F16, "float16"), (Kind.Q4_0, "bfloat16")]
)
def test_what_is_computed_in(tmp_path: Path, kind: Kind, dtype: str) -> None:
    path, folder = write_pair(tmp_path, MODELS["llama"], kind)
    ours = cynosure.load(path)
    assert str(ours.dtype) == f"torch.{dtype}"
    assert torch.equal(logits(ours), logits(load(folder, dtype=dtype)))


@pytest.mark.parametrize(("kind", "dtype"), [(Kind.F16, torch.float16), (Kind.Q8_0, torch.float32)])
def test_as_stored(tmp_path: Path, kind: Kind, dtype: torch.dtype) -> None:
    """Norms are wider in such a file, and no graph computes with two dtypes."""
    model = load(write_pair(tmp_path, MODELS["llama"], kind)[0], dtype="keep")
    assert {parameter.dtype for parameter in model.graph.parameters()} == {dtype}
    assert logits(model).isfinite().all()


def test_codes_are_made_from_what_was_decoded(tmp_path: Path) -> None:
    path, folder = write_pair(tmp_path, MODELS["qwen2"], Kind.Q8_0)
    ours = load(path, dtype="float32", quantize="int8")
    assert torch.equal(logits(ours), logits(load(folder, quantize="int8")))
    assert not torch.equal(logits(ours), logits(load(folder)))


def test_a_card_without_weights(tmp_path: Path) -> None:
    path, folder = write_pair(tmp_path, MODELS["qwen3"], Kind.Q4_0)
    ours = describe(ServedModel("tiny", str(path), dtype="float32"))
    theirs = describe(ServedModel("tiny", str(folder)))
    assert ours.card.folder == str(path)
    assert ours.card.weight_bytes == theirs.card.weight_bytes
    assert ours.cache_bytes_per_token == theirs.cache_bytes_per_token


def test_what_lies_beside_the_weights(tmp_path: Path) -> None:
    vocabulary = byte_level_metadata(cut_like("qwen2"), "qwen2")
    end = vocabulary.pop("tokenizer.ggml.eos_token_id")
    more = {
        **vocabulary,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
        "tokenizer.chat_templates": ["tool_use"],
        "tokenizer.chat_template.tool_use": "tools",
        "general.sampling.temp": 0.5,
        "general.sampling.top_k": 7,
    }
    model = load(write_pair(tmp_path, MODELS["llama"], **more)[0])
    # The file names one end token; its template ends turns with another.
    assert model.generation_defaults.eos_token_ids == (0, end)
    assert model.generation_defaults.temperature == 0.5
    assert model.generation_defaults.top_k == 7
    assert model.chat_template is not None
    assert set(model.chat_template.names) == {"default", "tool_use"}
    rendered = model.chat_template.render([{"role": "user", "content": "<|im_end|>"}])
    model.chat_template.close()
    assert rendered.text == "<|im_start|><|im_end|><|im_end|>"
    assert len(rendered.literals) == 1
    assert model.tokenizer is not None
    assert model.tokenizer.named_tokens["eos_token"] == "<|end|>"


def test_a_model_of_ids_only(tmp_path: Path) -> None:
    model = load(write_pair(tmp_path, MODELS["llama"])[0])
    assert model.tokenizer is None
    assert model.chat_template is None
    assert model.generation_defaults.eos_token_ids == ()


@pytest.mark.parametrize(
    ("name", "more", "error", "words"),
    [
        ("llama", {"llama.attention.causal": False}, UnsupportedConfig, "attention.causal = False"),
        ("llama", {"llama.expert_count": 8}, UnsupportedConfig, "expert_count = 8"),
        ("llama", {"llama.attention.sliding_window": 8}, UnsupportedConfig, "attention.sliding_window = 8"),
        ("llama", {"llama.rope.dimension_count": 32}, UnsupportedConfig, "rope.dimension_count = 32"),
        ("llama", {"llama.vocab_size": 65}, UnsupportedConfig, "vocab_size = 65"),
        ("llama", {"llama.embedding_length": ...}, UnsupportedConfig, "lacks embedding_length"),
        ("llama", {"llama.attention.head_count": [4, 2]}, UnsupportedConfig, "a int is needed"),
        ("llama", {"llama.block_count": 3}, CheckpointCorrupt, "lacks 9 tensors"),
        ("llama", {"llama.block_count": 1}, CheckpointCorrupt, "has 9 tensors"),
        ("llama3", {"llama.rope.scale_linear": 2.0}, UnsupportedConfig, "twice"),
        ("qwen2-yarn", {"qwen2.rope.scaling.type": "longrope"}, UnsupportedConfig, "'longrope'"),
        ("llama", {"general.architecture": "mamba"}, UnsupportedArchitecture, "'mamba'; these are read here"),
        ("gemma3", {"gemma3.attention.sliding_window_pattern": [1, 0]}, UnsupportedConfig, "a int is needed"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, name: str, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    path, _ = write_pair(tmp_path, MODELS[name], **more)
    with pytest.raises(error, match=words):
        load(path)


def test_more_tokens_than_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_pair(tmp_path, MODELS["llama"])
    monkeypatch.setattr(gguf_config, "tokens_of", lambda file: ("a",) * (VOCAB + 1))
    with pytest.raises(CheckpointCorrupt, match=f"lists {VOCAB + 1} tokens and embeds {VOCAB}"):
        load(path)


def test_neutral_keys_pass(tmp_path: Path) -> None:
    more = {
        "llama.expert_count": 0,
        "llama.rope.dimension_count": 64,
        "llama.vocab_size": VOCAB,
        "general.name": "Tiny",
        "tokenizer.ggml.model": "none",
    }
    path, folder = write_pair(tmp_path, MODELS["llama"], **more)
    assert torch.equal(logits(load(path)), logits(load(folder)))


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"PK")
    with pytest.raises(CheckpointNotFound, match="or a GGUF file"):
        load(path)


def test_a_file_that_became_shorter(tmp_path: Path) -> None:
    path, _ = write_pair(tmp_path, MODELS["llama"], Kind.Q8_0)
    weights = open_weights(path)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(CheckpointCorrupt, match="shorter"):
        weights.tensor(weights.names()[-1])


@pytest.mark.parametrize(
    ("name", "kind", "scheme"),
    [
        ("llama", Kind.BF16, "int8"),
        ("llama3", Kind.F32, "int4"),
        ("qwen2-yarn", Kind.Q8_0, "int4-pure"),
        ("gemma3", Kind.Q4_K, "int8"),
    ],
)
def test_a_file_is_quantised_into_a_folder(tmp_path: Path, name: str, kind: Kind, scheme: str) -> None:
    path, _ = write_pair(tmp_path, MODELS[name], kind)
    written = quantise_folder(path, scheme_of(scheme), tmp_path / "out")
    ours, theirs = load(written.folder), load(path, quantize=scheme)
    assert ours.spec == theirs.spec
    assert ours.dtype == theirs.dtype
    expected = theirs.graph.state_dict()
    assert ours.graph.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.graph.state_dict().items())
    assert torch.equal(logits(ours), logits(theirs))
    assert written.bytes_before == path.stat().st_size
    assert ours.tokenizer is None


@pytest.mark.parametrize("pre", ["qwen2", "llama-bpe"])
def test_a_folder_made_of_a_file_converses_as_the_file(tmp_path: Path, pre: str) -> None:
    more = {
        **byte_level_metadata(cut_like(pre), pre),
        "tokenizer.chat_template": TEMPLATE,
        "tokenizer.chat_templates": ["../tool_use"],
        "tokenizer.chat_template.../tool_use": "tools",
        "general.sampling.temp": 0.5,
    }
    path, _ = write_pair(tmp_path, MODELS["llama"], **more)
    out = quantise_folder(path, scheme_of("int8"), tmp_path / "made" / "out").folder
    ours, theirs = load(out), load(path)
    assert ours.generation_defaults == theirs.generation_defaults
    assert ours.tokenizer is not None
    assert theirs.tokenizer is not None
    assert ours.tokenizer.named_tokens == theirs.tokenizer.named_tokens
    assert ours.tokenizer.control_tokens == theirs.tokenizer.control_tokens
    for text in ("the star is called cynosure 123", "Größe <|im_end|> 🙂", "", "  a\n\n b"):
        assert ours.tokenizer.encode(text) == theirs.tokenizer.encode(text)
        assert ours.tokenizer.encode_prompt(text) == theirs.tokenizer.encode_prompt(text)
    assert ours.chat_template is not None
    assert ours.chat_template.render([{"role": "user", "content": "x"}]).text == "<|im_start|>x<|im_end|>"
    # A template's name does not lead out of its folder.
    assert (out / "additional_chat_templates" / ".._tool_use.jinja").read_text() == "tools"
    assert sorted(path.name for path in out.parent.iterdir()) == ["out"]


def test_the_fingerprint_is_of_the_file(tmp_path: Path) -> None:
    path, _ = write_pair(tmp_path, MODELS["llama"])
    first = fingerprint(path, digests_of(path))
    path.write_bytes(path.read_bytes() + b"\0")
    assert fingerprint(path, digests_of(path)) != first


def test_what_the_benchmark_exports_is_its_folder(tmp_path: Path) -> None:
    """`benchmarks/gguf_export.py` is no part of the package, and reads bfloat16 alone."""
    spec = importlib.util.spec_from_file_location("gguf_export", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vocabulary = byte_level_metadata(cut_like("gpt-2"), "gpt-2")
    _, folder = write_pair(tmp_path, replace(MODELS["llama"], is_tied=True), Kind.BF16, **vocabulary)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "llama", "eos_token_id": 0, "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(config))
    write(folder, cut_like("gpt-2"), tokenizer_config={"chat_template": TEMPLATE, "eos_token": "<|end|>"})
    weights = load_file(folder / "model.safetensors")
    save_file({name: one.bfloat16() for name, one in weights.items()}, folder / "model.safetensors")
    module.export(folder, tmp_path / "exported.gguf")
    ours, theirs = load(tmp_path / "exported.gguf"), load(folder)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(logits(ours), logits(theirs))
    assert ours.tokenizer is not None
    assert theirs.tokenizer is not None
    assert ours.tokenizer.encode("the 12 <|end|>") == theirs.tokenizer.encode("the 12 <|end|>")
    assert ours.generation_defaults.eos_token_ids[0] == theirs.generation_defaults.eos_token_ids[0]
