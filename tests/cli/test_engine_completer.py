from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers

from cynosure.cli.local_completer import load_completer
from cynosure.core.errors import CheckpointNotFound, EmptyInput, InputTooLong, UnsupportedArchitecture
from cynosure.models.tokenizer import Tokenizer
from cynosure.server.services import Sampling
from tests.cli.conftest import continuation


def test_tokens_are_text_that_is_final_and_the_last_says_why(
    checkpoint: Path, oracle: transformers.LlamaForCausalLM
) -> None:
    model = load_completer("tiny", checkpoint, dtype="float32")
    prompt = model.encode("a sailor")
    tokens = list(model.complete(prompt, Sampling(40, 0.0)))
    ids = continuation(oracle, "a sailor", 40)
    assert "".join(token.text for token in tokens) == Tokenizer.from_folder(checkpoint).decode(ids)
    assert [token.finish_reason for token in tokens[:-1]] == [None] * (len(tokens) - 1)
    assert tokens[-1].finish_reason == ("stop" if ids[-1] == 0 else "length")


def test_the_end_token_ends_and_is_no_text(
    checkpoint: Path, oracle: transformers.LlamaForCausalLM, tmp_path: Path
) -> None:
    ids = continuation(oracle, "a sailor", 10)
    folder = shutil.copytree(checkpoint, tmp_path / "ends")
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {ids[4]}}}')
    model = load_completer("tiny", folder, dtype="float32")
    tokens = list(model.complete(model.encode("a sailor"), Sampling(10, 0.0)))
    length = ids.index(ids[4]) + 1
    assert len(tokens) == length
    assert tokens[-1].finish_reason == "stop"
    text = Tokenizer.from_folder(checkpoint).decode(ids[: length - 1])
    assert "".join(token.text for token in tokens) == text


def test_what_is_wrong_shows_before_the_first_token(checkpoint: Path) -> None:
    model = load_completer("tiny", checkpoint)
    assert model.max_model_len == 128
    with pytest.raises(EmptyInput):
        model.complete([], Sampling(1, 0.0))
    with pytest.raises(InputTooLong, match="limit is 128"):
        model.complete([1] * 100, Sampling(29, 0.0))


def test_a_folder_without_a_tokenizer_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "mute")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointNotFound, match=r"tokenizer\.json"):
        load_completer("mute", folder)


def test_a_model_that_does_not_continue_text_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    shutil.copy(checkpoint / "tokenizer.json", tmp_path)
    with pytest.raises(UnsupportedArchitecture, match="need a decoder"):
        load_completer("bert", tmp_path)
