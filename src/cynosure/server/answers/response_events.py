"""Tell one answer as the items and events of `/v1/responses`. Knows nothing of tokens or requests."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from cynosure.models.chat.answer import Part, Said, Thought
from cynosure.models.chat.tool_calls import ToolCall
from cynosure.server.answers.attention import AttentionTeller
from cynosure.server.answers.chat_turn import ChatTurn, Spoken
from cynosure.server.answers.continuation import Placed
from cynosure.server.answers.file_search import FileSearch
from cynosure.server.answers.grounding import GroundingTeller
from cynosure.server.schemas.chat import ChatLogprob
from cynosure.server.schemas.citations import AnswerCitation
from cynosure.server.schemas.file_search import OutputFileSearch
from cynosure.server.schemas.response_input import Status
from cynosure.server.schemas.responses import (
    IncompleteDetails,
    InputTokensDetails,
    OutputCall,
    OutputItem,
    OutputMessage,
    OutputReasoning,
    OutputTokensDetails,
    ResponseBody,
    ResponseError,
    ResponseUsage,
    SaidText,
    ThoughtText,
)
from cynosure.server.services import Token

Event = Mapping[str, object]
RowOf = Callable[[Token], ChatLogprob]


@dataclass(frozen=True)
class Told:
    """What is told beside the text, each where it was asked for.

    Attributes:
        row_of: Tells how likely a token was.
        teller: Tells what was attended to; at the end alone.
        quotes: Tells what was quoted; at the end alone.
        search: What was found in files before the model answered.
        citer: Tells what sentences cite, where that was asked of an answer from files.
    """

    row_of: RowOf | None = None
    teller: AttentionTeller | None = None
    quotes: GroundingTeller | None = None
    search: FileSearch | None = None
    citer: AttentionTeller | None = None


class ResponseWriter:
    """One answer under way. Its events, put together, are its body: both come from the same items."""

    def __init__(
        self,
        body: ResponseBody,
        turn: ChatTurn,
        keep: Callable[[ResponseBody], None] | None = None,
        told: Told | None = None,
    ) -> None:
        """Start before the first token.

        Args:
            body: The answer, empty.
            turn: What is said.
            keep: Called with the whole answer, before its last event.
            told: What is told beside the text.
        """
        told = told or Told()
        self.body = body
        self._turn = turn
        self._row_of = told.row_of
        self._keep = keep
        self._teller = told.teller
        self._quotes = told.quotes
        self._search = told.search
        self._citer = told.citer
        self._citations: list[AnswerCitation] = []
        self._heard: list[Placed] = []
        self._rows: list[ChatLogprob] = []
        self._number = 0
        self._num_reasoning_tokens = 0

    async def events(self) -> AsyncGenerator[Event]:
        """What happens, as it does."""
        yield self._of_response("response.created")
        yield self._of_response("response.in_progress")
        for event in self._searched():
            yield event
        async with aclosing(self._turn.spoken()) as coming:
            async for spoken in coming:
                if self._row_of is not None:
                    self._rows += [self._row_of(one.token) for one in spoken.tokens if not one.is_end]
                self._heard += spoken.tokens if self._teller is not None else ()
                self._note_citations(spoken)
                for part in spoken.parts:
                    if isinstance(part, Thought):
                        self._num_reasoning_tokens = spoken.num_chosen
                    elif isinstance(part, Said):
                        for listener in (self._quotes, self._teller):
                            if listener is not None:
                                listener.hear(part.text)
                    for event in self._add(part):
                        yield event
        is_whole = self._turn.finish not in ("length", "content_filter")
        for event in self._end_item("completed" if is_whole else "incomplete"):
            yield event
        self._finish(is_whole)
        if self._keep is not None:
            self._keep(self.body)
        yield self._of_response(f"response.{self.body.status}")

    async def whole(self) -> ResponseBody:
        """All of it at once."""
        async with aclosing(self.events()) as events:
            async for _ in events:
                pass
        return self.body

    def failed(self, status: int, message: str) -> Event:
        """The last event of an answer that broke on its way."""
        code = (
            "rate_limit_exceeded" if status == 429 else "server_error" if status >= 500 else "invalid_prompt"
        )
        self.body.status = "failed"
        self.body.error = ResponseError(code=code, message=message)
        return self._of_response("response.failed")

    def _finish(self, is_whole: bool) -> None:
        turn, body = self._turn, self.body
        if self._teller is not None:
            body.attention = self._teller.piece(self._heard, is_last=True)
        if self._quotes is not None:
            body.grounding = self._quotes.report
        body.stopped_call = turn.stopped_call
        body.status = "completed" if is_whole else "incomplete"
        body.completed_at = int(time.time()) if is_whole else None
        if not is_whole:
            filtered = turn.finish == "content_filter"
            reason = "content_filter" if filtered else "max_output_tokens"
            body.incomplete_details = IncompleteDetails(reason=reason)
        body.usage = ResponseUsage(
            input_tokens=turn.num_prompt_tokens,
            input_tokens_details=InputTokensDetails(cached_tokens=turn.num_cached),
            output_tokens=turn.num_tokens,
            output_tokens_details=OutputTokensDetails(reasoning_tokens=self._num_reasoning_tokens),
            total_tokens=turn.num_prompt_tokens + turn.num_tokens,
        )

    def _add(self, part: Part) -> Iterator[Event]:
        if isinstance(part, ToolCall):
            yield from self._end_item("completed")
            item = OutputCall(
                id=_new_id("fc"), status="in_progress", call_id=part.id, name=part.name, arguments=""
            )
            yield from self._begin(item)
            item.arguments = part.arguments
            yield self._of_item("response.function_call_arguments.delta", delta=part.arguments)
            return
        kind = OutputMessage if isinstance(part, Said) else OutputReasoning
        if not isinstance(self._open, kind):
            yield from self._end_item("completed")
            yield from self._begin(
                OutputMessage(id=_new_id("msg"), status="in_progress", content=[])
                if isinstance(part, Said)
                else OutputReasoning(id=_new_id("rs"), status="in_progress", content=[])
            )
            content = self._append_content()
            yield self._of_content("response.content_part.added", part=content.model_dump())
        content, rows = self._content, self._rows
        # Tokens are told with the text that they gave; those of thoughts and calls are not.
        self._rows = []
        content.text += part.text
        if isinstance(content, SaidText):
            content.logprobs += rows
        more = _logprobs(rows) if isinstance(content, SaidText) else {}
        yield self._of_content(f"response.{content.type}.delta", delta=part.text, **more)

    def _searched(self) -> Iterator[Event]:
        """The search that was made before the model was asked."""
        if self._search is None:
            return
        item = self._search.item()
        yield from self._begin(item)
        yield self._of_item("response.file_search_call.in_progress")
        item.status = "searching"
        yield self._of_item("response.file_search_call.searching")
        item.status, item.results = "completed", self._search.results()
        yield self._of_item("response.file_search_call.completed")
        yield self._event("response.output_item.done", output_index=self._index, item=item.model_dump())

    def _note_citations(self, spoken: Spoken | None) -> None:
        """Keep what sentences cite that have ended; all, where nothing more is said."""
        if self._citer is None:
            return
        for part in () if spoken is None else spoken.parts:
            if isinstance(part, Said):
                self._citer.hear(part.text)
        told = self._citer.piece(() if spoken is None else spoken.tokens, is_last=spoken is None)
        self._citations += (told and told.citations) or ()

    def _cite(self, content: SaidText) -> Iterator[Event]:
        """The files that what was said is of."""
        if self._search is None:
            return
        self._note_citations(None)
        quoted = None if self._quotes is None or not self._quotes.names else self._quotes.report
        cited = None if self._citer is None else self._citations
        for place, citation in enumerate(self._search.citations(content.text, quoted, cited)):
            content.annotations.append(citation)
            yield self._of_content(
                "response.output_text.annotation.added",
                annotation_index=place,
                annotation=citation.model_dump(),
            )

    def _begin(self, item: OutputItem) -> Iterator[Event]:
        self.body.output.append(item)
        yield self._event("response.output_item.added", output_index=self._index, item=item.model_dump())

    def _end_item(self, status: Status) -> Iterator[Event]:
        """End the item that is open, if one is."""
        item = self._open
        if item is None or isinstance(item, OutputFileSearch):
            return
        if isinstance(item, OutputCall):
            yield self._of_item(
                "response.function_call_arguments.done", name=item.name, arguments=item.arguments
            )
        else:
            content = self._content
            if isinstance(content, SaidText):
                yield from self._cite(content)
            more = _logprobs(content.logprobs) if isinstance(content, SaidText) else {}
            yield self._of_content(f"response.{content.type}.done", text=content.text, **more)
            yield self._of_content("response.content_part.done", part=content.model_dump())
        # A call is handed over whole, whatever ended the answer after it.
        item.status = "completed" if isinstance(item, OutputCall) else status
        yield self._event("response.output_item.done", output_index=self._index, item=item.model_dump())

    @property
    def _index(self) -> int:
        return len(self.body.output) - 1

    @property
    def _open(self) -> OutputItem | None:
        """The item that is being written."""
        last = self.body.output[-1] if self.body.output else None
        return last if last is not None and last.status == "in_progress" else None

    def _append_content(self) -> SaidText | ThoughtText:
        item = self.body.output[-1]
        if isinstance(item, OutputMessage):
            item.content.append(SaidText(text=""))
        elif isinstance(item, OutputReasoning):
            item.content.append(ThoughtText(text=""))
        return self._content

    @property
    def _content(self) -> SaidText | ThoughtText:
        item = self.body.output[-1]
        assert isinstance(item, OutputMessage | OutputReasoning), "a call has no content"
        return item.content[-1]

    def _of_response(self, kind: str) -> Event:
        return self._event(kind, response=self.body.model_dump(by_alias=True))

    def _of_item(self, kind: str, **fields: object) -> Event:
        return self._event(kind, item_id=self.body.output[-1].id, output_index=self._index, **fields)

    def _of_content(self, kind: str, **fields: object) -> Event:
        return self._of_item(kind, content_index=0, **fields)

    def _event(self, kind: str, **fields: object) -> Event:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **fields}


def _logprobs(rows: Sequence[ChatLogprob]) -> dict[str, object]:
    """Clients expect the field with what is said, and not with what is thought."""
    return {"logprobs": [row.model_dump() for row in rows]}


def _new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex}"
