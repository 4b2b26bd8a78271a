"""Stand in for a model: it writes what a test has it write, and tells what became of its questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from cynosure.cli.editor.filling import Filling, Piece, Question


class FakeFiller:
    """Answers with its text, or never."""

    name = "fake"

    def __init__(self, text: str | None = "said") -> None:
        self.text = text
        self.asked: list[Question] = []
        self.ended: list[Question] = []
        self.is_closed = False

    async def fill(self, question: Question) -> Filling:
        self.asked.append(question)
        if self.text is None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.ended.append(question)
                raise
        return Filling(self.text or "", "line", (0, 0), 1, 1, 0.1, 0.2)

    def close(self) -> None:
        self.is_closed = True


async def spoken(*pieces: Piece) -> AsyncGenerator[Piece]:
    for piece in pieces:
        yield piece
