"""Say answers of a conversation in OpenAI's words, whole or in pieces. Knows nothing of templates or HTTP."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing

from cynosure.models.chat.answer import Part, Said, Thought
from cynosure.models.chat.tool_calls import ToolCall
from cynosure.server.answers.attention import AttentionPlan, AttentionTeller
from cynosure.server.answers.chat_turn import ChatTurn, Spoken
from cynosure.server.answers.continuation import Placed, ids_of
from cynosure.server.answers.grounding import GroundingTeller
from cynosure.server.answers.interleave import interleaved
from cynosure.server.answers.token_words import chat_row
from cynosure.server.schemas.chat import (
    AnswerMessage,
    Call,
    CalledFunction,
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatLogprobs,
    ChatRequest,
    ChunkChoice,
)
from cynosure.server.schemas.citations import AnswerCitation, MessageAnnotation, UrlCitation
from cynosure.server.schemas.completions import PromptTokensDetails, Usage
from cynosure.server.services import CompletionModel, Token
from cynosure.server.stream import Blank, Event


class ChatAnswer:
    """All answers to a request, under way."""

    def __init__(
        self,
        model: CompletionModel,
        body: ChatRequest,
        prompt_ids: Sequence[int],
        turns: list[ChatTurn],
        attention: AttentionPlan,
    ) -> None:
        """Start before the first token."""
        self._model = model
        self._body = body
        self._prompt_ids = prompt_ids
        self._turns = turns
        self._tellers = [attention.teller() for _ in turns]
        quoted = body.quoted
        self._quotes = [None if quoted is None else GroundingTeller(quoted) for _ in turns]
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())

    async def begin(self) -> None:
        """Wait for the first token of all."""
        await self._turns[0].begin()

    async def whole(self) -> ChatCompletion:
        """All of it at once."""
        heard: list[list[Spoken]] = [[] for _ in self._turns]
        async with aclosing(self._spoken()) as coming:
            async for place, spoken in coming:
                heard[place].append(spoken)
        completion = ChatCompletion(
            id=self._id,
            object="chat.completion",
            created=self._created,
            model=self._model.name,
            choices=[self._choice(place, heard[place]) for place in range(len(self._turns))],
            usage=self._usage(),
        )
        if self._body.return_token_ids:
            completion.prompt_token_ids = list(self._prompt_ids)
        return completion

    async def events(self) -> AsyncGenerator[Event]:
        """It in pieces, as they come."""
        for place in range(len(self._turns)):
            yield self._event(place, AnswerMessage(role="assistant", content="", refusal=None))
        blanks = [self._blank(place) for place in range(len(self._turns))] if self._is_plain else []
        async with aclosing(self._spoken()) as coming:
            async for place, spoken in coming:
                if blanks and len(spoken.parts) == 1 and isinstance(spoken.parts[0], Said):
                    yield blanks[place].filled(spoken.parts[0].text, ids_of(spoken.tokens))
                    continue
                deltas = [delta for part in spoken.parts for delta in _deltas(part)]
                if not deltas and spoken.tokens and self._tells_tokens:
                    deltas = [AnswerMessage()]
                # Tokens are told once, with the first piece that they gave.
                for number, delta in enumerate(deltas):
                    yield self._event(place, delta, () if number else spoken.tokens)
        for place, turn in enumerate(self._turns):
            last = self._piece(place, AnswerMessage())
            last.finish_reason = turn.finish
            self._tell(last, place, (), is_last=True)
            yield self._chunk([last])
        if self._body.wants_usage:
            yield self._chunk([], self._usage())

    @property
    def _is_plain(self) -> bool:
        """Whether nothing is told of tokens but their ids."""
        return not self._body.logprobs and self._tellers[0] is None

    @property
    def _tells_tokens(self) -> bool:
        asked = (self._body.logprobs, self._body.return_token_ids, self._tellers[0] is not None)
        return True in asked

    def _spoken(self) -> AsyncGenerator[tuple[int, Spoken]]:
        return interleaved([self._heard(place, turn) for place, turn in enumerate(self._turns)])

    def _heard(self, place: int, turn: ChatTurn) -> AsyncGenerator[Spoken]:
        """What one turn says; whoever tells of quotes, or of sentences, listens."""
        listeners = [one for one in (self._quotes[place], self._tellers[place]) if one is not None]
        return _overheard(turn, listeners) if listeners else turn.spoken()

    def _choice(self, place: int, heard: Sequence[Spoken]) -> ChatChoice:
        parts = [part for spoken in heard for part in spoken.parts]
        tokens = [placed for spoken in heard for placed in spoken.tokens]
        choice = ChatChoice(
            index=place,
            message=_message(parts),
            logprobs=self._logprobs(tokens),
            finish_reason=self._turns[place].finish,
        )
        if self._body.return_token_ids:
            choice.token_ids = ids_of(tokens)
        self._tell(choice, place, tokens, is_last=True)
        return choice

    def _blank(self, place: int) -> Blank:
        """What most pieces are: something said, and of its tokens nothing but their ids."""

        def made(text: str, token_ids: Sequence[int]) -> Mapping[str, object]:
            tokens = [Placed(Token("", token_id=token_id), 0) for token_id in token_ids]
            return self._event(place, AnswerMessage(content=text), tokens)

        return Blank(made)

    def _event(self, place: int, delta: AnswerMessage, tokens: Sequence[Placed] = ()) -> Mapping[str, object]:
        return self._chunk([self._piece(place, delta, tokens)])

    def _piece(self, place: int, delta: AnswerMessage, tokens: Sequence[Placed] = ()) -> ChunkChoice:
        logprobs = self._logprobs(tokens) if tokens else None
        piece = ChunkChoice(index=place, delta=delta, logprobs=logprobs, finish_reason=None)
        if self._body.return_token_ids and tokens:
            piece.token_ids = ids_of(tokens)
        self._tell(piece, place, tokens)
        return piece

    def _tell(
        self, to: ChatChoice | ChunkChoice, place: int, tokens: Sequence[Placed], *, is_last: bool = False
    ) -> None:
        """Add what was attended to, and at the end what was quoted, where there is something to tell."""
        teller = self._tellers[place]
        told = None if teller is None else teller.piece(tokens, is_last=is_last)
        if told is not None:
            to.attention = told
            if told.citations:
                message = to.message if isinstance(to, ChatChoice) else to.delta
                message.annotations = self._annotations(told.citations)
        quotes = self._quotes[place]
        if is_last and quotes is not None:
            to.grounding = quotes.report
        stopped = self._turns[place].stopped_call
        if is_last and stopped is not None:
            to.stopped_call = stopped

    def _annotations(self, citations: Sequence[AnswerCitation]) -> list[MessageAnnotation]:
        """Citations as OpenAI's clients show them; a document without an address has its segment's name."""
        named = zip(self._body.document_names, self._body.documents or (), strict=True)
        titles = {name: (one.title or name, one.url or name) for name, one in named}
        # What is drawn from a title is drawn from its document.
        titles |= {f"{name}.title": told for name, told in titles.items()}
        return [
            MessageAnnotation(
                url_citation=UrlCitation(
                    start_index=citation.start, end_index=citation.end, title=title, url=url
                )
            )
            for citation in citations
            for title, url in dict.fromkeys(
                titles.get(source.id, (source.id, source.id)) for source in citation.sources
            )
        ]

    def _chunk(self, choices: list[ChunkChoice], usage: Usage | None = None) -> Mapping[str, object]:
        chunk = ChatChunk(
            id=self._id, created=self._created, model=self._model.name, choices=choices, usage=usage
        )
        # Clients that asked for usage get the field in each piece, null until the last.
        return chunk.model_dump(exclude=None if self._body.wants_usage else {"usage"})

    def _logprobs(self, tokens: Sequence[Placed]) -> ChatLogprobs | None:
        """Rows of the tokens that are text: what ended an answer is none of it."""
        if not self._body.logprobs:
            return None
        rows = [chat_row(self._model.tokenizer, placed.token) for placed in tokens if not placed.is_end]
        return ChatLogprobs(content=rows)

    def _usage(self) -> Usage:
        first, num_tokens = self._turns[0], sum(turn.num_tokens for turn in self._turns)
        return Usage(
            prompt_tokens=first.num_prompt_tokens,
            completion_tokens=num_tokens,
            total_tokens=first.num_prompt_tokens + num_tokens,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=first.num_cached),
        )


async def _overheard(
    turn: ChatTurn, listeners: Sequence[GroundingTeller | AttentionTeller]
) -> AsyncGenerator[Spoken]:
    async with aclosing(turn.spoken()) as coming:
        async for spoken in coming:
            said = "".join(part.text for part in spoken.parts if isinstance(part, Said))
            for listener in listeners:
                listener.hear(said)
            yield spoken


def _message(parts: Sequence[Part]) -> AnswerMessage:
    said = "".join(part.text for part in parts if isinstance(part, Said))
    thought = "".join(part.text for part in parts if isinstance(part, Thought))
    calls = [part for part in parts if isinstance(part, ToolCall)]
    message = AnswerMessage(role="assistant", content=said or (None if calls else ""), refusal=None)
    if thought:
        message.reasoning_content = thought
    if calls:
        message.tool_calls = [
            Call(
                id=call.id,
                type="function",
                function=CalledFunction(name=call.name, arguments=call.arguments),
            )
            for call in calls
        ]
    return message


def _deltas(part: Part) -> Iterator[AnswerMessage]:
    """A call comes in two pieces, as clients expect: what is called, then with what."""
    if isinstance(part, Thought):
        yield AnswerMessage(reasoning_content=part.text)
    elif isinstance(part, Said):
        yield AnswerMessage(content=part.text)
    else:
        named = CalledFunction(name=part.name, arguments="")
        yield AnswerMessage(tool_calls=[Call(index=part.index, id=part.id, type="function", function=named)])
        rest = CalledFunction(arguments=part.arguments)
        yield AnswerMessage(tool_calls=[Call(index=part.index, function=rest)])
