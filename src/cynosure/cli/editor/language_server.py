"""Speak the Language Server Protocol with an editor: documents in, proposals out. Decides nothing about them.

`textDocument/inlineCompletion` (LSP 3.18) shows a proposal behind the cursor; editors without it ask for
`textDocument/completion` and get the same as the entry of a list.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lsprotocol import types
from pygls.lsp.server import LanguageServer
from pygls.uris import to_fs_path

import cynosure
from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.open_document import OpenDocument, Position
from cynosure.cli.editor.proposals import Proposals, file_of
from cynosure.core.errors import CynosureError

#: Longer labels are cut by editors anyway.
MAX_LABEL = 60
_BEGUN = re.compile(r"[^\W\d]\w*\Z")


@dataclass
class Session:
    """One editor's connection: whether it said goodbye, and which failures it has been shown."""

    proposals: Proposals
    is_over: bool = False
    shown: set[str] = field(default_factory=set)


def build_server(session: Session) -> LanguageServer:
    """A server that answers one editor; `start_io` runs it."""
    server = LanguageServer("cynosure", cynosure.__version__)
    _hear_documents(server, session)
    _answer_questions(server, session)

    @server.feature(types.SHUTDOWN)
    def shutdown(params: None) -> None:
        session.is_over = True

    return server


def _hear_documents(server: LanguageServer, session: Session) -> None:
    proposals = session.proposals

    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        told = params.text_document
        file = file_of(told.uri, to_fs_path(told.uri))
        encoding = types.PositionEncodingKind(server.workspace.position_encoding)
        document = OpenDocument(told.text, encoding.value)
        proposals.open(told.uri, document, file, is_python=told.language_id == "python")

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        for change in params.content_changes:
            proposals.change(
                params.text_document.uri, lambda document, change=change: _changed(document, change)
            )

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        proposals.forget(params.text_document.uri)


def _answer_questions(server: LanguageServer, session: Session) -> None:
    @server.feature(types.TEXT_DOCUMENT_INLINE_COMPLETION, types.InlineCompletionOptions())
    async def inline(params: types.InlineCompletionParams) -> types.InlineCompletionList:
        is_asked_for = params.context.trigger_kind is types.InlineCompletionTriggerKind.Invoked
        extent = Extent.BLOCK if is_asked_for else Extent.LINE
        text = await _proposal(server, session, params, "inline", extent)
        place = types.Range(params.position, params.position)
        items = [types.InlineCompletionItem(insert_text=text, range=place)] if text.strip() else []
        return types.InlineCompletionList(items)

    @server.feature(types.TEXT_DOCUMENT_COMPLETION, types.CompletionOptions(trigger_characters=["."]))
    async def complete(params: types.CompletionParams) -> types.CompletionList:
        uri, position = params.text_document.uri, Position(params.position.line, params.position.character)
        text = await _proposal(server, session, params, "list", Extent.LINE)
        items = [_item(session.proposals.document(uri), position, text)] if text.strip() else []
        # What is typed next may change all of it.
        return types.CompletionList(is_incomplete=True, items=items)


async def _proposal(
    server: LanguageServer,
    session: Session,
    params: types.InlineCompletionParams | types.CompletionParams,
    kind: str,
    extent: Extent,
) -> str:
    """What is proposed; nothing where it was overtaken, or failed. A failure is shown once."""
    position = Position(params.position.line, params.position.character)
    try:
        filling = await session.proposals.fill(params.text_document.uri, position, kind, extent)
    except CynosureError as failure:
        told = f"cynosure: {' '.join(str(failure).split())}"
        if told not in session.shown:
            session.shown.add(told)
            server.window_show_message(types.ShowMessageParams(types.MessageType.Error, told))
        return ""
    return "" if filling is None else filling.text


def _item(document: OpenDocument, position: Position, text: str) -> types.CompletionItem:
    """An entry that replaces the name that is begun, by which editors sort entries out."""
    offset = document.offset_of(position)
    begun = _BEGUN.search(document.text[:offset].rpartition("\n")[2])
    name = begun[0] if begun else ""
    start = document.position_of(offset - len(name))
    whole = f"{name}{text}"
    place = types.Range(types.Position(*start), types.Position(*document.position_of(offset)))
    return types.CompletionItem(
        label=whole.strip()[:MAX_LABEL],
        kind=types.CompletionItemKind.Snippet,
        detail="cynosure",
        filter_text=whole,
        # Behind what other servers know for certain.
        sort_text="~",
        insert_text_format=types.InsertTextFormat.PlainText,
        text_edit=types.TextEdit(place, whole),
    )


def _changed(document: OpenDocument, change: types.TextDocumentContentChangeEvent) -> OpenDocument:
    if isinstance(change, types.TextDocumentContentChangeWholeDocument):
        return OpenDocument(change.text, document.encoding)
    start, end = change.range.start, change.range.end
    return document.changed(
        Position(start.line, start.character), Position(end.line, end.character), change.text
    )
