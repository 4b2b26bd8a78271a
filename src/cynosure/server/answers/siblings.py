"""Continue one prompt several times, and read it once. Knows nothing of text or protocols."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from dataclasses import replace

from cynosure.engine.sampling import MAX_SEED
from cynosure.server.services import CompletionModel, Generation, Tokens


def continued(model: CompletionModel, asked: Generation, count: int) -> list[Tokens]:
    """`count` sequences, each drawn by itself; the first is checked and begun at once.

    The others begin when it has read the prompt, whose pages then serve them all. So the first must be read
    before them, or beside them. Where there is a seed, sequence i draws with `seed + i`.
    """
    if count > 1:
        asked = replace(asked, group=uuid.uuid4().hex)
    first = model.complete(asked)
    if count == 1:
        return [first]
    is_read = asyncio.Event()
    return [
        _telling(first, is_read),
        *(_waiting(model, _sibling(asked, place), is_read) for place in range(1, count)),
    ]


def _sibling(asked: Generation, place: int) -> Generation:
    seed = asked.sampling.seed
    if seed is not None:
        seed = (seed + place) % (MAX_SEED + 1)
    return replace(asked, sampling=replace(asked.sampling, seed=seed, prompt_logprobs=None), is_sibling=True)


async def _telling(tokens: Tokens, is_read: asyncio.Event) -> Tokens:
    try:
        async with aclosing(tokens):
            async for together in tokens:
                is_read.set()
                yield together
    finally:
        is_read.set()


async def _waiting(model: CompletionModel, asked: Generation, is_read: asyncio.Event) -> Tokens:
    await is_read.wait()
    async with aclosing(model.complete(asked)) as tokens:
        async for together in tokens:
            yield together
