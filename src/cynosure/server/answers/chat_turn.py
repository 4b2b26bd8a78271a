"""Follow one answer of a conversation from tokens to what was thought, said and called. Knows no protocol."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Literal

from starlette.concurrency import run_in_threadpool

from cynosure.core.errors import UnknownOption
from cynosure.models.chat.answer import AnswerReader, Part, Said, Thought
from cynosure.models.chat.format import ChatFormat, Tool
from cynosure.models.chat.prompt import ChatPrompt, Message
from cynosure.models.chat.tool_calls import ToolCall
from cynosure.models.chat.tool_offer import ToolOffer
from cynosure.server.answers.answer_form import constrained
from cynosure.server.answers.call_gate import CallGate, ungated
from cynosure.server.answers.continuation import Continuation, Piece, Placed
from cynosure.server.answers.siblings import continued
from cynosure.server.schemas.stopped_call import StoppedCall
from cynosure.server.services import CompletionModel, Generation
from cynosure.server.stop_text import StopText

#: Where a request names no limit, and the model leaves so much room.
DEFAULT_MAX_TOKENS = 2048

Finish = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True)
class Spoken:
    """Parts that are final, with the tokens that were chosen for them, and how many were until there."""

    parts: tuple[Part, ...]
    tokens: tuple[Placed, ...] = ()
    num_chosen: int = 0


@dataclass
class ChatTurn:
    """One answer under way, and what it has cost so far."""

    model: str
    num_prompt_tokens: int
    text: Continuation
    reader: AnswerReader
    gate: CallGate | None = None
    _held: tuple[Placed, ...] = field(default=(), init=False, repr=False)

    @property
    def stop(self) -> StopText:
        """What ends the text."""
        return self.text.stop

    @property
    def num_tokens(self) -> int:
        """How many tokens were chosen."""
        return self.text.num_tokens

    @property
    def num_cached(self) -> int:
        """How many of the prompt's tokens were found and not computed; known from the first token on."""
        return self.text.num_cached

    @property
    def finish(self) -> Finish:
        """Why it ended; known at the end."""
        if self.stopped_call is not None:
            return "content_filter"
        return "tool_calls" if self.reader.num_calls and self.text.end == "stop" else self.text.end

    @property
    def stopped_call(self) -> StoppedCall | None:
        """Why the call was not handed out that ended the answer; None where none was stopped."""
        return None if self.gate is None else self.gate.stopped

    async def begin(self) -> None:
        """Wait until the first token is there; what fails before it fails here."""
        await self.text.begin()

    async def parts(self) -> AsyncGenerator[Part]:
        """What is final, as it comes."""
        async with aclosing(self.spoken()) as coming:
            async for spoken in coming:
                for part in spoken.parts:
                    yield part

    async def spoken(self) -> AsyncGenerator[Spoken]:
        """What is final, as it comes, with its tokens.

        They do not wait where text may still be a call, save where calls are judged: then nothing of one is
        heard before it was.
        """
        async with aclosing(self.text.pieces()) as pieces:
            async for together in pieces:
                for spoken in _merged(self._passed([self._spoken(piece) for piece in together])):
                    yield spoken
                if self.stopped_call is not None:
                    return
        rest = self.reader.finish()
        if rest or self._held:
            for spoken in self._passed([Spoken(tuple(rest), (), self.num_tokens)], is_end=True):
                yield spoken

    def _passed(self, coming: Sequence[Spoken], *, is_end: bool = False) -> list[Spoken]:
        """What may be heard: tokens without a part wait until it is known what they were chosen for."""
        if self.gate is None:
            return list(coming)
        passed = []
        for spoken in coming:
            self._held += spoken.tokens
            calls = [part for part in spoken.parts if isinstance(part, ToolCall)]
            if calls and not self.gate.passes(self._held):
                before = spoken.parts[: spoken.parts.index(calls[0])]
                return [*passed, *([Spoken(before, (), spoken.num_chosen)] if before else [])]
            if spoken.parts or is_end:
                tokens, self._held = self._held, ()
                passed.append(Spoken(spoken.parts, tokens, spoken.num_chosen))
        return passed

    def _spoken(self, piece: Piece) -> Spoken:
        return Spoken(tuple(self.reader.push(piece.text)), piece.tokens, piece.num_chosen)


def _merged(coming: Sequence[Spoken]) -> list[Spoken]:
    """Fewer that say the same: neighbours of one kind are one, and tokens without parts go with what follows.

    Whose a token is stays true: what was chosen for a thought is not told with what is said.
    """
    merged: list[Spoken] = []
    for spoken in coming:
        before = merged[-1] if merged else None
        if before is not None and (not before.parts or _kind(before) is _kind(spoken) is not None):
            parts = _joined(before.parts + spoken.parts)
            merged[-1] = Spoken(parts, before.tokens + spoken.tokens, spoken.num_chosen)
        else:
            merged.append(spoken)
    return merged


def _kind(spoken: Spoken) -> type[Said] | type[Thought] | None:
    """What all of it is, if that is text of one kind."""
    kinds = {type(part) for part in spoken.parts}
    if kinds == {Said}:
        return Said
    return Thought if kinds == {Thought} else None


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Text of one kind as one part; anything else as it is."""
    for kind in (Said, Thought):
        texts = [part.text for part in parts if isinstance(part, kind)]
        if len(texts) == len(parts) > 1:
            return (kind("".join(texts)),)
    return tuple(parts)


def chat_of(model: CompletionModel) -> ChatFormat:
    """How a model converses.

    Raises:
        UnknownOption: It does not.
    """
    if model.chat is None:
        raise UnknownOption(
            f"{model.name} does not converse: it has no chat template, or is an encoder-decoder. Send a "
            "prompt to /v1/completions, or give a decoder a chat_template.jinja in its folder."
        )
    return model.chat


async def build_prompt(
    model: CompletionModel,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    variables: dict[str, object] | None = None,
    add_generation_prompt: bool = True,
    from_text: bool = False,
) -> ChatPrompt:
    """The conversation in tokens; templates take their time, so that others are served meanwhile.

    Tokens that were generated in turns before stand for their text, unless it is built `from_text` alone.
    """
    return await run_in_threadpool(
        chat_of(model).prompt,
        messages,
        tools,
        add_generation_prompt=add_generation_prompt,
        variables=variables,
        from_text=from_text,
    )


async def begin_turn(
    model: CompletionModel,
    prompt: ChatPrompt,
    tools: Sequence[Tool] | ToolOffer,
    stops: Sequence[str],
    asked: Generation,
    gate_of: Callable[[], CallGate | None] = ungated,
) -> ChatTurn:
    """Have one answer begun; what is wrong with constraint or prompt shows while a status can say so."""
    offer = tools if isinstance(tools, ToolOffer) else ToolOffer.of(tools)
    [turn] = await begin_turns(model, prompt, offer, [StopText(stops)], asked, gate_of)
    return turn


async def begin_turns(
    model: CompletionModel,
    prompt: ChatPrompt,
    offer: ToolOffer,
    stops: Sequence[StopText],
    asked: Generation,
    gate_of: Callable[[], CallGate | None] = ungated,
) -> list[ChatTurn]:
    """Have as many answers begun as there are `stops`, each drawn by itself and with a gate of its own.

    The first must be read before the others, or beside them.
    """
    chat = chat_of(model)
    asked = replace(asked, sampling=constrained(chat, prompt, offer, asked.sampling))
    await model.prepare(asked.sampling)
    names = sorted(offer.callable_names)
    return [
        ChatTurn(
            model.name,
            len(prompt.token_ids),
            Continuation(tokens, stop),
            chat.reader(prompt, names),
            gate_of(),
        )
        for tokens, stop in zip(continued(model, asked, len(stops)), stops, strict=True)
    ]


def room_after(model: CompletionModel, prompt: ChatPrompt) -> int:
    """How many tokens an answer may have whose request does not say."""
    if model.max_model_len is None:
        return DEFAULT_MAX_TOKENS
    return max(1, min(DEFAULT_MAX_TOKENS, model.max_model_len - len(prompt.token_ids)))
