from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import MAX_TOKENS, Gap, Piece, Question, Written, written
from tests.cli.editor.fake_filler import spoken


def read(question: Question, *pieces: Piece) -> Written:
    return asyncio.run(written(spoken(*pieces), question, 0.0))


def test_a_gap_shows_one_kind_of_break_and_gives_back_the_texts_own() -> None:
    gap = Gap("ab\r\ncd\r\nef", 5)
    assert (gap.prefix, gap.suffix, gap.line_before) == ("ab\nc", "d\nef", "c")
    assert gap.as_written("x\ny") == "x\r\ny"
    assert Gap("ab\ncd", 0).as_written("x\ny") == "x\ny"
    assert Gap("", 0).as_written("x\ny") == "x\ny"
    assert gap.window(3, 2) == (4, 8)


def test_a_line_ends_at_its_break_and_no_more_is_read() -> None:
    went_on = []

    async def pieces() -> AsyncGenerator[Piece]:
        yield Piece("ab", None, 1)
        yield Piece("c\nd", None, 1)
        went_on.append(True)

    told = asyncio.run(written(pieces(), Question(Gap("", 0)), 0.0))
    assert (told.text, told.end, told.num_tokens) == ("abc", "line", 2)
    assert told.first_ms > 0
    assert not went_on


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_the_model_or_the_limit_may_end_it(reason: str) -> None:
    told = read(Question(Gap("", 0)), Piece("ab", None, 1), Piece("", reason, 1))
    assert (told.text, told.end) == ("ab", reason)


def test_a_block_has_the_breaks_of_the_text() -> None:
    gap = Gap("if a:\r\n", 5)
    told = read(Question(gap, Extent.BLOCK), Piece("\n    b\n    c\nd"))
    assert (told.text, told.end) == ("\r\n    b\r\n    c", "block")


def test_nothing_may_be_written() -> None:
    assert read(Question(Gap("", 0))) == Written("", "stop", 0, 0.0)


def test_a_block_may_be_longer() -> None:
    assert Question(Gap("", 0)).token_limit == MAX_TOKENS[Extent.LINE] < MAX_TOKENS[Extent.BLOCK]
    assert Question(Gap("", 0), max_tokens=3).token_limit == 3
