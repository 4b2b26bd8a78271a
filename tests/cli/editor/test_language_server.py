from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import Filler
from cynosure.cli.editor.language_server import Session, build_server
from cynosure.cli.editor.proposals import Proposals
from cynosure.core.errors import CheckpointNotFound
from tests.cli.editor.fake_filler import FakeFiller
from tests.cli.editor.raw_editor import INLINE, INVOKED, LIST, URI, RawEditor, at, inline, place, span

TEXT = "the star\nsteers = '🙂é' + sail\nend\n"
#: Behind `sail`, as each encoding counts it.
UNITS = {"utf-8": 24, "utf-16": 21, "utf-32": 20}
CANCELLED = -32800


@contextmanager
def session(load: Callable[[], Filler]) -> Iterator[tuple[RawEditor, Session]]:
    """An editor and a server in one process, with a pipe each way."""
    for_server, to_server = os.pipe()
    from_server, for_editor = os.pipe()
    session = Session(Proposals(load, any_names=True))
    server = build_server(session)
    pipes = os.fdopen(for_server, "rb"), os.fdopen(for_editor, "wb")
    thread = threading.Thread(target=server.start_io, args=pipes)
    thread.start()
    editor = RawEditor(os.fdopen(from_server, "rb"), os.fdopen(to_server, "wb"))
    try:
        yield editor, session
    finally:
        editor.close()
        thread.join(20)
        for pipe in pipes:
            pipe.close()
        session.proposals.close()
    assert not thread.is_alive()


def test_it_offers_both_ways_and_says_who_it_is() -> None:
    with session(FakeFiller) as (editor, told):
        started = editor.start()
        offered = started["capabilities"]
        assert started["serverInfo"]["name"] == "cynosure"
        assert offered["positionEncoding"] == "utf-16"
        assert offered["textDocumentSync"] == {"openClose": True, "change": 2, "save": False}
        assert {"inlineCompletionProvider", "completionProvider"} <= set(offered)
        assert not told.is_over
        editor.stop()
    assert told.is_over


@pytest.mark.parametrize("encoding", UNITS)
def test_positions_count_as_agreed(encoding: str) -> None:
    filler = FakeFiller(" + pole")
    with session(lambda: filler) as (editor, _):
        assert editor.start(encoding, "utf-16")["capabilities"]["positionEncoding"] == encoding
        editor.open(TEXT)
        units = UNITS[encoding]
        found = editor.result(INLINE, **inline(1, units))
        assert found == {"items": [{"insertText": " + pole", "range": span(1, units, units)}]}
        editor.change({"range": span(1, 0, 6), "text": "a\fb"}, {"range": span(0, 0, 3), "text": "one"})
        editor.result(INLINE, **inline(1, units - 3))
        editor.stop()
    behind = "\nend\n"
    assert [one.gap.suffix for one in filler.asked] == [behind, behind]
    assert filler.asked[1].gap.prefix == "one star\na\fb = '🙂é' + sail"


def test_a_whole_new_text_may_come() -> None:
    filler = FakeFiller()
    with session(lambda: filler) as (editor, _):
        editor.start()
        editor.open(TEXT)
        editor.change({"text": "new"})
        editor.result(INLINE, **inline(0, 3))
        editor.stop()
    assert filler.asked[0].gap.text == "new"


def test_who_asks_for_it_gets_a_block_and_who_types_a_line() -> None:
    filler = FakeFiller()
    with session(lambda: filler) as (editor, _):
        editor.start()
        editor.open(TEXT)
        editor.result(INLINE, **inline(1, 0))
        editor.result(INLINE, **inline(1, 0, INVOKED))
        editor.stop()
    assert [one.extent for one in filler.asked] == [Extent.LINE, Extent.BLOCK]


def test_an_entry_of_a_list_holds_the_name_that_is_begun() -> None:
    with session(lambda: FakeFiller("or + pole")) as (editor, _):
        editor.start()
        editor.open(TEXT)
        found = editor.result(LIST, **at(1, UNITS["utf-16"]))
        editor.stop()
    assert found["isIncomplete"]
    (item,) = found["items"]
    assert item["label"] == item["filterText"] == "sailor + pole"
    assert item["textEdit"] == {"newText": "sailor + pole", "range": span(1, 17, 21)}


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_is_no_proposal(text: str) -> None:
    with session(lambda: FakeFiller(text)) as (editor, _):
        editor.start()
        editor.open(TEXT)
        assert editor.result(INLINE, **inline(0, 0)) == {"items": []}
        assert editor.result(LIST, **at(0, 0)) == {"isIncomplete": True, "items": []}
        editor.stop()


def test_what_is_cancelled_ends_and_what_is_overtaken_is_empty() -> None:
    filler = FakeFiller(None)
    with session(lambda: filler) as (editor, _):
        editor.start()
        editor.open(TEXT)
        first = editor.ask(INLINE, **inline(0, 0))
        second = editor.ask(INLINE, **inline(0, 1))
        assert editor.answer(first)["result"] == {"items": []}
        editor.tell("$/cancelRequest", id=second)
        assert editor.answer(second)["error"]["code"] == CANCELLED
        third = editor.ask(LIST, **at(0, 1))
        editor.change({"text": "new"})
        assert editor.answer(third)["result"]["items"] == []
        fourth = editor.ask(INLINE, **inline(0, 1))
        editor.tell("textDocument/didClose", textDocument={"uri": URI})
        assert editor.answer(fourth)["result"] == {"items": []}
        editor.stop()
    assert len(filler.asked) == len(filler.ended)


def test_a_failure_is_shown_once() -> None:
    def absent() -> Filler:
        raise CheckpointNotFound("there is\nno model.")

    with session(absent) as (editor, _):
        editor.start()
        editor.open(TEXT)
        for _ in range(2):
            assert editor.result(INLINE, **inline(0, 0)) == {"items": []}
        editor.stop()
    shown = [said["params"] for said in editor.heard if said["method"] == "window/showMessage"]
    assert shown == [{"type": 1, "message": "cynosure: there is no model."}]


def test_an_editor_that_only_hangs_up_was_not_told_goodbye() -> None:
    with session(FakeFiller) as (editor, told):
        editor.start()
    assert not told.is_over


def test_places_are_those_of_the_protocol() -> None:
    assert span(1, 2, 3) == {"start": place(1, 2), "end": place(1, 3)}
