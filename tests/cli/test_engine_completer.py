from __future__ import annotations

import asyncio
import gc
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_completer import load_completer
from cynosure.core.errors import CheckpointNotFound, EmptyInput, InputTooLong, UnsupportedArchitecture
from cynosure.engine import SamplingParams
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.services import Generation, Token
from tests.cli.conftest import continuation


def said(model: EngineCompleter, prompt: Sequence[int], max_tokens: int) -> list[Token]:
    async def collect() -> list[Token]:
        sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0)
        asked = Generation(tuple(prompt), sampling)
        return [token async for together in model.complete(asked) for token in together]

    return asyncio.run(collect())


def test_tokens_are_text_that_is_final_and_the_last_says_why(
    checkpoint: Path, oracle: transformers.LlamaForCausalLM
) -> None:
    model = load_completer("tiny", checkpoint, dtype="float32")
    prompt = model.encode("a sailor")
    tokens = said(model, prompt, 40)
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
    tokens = said(model, model.encode("a sailor"), 10)
    length = ids.index(ids[4]) + 1
    assert len([token for token in tokens if token.token_id is not None]) == length
    assert tokens[-1].finish_reason == "stop"
    text = Tokenizer.from_folder(checkpoint).decode(ids[: length - 1])
    assert "".join(token.text for token in tokens) == text


def test_what_is_wrong_shows_before_the_first_token(checkpoint: Path) -> None:
    model = load_completer("tiny", checkpoint)
    assert model.max_model_len == 128
    with pytest.raises(EmptyInput):
        said(model, [], 1)
    with pytest.raises(InputTooLong, match="limit is 128"):
        said(model, [1] * 100, 29)


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


def test_a_continuation_that_is_closed_early_is_taken_back(checkpoint: Path) -> None:
    model = load_completer("tiny", checkpoint)

    async def first() -> None:
        tokens = model.complete(Generation((1, 2, 3), SamplingParams(max_tokens=100, temperature=0.0)))
        await anext(tokens)
        await tokens.aclose()

    asyncio.run(first())
    model.close()
    snapshot = model.engine.snapshot
    assert snapshot.num_running == snapshot.num_waiting == 0
    assert snapshot.num_free_blocks + snapshot.num_cached_blocks == snapshot.num_blocks


def test_one_that_is_dropped_before_its_first_token_is_taken_back_too(checkpoint: Path) -> None:
    model = load_completer("tiny", checkpoint)

    async def drop() -> None:
        tokens = model.complete(Generation((1, 2, 3), SamplingParams(max_tokens=100, temperature=0.0)))
        await tokens.aclose()

    asyncio.run(drop())
    gc.collect()
    ended = time.monotonic() + 5
    while model.engine.snapshot.num_running + model.engine.snapshot.num_waiting:
        assert time.monotonic() < ended
    model.close()


def test_many_at_once_get_what_each_gets_alone(checkpoint: Path) -> None:
    model = load_completer("tiny", checkpoint, dtype="float32")
    prompts = [[1, 2, 3], [4, 5], list(range(1, 40)), [7] * 20]
    sampling = SamplingParams(max_tokens=15, temperature=0.0)

    async def text(prompt: Sequence[int]) -> str:
        asked = Generation(tuple(prompt), sampling)
        return "".join([token.text async for together in model.complete(asked) for token in together])

    async def together() -> list[str]:
        return list(await asyncio.gather(*map(text, prompts)))

    crowd = asyncio.run(together())
    assert crowd == [asyncio.run(text(prompt)) for prompt in prompts]
    model.close()
