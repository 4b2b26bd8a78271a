from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from cynosure.cli.editor import local_filler as module
from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import Filling, Gap, Question
from cynosure.cli.editor.local_filler import LocalFiller, load_filler, model_source
from cynosure.core.errors import CheckpointNotFound, InputTooLong, UnknownOption
from cynosure.models.fill_in import fill_in
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.services import Generation, Tokens

TEXT = "the star\r\na sailor \r\nsteers\r\n"
GAP = Gap(TEXT, TEXT.index(" \r\n") + 1)


def fill(filler: LocalFiller, question: Question) -> Filling:
    return asyncio.run(filler.fill(question))


def test_it_writes_what_the_oracle_writes(
    filler: LocalFiller, gap_model: Path, gap_oracle: transformers.LlamaForCausalLM
) -> None:
    tokenizer = Tokenizer.from_folder(gap_model)
    prompt = fill_in(tokenizer, GAP.prefix, GAP.suffix)
    ids = torch.tensor([prompt.token_ids])
    out = gap_oracle.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, pad_token_id=0
    )
    expected = tokenizer.decode(out[0, ids.shape[1] :].tolist()).partition("\n")[0]
    told = fill(filler, Question(GAP, max_tokens=24))
    assert told.text == expected
    assert told.text.strip()
    assert told.window == (0, len(TEXT))
    assert told.num_prompt_tokens == len(prompt.token_ids)
    assert 0 < told.first_ms <= told.total_ms


def test_the_models_own_end_of_a_gap_ends_it(filler: LocalFiller, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Generation] = []
    complete = filler.model.complete

    def spied(one: Generation, tenant: str = "") -> Tokens:
        asked.append(one)
        return complete(one, tenant)

    monkeypatch.setattr(filler.model, "complete", spied)
    fill(filler, Question(GAP, max_tokens=4))
    end = filler.model.tokenizer.token_to_id("<|endoftext|>")
    assert [one.sampling.stop_token_ids for one in asked] == [(end,)]


def test_known_names_hold_it_to_them(filler: LocalFiller) -> None:
    gap = Gap("pole = sailor\n\n", 14)
    free = fill(filler, Question(gap, max_tokens=40))
    held = fill(filler, Question(gap, names=("pole", "sailor"), max_tokens=40))
    assert held.text != free.text
    assert set(re.findall(r"[^\W\d]\w*", free.text)) - {"pole", "sailor"}


def test_a_long_text_is_a_window(filler: LocalFiller) -> None:
    text = "the star\n" * 400
    told = fill(filler, Question(Gap(text, len(text) // 2), max_tokens=8))
    start, end = told.window
    assert 0 < start < len(text) // 2 < end < len(text)
    assert text[start - 1] == text[end - 1] == "\n"
    assert told.num_prompt_tokens is not None
    assert told.num_prompt_tokens <= 504


def test_more_tokens_than_the_model_takes_are_refused(filler: LocalFiller) -> None:
    with pytest.raises(InputTooLong):
        fill(filler, Question(GAP, max_tokens=511))


def test_whoever_leaves_takes_the_work_back(gap_model: Path) -> None:
    filler = load_filler(str(gap_model), "float32")

    async def leave() -> None:
        task = asyncio.ensure_future(filler.fill(Question(GAP, Extent.BLOCK, max_tokens=400)))
        ended = time.monotonic() + 20
        while not filler.model.engine.load.num_running:
            assert time.monotonic() < ended
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    filler.close()
    snapshot = filler.model.engine.snapshot
    assert snapshot.num_running == snapshot.num_waiting == 0


def test_a_model_without_gaps_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UnknownOption, match="can't fill in"):
        load_filler(str(checkpoint))


def test_the_pack_is_taken_where_nothing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_source("other") == ("other", "other")
    monkeypatch.setattr(module, "pack_folder", lambda name: Path("/pack") / name)
    assert model_source(None) == ("core-lm", "/pack/core-lm")

    def none(name: str) -> Path:
        raise CheckpointNotFound("no pack.")

    monkeypatch.setattr(module, "pack_folder", none)
    with pytest.raises(CheckpointNotFound, match="--model FOLDER"):
        model_source(None)


def test_a_filling_is_a_value(filler: LocalFiller) -> None:
    told = fill(filler, Question(GAP, max_tokens=4))
    assert replace(told, total_ms=0) != told
