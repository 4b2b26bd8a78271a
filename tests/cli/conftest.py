"""Make what the commands need: a small index with the real embedder, tiny decoders. Knows no command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from cynosure.cli.editor.local_filler import LocalFiller, load_filler
from cynosure.cli.python_docs import index_path, reference_of
from cynosure.models.embedder import Embedder
from cynosure.models.fill_in import FORMS
from cynosure.models.minilm import load_minilm
from cynosure.retrieval import build_index, read_python_docs
from tests.models.tiny_tokenizers import byte_level, write

SOME_MODULES = {"heapq", "shlex", "bisect", "textwrap"}


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return load_minilm()


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    """An index of a few modules, where the commands look for the index of all."""
    folder = tmp_path_factory.mktemp("index")
    documentation = read_python_docs(reference=reference_of(None))
    some = tuple(entry for entry in documentation.entries if entry.module in SOME_MODULES)
    assert len(some) > 20
    build_index(index_path(folder), replace(documentation, entries=some), embedder)
    return folder


def _drawn(seed: int, vocab_size: int, max_model_len: int) -> transformers.LlamaForCausalLM:
    """A small Llama of transformers' whose weights are as large as trained ones."""
    torch.manual_seed(seed)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(
        vocab_size=vocab_size, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=max_model_len,
        bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return model


@pytest.fixture(scope="session")
def oracle() -> transformers.LlamaForCausalLM:
    return _drawn(seed=3, vocab_size=325, max_model_len=128)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, oracle: transformers.LlamaForCausalLM) -> Path:
    """A random-weight Llama with a tokenizer whose tokens are pieces of characters."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    oracle.save_pretrained(folder)
    return write(folder, byte_level())


@pytest.fixture(scope="session")
def gap_oracle() -> transformers.LlamaForCausalLM:
    return _drawn(seed=5, vocab_size=329, max_model_len=512)


@pytest.fixture(scope="session")
def gap_model(tmp_path_factory: pytest.TempPathFactory, gap_oracle: transformers.LlamaForCausalLM) -> Path:
    """A random-weight Llama whose tokenizer knows gaps as Qwen's and the pack's do."""
    folder = tmp_path_factory.mktemp("tiny-gaps")
    gap_oracle.save_pretrained(folder)
    tokenizer = byte_level()
    tokenizer.add_special_tokens([*FORMS[0].tokens, FORMS[0].ends[0]])
    return write(folder, tokenizer)


@pytest.fixture(scope="module")
def filler(gap_model: Path) -> Iterator[LocalFiller]:
    filler = load_filler(str(gap_model), "float32")
    yield filler
    filler.close()


def continuation(oracle: transformers.LlamaForCausalLM, prompt: str, count: int) -> list[int]:
    """The oracle's greedy tokens."""
    ids = torch.tensor([byte_level().encode(prompt).ids])
    given = oracle.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, pad_token_id=0
    )
    return given[0, ids.shape[1] :].tolist()
