"""Follow sequences that are written down: text, tokens and their places, several at once, and leaving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from cynosure.core.errors import EngineFault
from cynosure.engine.sampling import SamplingParams
from cynosure.server.answers.continuation import Continuation, Piece
from cynosure.server.answers.interleave import interleaved
from cynosure.server.answers.siblings import continued
from cynosure.server.presence import ClientGone, while_present
from cynosure.server.services import Generation, Token, Tokens
from cynosure.server.stop_text import StopText


async def tokens_of(*texts: str, end: str = "length") -> Tokens:
    for place, text in enumerate(texts):
        yield [Token(text, token_id=place)]
    yield [Token("", end, 3)]


def followed(texts: tuple[str, ...], stop: StopText, end: str = "length") -> tuple[list[Piece], Continuation]:
    sequence = Continuation(tokens_of(*texts, end=end), stop)

    async def collect() -> list[Piece]:
        return [piece async for together in sequence.pieces() for piece in together]

    return asyncio.run(collect()), sequence


def test_text_comes_with_its_tokens() -> None:
    pieces, sequence = followed(("a", "", "bc", ""), StopText(()))
    assert [piece.text for piece in pieces] == ["a", "bc", ""]
    places = [[(placed.token.token_id, placed.start) for placed in piece.tokens] for piece in pieces]
    # What gave no text goes out with the text that it is before, or at the end.
    assert places == [[(0, 0)], [(1, 1), (2, 1)], [(3, 3)]]
    assert (sequence.num_tokens, sequence.num_cached, sequence.end) == (4, 3, "length")


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_stop_string_s_tokens_are_counted_and_kept_back(is_kept: bool) -> None:
    pieces, sequence = followed(("one ", "st", "op", " more"), StopText(["stop"], is_kept=is_kept))
    assert "".join(piece.text for piece in pieces) == ("one stop" if is_kept else "one ")
    ids = [placed.token.token_id for piece in pieces for placed in piece.tokens]
    assert ids == ([0, 1, 2] if is_kept else [0])
    assert (sequence.num_tokens, sequence.end) == (3, "stop")


def test_what_a_stop_string_might_have_been_comes_at_the_end() -> None:
    pieces, sequence = followed(("one st",), StopText(["stop"]), end="stop")
    assert [piece.text for piece in pieces] == ["one ", "st"]
    assert sequence.end == "stop"


def test_begin_shows_a_failure_and_loses_no_token() -> None:
    async def broken() -> Tokens:
        yield []  # as where a guard holds back what came
        raise EngineFault("no")

    async def run() -> str:
        with pytest.raises(EngineFault):
            await Continuation(broken(), StopText(())).begin()
        sequence = Continuation(tokens_of("a", "b"), StopText(()))
        await sequence.begin()
        await sequence.begin()
        return "".join([piece.text async for together in sequence.pieces() for piece in together])

    assert asyncio.run(run()) == "ab"


async def counting(count: int, closed: list[int], place: int, fails: bool = False) -> AsyncGenerator[int]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            yield number
        if fails:
            raise ValueError("broken")
    finally:
        closed.append(place)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_streams_are_taken_as_they_come(count: int) -> None:
    closed: list[int] = []

    async def run() -> list[tuple[int, int]]:
        return [item async for item in interleaved([counting(7, closed, i) for i in range(count)])]

    found = asyncio.run(run())
    for place in range(count):
        assert [item for at, item in found if at == place] == list(range(7))
    assert sorted(closed) == list(range(count))
    assert count == 1 or [at for at, _ in found[: 2 * count]] != [0] * 2 * count


def test_one_failure_ends_all_and_leaving_closes_all() -> None:
    closed: list[int] = []

    async def fail() -> None:
        streams = [counting(10**9, closed, 0), counting(3, closed, 1, fails=True)]
        with pytest.raises(ValueError, match="broken"):
            async for _ in interleaved(streams):
                pass

    async def leave() -> None:
        items = interleaved([counting(10**9, closed, place) for place in (2, 3)])
        await anext(items)
        await items.aclose()

    asyncio.run(fail())
    asyncio.run(leave())
    assert sorted(closed) == [0, 1, 2, 3]


class Model:
    """Notes when each sequence is begun."""

    def __init__(self) -> None:
        self.log: list[object] = []

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        self.log.append((asked.sampling.seed, asked.is_sibling))
        return self._tokens()

    async def _tokens(self) -> Tokens:
        await asyncio.sleep(0)
        self.log.append("token")
        yield [Token("a", "length", token_id=0)]


def test_siblings_begin_when_the_prompt_was_read() -> None:
    model = Model()
    asked = Generation((1,), SamplingParams(max_tokens=1, seed=2**63 - 1, prompt_logprobs=1))

    async def run() -> None:
        sequences = continued(model, asked, 3)  # type: ignore[arg-type]
        assert model.log == [(2**63 - 1, False)], "the first is checked at once"
        async for _ in interleaved(sequences):
            pass

    asyncio.run(run())
    assert model.log[1] == "token"
    assert model.log.count("token") == 3
    assert [item for item in model.log[2:] if item != "token"] == [(0, True), (1, True)]


class Asked:
    """A request whose client leaves when told to."""

    def __init__(self) -> None:
        self.leaves = asyncio.Event()

    async def receive(self) -> dict[str, str]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}


def present(work: Callable[[Asked], Coroutine[Any, Any, object]]) -> object:
    async def run() -> object:
        request = Asked()
        return await while_present(request, work(request))  # type: ignore[arg-type]

    return asyncio.run(run())


def test_work_is_done_for_who_stays_and_cancelled_for_who_leaves() -> None:
    ended: list[str] = []

    async def quick(_: Asked) -> str:
        return "done"

    async def broken(_: Asked) -> str:
        raise EngineFault("no")

    async def long(request: Asked) -> None:
        request.leaves.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    assert present(quick) == "done"
    with pytest.raises(EngineFault):
        present(broken)
    with pytest.raises(ClientGone):
        present(long)
    assert ended == ["cancelled"]
