"""Speak the Language Server Protocol as an editor, byte by byte. Knows nothing of who answers."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

URI = "untitled:one"
INLINE, LIST = "textDocument/inlineCompletion", "textDocument/completion"
AUTOMATIC, INVOKED = 2, 1

Json = dict[str, Any]


class RawEditor:
    """One connection: what the server told by itself is kept in `heard`."""

    def __init__(self, from_server: BinaryIO, to_server: BinaryIO) -> None:
        self._from, self._to = from_server, to_server
        self._answers: dict[int, Json] = {}
        self._last = 0
        self.heard: list[Json] = []

    def tell(self, method: str, **params: object) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, **params: object) -> int:
        """Ask without waiting; the number is for `answer`."""
        self._last += 1
        self._send({"id": self._last, "method": method, "params": params})
        return self._last

    def answer(self, number: int) -> Json:
        """The whole message that answers a question."""
        while number not in self._answers:
            said = self._read()
            if "id" in said:
                self._answers[said["id"]] = said
            else:
                self.heard.append(said)
        return self._answers.pop(number)

    def result(self, method: str, **params: object) -> Json:
        said = self.answer(self.ask(method, **params))
        assert "error" not in said, said
        return said["result"]

    def start(self, *encodings: str) -> Json:
        general = {"positionEncodings": list(encodings)} if encodings else {}
        told = self.result("initialize", processId=None, rootUri=None, capabilities={"general": general})
        self.tell("initialized")
        return told

    def open(self, text: str, language: str = "plaintext", uri: str = URI) -> None:
        item = {"uri": uri, "languageId": language, "version": 1, "text": text}
        self.tell("textDocument/didOpen", textDocument=item)

    def change(self, *changes: Json) -> None:
        document = {"uri": URI, "version": 2}
        self.tell("textDocument/didChange", textDocument=document, contentChanges=list(changes))

    def stop(self) -> None:
        """Leave as an editor should."""
        self.answer(self.ask("shutdown"))
        self.tell("exit")

    def close(self) -> None:
        self._to.close()
        self._from.close()

    def _send(self, message: Json) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._to.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._to.flush()

    def _read(self) -> Json:
        length = 0
        while line := self._from.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the server hung up"
        return json.loads(self._from.read(length))


def place(line: int, character: int) -> Json:
    return {"line": line, "character": character}


def span(line: int, start: int, end: int) -> Json:
    return {"start": place(line, start), "end": place(line, end)}


def at(line: int, character: int, uri: str = URI) -> Json:
    return {"textDocument": {"uri": uri}, "position": place(line, character)}


def inline(line: int, character: int, trigger: int = AUTOMATIC) -> Json:
    return {**at(line, character), "context": {"triggerKind": trigger}}
