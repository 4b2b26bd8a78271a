"""Propose code for documents that an editor has open. Knows nothing of protocols or models.

Somebody who goes on typing does not wait for the last proposal: a question about a document ends the one
before it, and a change ends all, down to the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import Filler, Filling, Gap, Question
from cynosure.cli.editor.known_names import known_names
from cynosure.cli.editor.module_names import ModuleNames
from cynosure.cli.editor.open_document import OpenDocument, Position
from cynosure.core.errors import InputError, NotFound

_Key = tuple[str, str]


@dataclass
class _Held:
    """A document, the file that it will be, and whether it is Python."""

    document: OpenDocument
    file: Path | None
    is_python: bool


class Proposals:
    """The open documents and the model; for one event loop."""

    def __init__(self, load: Callable[[], Filler], *, any_names: bool = False) -> None:
        """Begin to load the model beside everything else.

        Args:
            load: gives the model; called once, on a thread of its own.
            any_names: whether proposals for Python may use names that are not known.
        """
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load")
        self._filler: Future[Filler] = self._loader.submit(load)
        self._any_names = any_names
        self._modules = ModuleNames()
        self._documents: dict[str, _Held] = {}
        self._under_way: dict[_Key, asyncio.Task[Filling]] = {}

    def open(self, uri: str, document: OpenDocument, file: Path | None, *, is_python: bool) -> None:
        """Hold a document, and read what it imports before anybody asks."""
        self._documents[uri] = _Held(document, file, is_python)
        if is_python and not self._any_names:
            self._loader.submit(known_names, Gap(document.text, 0), file, self._modules)

    def change(self, uri: str, change: Callable[[OpenDocument], OpenDocument]) -> None:
        """Hold what a document became; proposals for what it was are not wanted any more.

        Raises:
            NotFound: it is not open.
        """
        held = self._held(uri)
        held.document = change(held.document)
        self._end(uri)

    def forget(self, uri: str) -> None:
        """Let go of a document."""
        self._documents.pop(uri, None)
        self._end(uri)

    def document(self, uri: str) -> OpenDocument:
        """A document as it is now.

        Raises:
            NotFound: it is not open.
        """
        return self._held(uri).document

    async def fill(self, uri: str, position: Position, kind: str, extent: Extent) -> Filling | None:
        """A proposal; None where the next question of this kind, or a change, overtook it.

        Raises:
            NotFound: the document is not open.
            CynosureError: there is no model, or it failed.
        """
        held, key = self._held(uri), (uri, kind)
        gap = Gap(held.document.text, held.document.offset_of(position))
        if (earlier := self._under_way.get(key)) is not None:
            earlier.cancel()
        task = self._under_way[key] = asyncio.ensure_future(self._filled(gap, held, extent))
        try:
            return await task
        except asyncio.CancelledError:
            asked = asyncio.current_task()
            if asked is not None and asked.cancelling():
                raise
            return None
        finally:
            if self._under_way.get(key) is task:
                del self._under_way[key]

    def close(self) -> None:
        """Stop the model."""
        self._loader.shutdown(wait=True, cancel_futures=True)
        if not self._filler.cancelled() and self._filler.exception() is None:
            self._filler.result().close()

    async def _filled(self, gap: Gap, held: _Held, extent: Extent) -> Filling:
        # It is being loaded already, so whoever leaves does not take it along.
        filler = await asyncio.wrap_future(self._filler)
        names = None
        if held.is_python and not self._any_names:
            names = (await asyncio.to_thread(known_names, gap, held.file, self._modules)).names
        return await filler.fill(Question(gap, extent, names))

    def _held(self, uri: str) -> _Held:
        if uri not in self._documents:
            raise NotFound(f"{uri[:200]} is not open. Open it first.")
        return self._documents[uri]

    def _end(self, uri: str) -> None:
        for (other, _), task in self._under_way.items():
            if other == uri:
                task.cancel()


def file_of(uri: str, path: str | None) -> Path | None:
    """The file of a document's address; None for one that lies nowhere."""
    if path is None or not uri.startswith("file:"):
        return None
    if "\0" in path:
        raise InputError("the address of a document holds a zero byte. Open another.")
    return Path(path)
