from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import Filler
from cynosure.cli.editor.open_document import OpenDocument, Position
from cynosure.cli.editor.proposals import Proposals, file_of
from cynosure.core.errors import CheckpointNotFound, NotFound
from tests.cli.editor.fake_filler import FakeFiller

URI, OTHER = "file:///a.py", "file:///b.py"
END = Position(0, 99)


def with_open(
    filler: FakeFiller, told: Callable[[Proposals], Coroutine[None, None, None]], *, any_names: bool = True
) -> None:
    proposals = Proposals(lambda: filler, any_names=any_names)
    for uri in (URI, OTHER):
        proposals.open(uri, OpenDocument("width = wid"), None, is_python=uri == URI)
    try:
        asyncio.run(told(proposals))
    finally:
        proposals.close()
    assert filler.is_closed


async def until(is_so: Callable[[], bool]) -> None:
    ended = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < ended
        await asyncio.sleep(0.001)


def test_a_question_is_about_the_text_as_it_is() -> None:
    filler = FakeFiller()

    async def told(proposals: Proposals) -> None:
        filling = await proposals.fill(URI, Position(0, 3), "inline", Extent.BLOCK)
        assert filling is not None
        assert filling.text == "said"
        proposals.change(URI, lambda document: document.changed(END, END, "th"))
        await proposals.fill(URI, END, "inline", Extent.LINE)

    with_open(filler, told)
    first, second = filler.asked
    assert (first.gap.prefix, first.gap.suffix, first.extent, first.names) == (
        "wid", "th = wid", Extent.BLOCK, None,
    )  # fmt: skip
    assert (second.gap.prefix, second.extent) == ("width = width", Extent.LINE)


def test_names_are_asked_about_in_python_alone() -> None:
    filler = FakeFiller()

    async def told(proposals: Proposals) -> None:
        await proposals.fill(URI, END, "inline", Extent.LINE)
        await proposals.fill(OTHER, END, "inline", Extent.LINE)

    with_open(filler, told, any_names=False)
    assert filler.asked[0].names is not None
    assert {"width", "os"} <= {*filler.asked[0].names}
    assert filler.asked[1].names is None


def test_the_next_question_and_a_change_end_the_last() -> None:
    filler = FakeFiller(None)

    async def told(proposals: Proposals) -> None:
        def ask(uri: str, kind: str) -> asyncio.Task[object]:
            return asyncio.ensure_future(proposals.fill(uri, END, kind, Extent.LINE))

        first, listed, other = ask(URI, "inline"), ask(URI, "list"), ask(OTHER, "inline")
        await until(lambda: len(filler.asked) == 3)
        second = ask(URI, "inline")
        assert await first is None
        await until(lambda: len(filler.asked) == 4)
        assert len(filler.ended) == 1
        proposals.change(URI, lambda document: document)
        assert await second is None
        assert await listed is None
        assert len(filler.ended) == 3
        assert not other.done()
        other.cancel()
        with pytest.raises(asyncio.CancelledError):
            await other
        assert len(filler.ended) == 4

    with_open(filler, told)


def test_who_asks_may_come_before_the_model_and_leave_without_it() -> None:
    filler = FakeFiller()

    def slowly() -> Filler:
        time.sleep(0.2)
        return filler

    async def told(proposals: Proposals) -> None:
        proposals.open(URI, OpenDocument("a"), None, is_python=False)
        task = asyncio.ensure_future(proposals.fill(URI, END, "inline", Extent.LINE))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await proposals.fill(URI, END, "inline", Extent.LINE) is not None

    proposals = Proposals(slowly)
    asyncio.run(told(proposals))
    proposals.close()
    assert len(filler.asked) == 1


def test_a_model_that_is_not_there_is_said_each_time() -> None:
    def absent() -> Filler:
        raise CheckpointNotFound("no pack")

    async def told(proposals: Proposals) -> None:
        proposals.open(URI, OpenDocument("a"), None, is_python=False)
        for _ in range(2):
            with pytest.raises(CheckpointNotFound):
                await proposals.fill(URI, END, "inline", Extent.LINE)

    proposals = Proposals(absent)
    asyncio.run(told(proposals))
    proposals.close()


def test_a_document_that_is_not_open_is_not_there() -> None:
    async def told(proposals: Proposals) -> None:
        proposals.forget(URI)
        with pytest.raises(NotFound, match="not open"):
            await proposals.fill(URI, END, "inline", Extent.LINE)
        with pytest.raises(NotFound):
            proposals.change(URI, lambda document: document)

    with_open(FakeFiller(), told)


def test_only_an_address_of_a_file_has_a_file() -> None:
    assert file_of("file:///a/b.py", "/a/b.py") == Path("/a/b.py")
    assert file_of("untitled:Untitled-1", "Untitled-1") is None
    assert file_of("file:///a", None) is None
