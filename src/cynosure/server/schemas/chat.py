"""Shape `/v1/chat/completions`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, model_validator

from cynosure.core.errors import InputError
from cynosure.engine.constraints import Constraint
from cynosure.engine.sampling import MAX_LOGPROBS, SamplingParams
from cynosure.models.chat.format import Tool
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.models.chat.tool_offer import ToolChoice, ToolOffer
from cynosure.server.schemas.attention import Attention, AttentionParam, SegmentName
from cynosure.server.schemas.citations import MessageAnnotation
from cynosure.server.schemas.completions import Usage
from cynosure.server.schemas.generation import GenerationFields
from cynosure.server.schemas.grounding import DOCUMENT, Grounding, GroundingReport, QuotedTexts
from cynosure.server.schemas.stopped_call import StoppedCall
from cynosure.server.schemas.wire import Count1, Never, NoPicture, Piece, Text, Whole, WireRequest

MAX_MESSAGES, MAX_PARTS, MAX_TOOLS, MAX_CALLS, MAX_VARIABLES = 2048, 256, 128, 128, 16
MAX_DOCUMENTS, MAX_TITLE, MAX_ANNOTATIONS = 200, 500, 4096

FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
#: A field that clients send and nobody here reads, with the values that say nothing.
Nothing: TypeAlias = Annotated[list[None], Field(max_length=0)] | None


class TextPart(WireRequest):
    """A piece of what is said; `segment` names it, for `attention` to speak of."""

    type: Literal["text"]
    text: Text
    segment: SegmentName | None = None


class FunctionCall(WireRequest):
    """What an assistant called; the arguments are the text of a JSON object."""

    name: FunctionName
    arguments: Text

    @property
    def values(self) -> dict[str, object]:
        """The arguments, as templates read them.

        Raises:
            InputError: They are no JSON object.
        """
        try:
            values = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise InputError(f"arguments of {self.name} are no JSON: {error}. Send an object.") from error
        if not isinstance(values, dict):
            raise InputError(f"arguments of {self.name} are no JSON object. Send one.")
        return values


class CallParam(WireRequest):
    """A call in a message that is sent back."""

    id: Text
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(WireRequest):
    """One turn; the fields with one permitted value come back from clients as they were answered."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[Annotated[TextPart, NoPicture]], Field(max_length=MAX_PARTS)] | None = None
    name: Text | None = None
    tool_calls: Annotated[list[CallParam], Field(max_length=MAX_CALLS)] | None = None
    tool_call_id: Text | None = None
    reasoning_content: Text | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[MessageAnnotation], Field(max_length=MAX_ANNOTATIONS)] | None = None

    @model_validator(mode="after")
    def _fields_fit_the_role(self) -> ChatMessage:
        is_assistant = self.role == "assistant"
        if (self.tool_calls or self.reasoning_content is not None) and not is_assistant:
            raise ValueError("tool_calls and reasoning_content are the assistant's")
        if (self.tool_call_id is not None) != (self.role == "tool"):
            raise ValueError("tool_call_id belongs to messages of role tool, and to each of them")
        if self.content is None and not self.tool_calls and not (is_assistant and self.reasoning_content):
            raise ValueError(f"a message of role {self.role} has no content")
        return self

    def turn(self, path: str) -> Message:
        """The message with where each text of it stands."""
        content = [] if self.content is None else self.content
        texts = (
            [CallerText(content, f"{path}.content")]
            if isinstance(content, str)
            else [CallerText(part.text, f"{path}.content[{at}].text") for at, part in enumerate(content)]
        )
        calls = [
            {"id": call.id, "type": call.type}
            | {"function": {"name": call.function.name, "arguments": call.function.values}}
            for call in self.tool_calls or []
        ]
        thought = self.reasoning_content
        return Message(
            role="system" if self.role == "developer" else self.role,
            path=path,
            texts=tuple(texts),
            reasoning=None if thought is None else CallerText(thought, f"{path}.reasoning_content"),
            tool_calls=tuple(calls),
            tool_call_id=self.tool_call_id,
            name=self.name,
        )


class DocumentParam(WireRequest):
    """A text to answer from; `id` names it, for `attention` to speak of as `doc:ID`, else its number does."""

    text: Annotated[Text, Field(min_length=1)]
    title: Annotated[Text, Field(min_length=1, max_length=MAX_TITLE)] | None = None
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None
    url: Annotated[Text, Field(max_length=2048)] | None = None


class FunctionParam(WireRequest):
    """A function that is offered; arguments of a `strict` one follow its parameters to the letter."""

    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ToolParam(WireRequest):
    """A tool that is offered."""

    type: Literal["function"]
    function: FunctionParam

    @property
    def tool(self) -> Tool:
        """As templates read it."""
        function = self.function
        # Templates were not trained on `strict`, which is ours to keep.
        shown = self.model_dump(exclude_none=True, exclude={"function": {"strict"}})
        return Tool(function.name, shown, function.parameters, is_strict=function.strict is True)


class Conversation(WireRequest):
    """What a model is to read, whatever is then asked of it."""

    model: Text
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    tools: Annotated[list[ToolParam], Field(max_length=MAX_TOOLS)] | None = None
    chat_template_kwargs: (
        Annotated[dict[Text, bool | Whole | float | Text], Field(max_length=MAX_VARIABLES)] | None
    ) = None

    documents: Annotated[list[DocumentParam], Field(min_length=1, max_length=MAX_DOCUMENTS)] | None = None

    @model_validator(mode="after")
    def _documents_have_a_question(self) -> Conversation:
        if self.documents is not None:
            names = self.document_names
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise ValueError(f"two documents are called {twice!r}")
            if not any(message.role == "user" for message in self.messages):
                raise ValueError("documents are shown before what the user says last, and no message is his")
        return self

    @property
    def document_names(self) -> list[str]:
        """What segments call the documents."""
        return [f"{DOCUMENT}:{one.id or at}" for at, one in enumerate(self.documents or ())]

    @property
    def turns(self) -> list[Message]:
        """The messages, documents before what the user says last, with each text's place in the request."""
        turns = [message.turn(f"messages[{at}]") for at, message in enumerate(self.messages)]
        if self.documents is not None:
            last = max(at for at, turn in enumerate(turns) if turn.role == "user")
            turns[last] = replace(turns[last], texts=(*_shown(self.documents), *turns[last].texts))
        return turns

    @property
    def segment_names(self) -> dict[str, str]:
        """What the caller calls parts of his messages, and documents, by where they stand."""
        documents = {
            f"documents[{at}].{field}": name
            for at, name in enumerate(self.document_names)
            for field in ("title", "text")
        }
        return documents | {
            f"messages[{at}].content[{place}].text": part.segment
            for at, message in enumerate(self.messages)
            if isinstance(message.content, list)
            for place, part in enumerate(message.content)
            if part.segment is not None
        }

    @property
    def offered(self) -> list[Tool]:
        """The functions that the model may call."""
        return [tool.tool for tool in self.tools or []]


def _shown(documents: Sequence[DocumentParam]) -> Iterator[CallerText]:
    """Documents as texts of a message, each behind its title."""
    for at, document in enumerate(documents):
        if document.title is not None:
            yield CallerText(document.title, f"documents[{at}].title", at)
        yield CallerText(document.text, f"documents[{at}].text", at)


class NamedFunction(WireRequest):
    """A function by its name."""

    name: FunctionName


class NamedTool(WireRequest):
    """The function that must be called."""

    type: Literal["function"]
    function: NamedFunction


class ChatRequest(Conversation, GenerationFields):
    """A conversation to go on. Fields with one permitted value are known and not served otherwise."""

    max_completion_tokens: Count1 | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    store: Never | None = None
    # OpenAI keeps it with answers that are stored.
    metadata: None = None
    service_tier: Literal["auto", "default"] | None = None
    attention: AttentionParam | None = None
    grounding: Grounding | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> ChatRequest:
        given = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(given) == 2:
            raise ValueError("max_tokens and max_completion_tokens say two things")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    def sampling(self, default_max_tokens: int) -> SamplingParams:
        """What the engine is asked.

        Raises:
            InputError: fields that exclude each other.
        """
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return replace(super().sampling(self.max_completion_tokens or default_max_tokens), logprobs=logprobs)

    @property
    def quoted(self) -> QuotedTexts | None:
        """The texts that the answer is to quote.

        Raises:
            InputError: none are named.
        """
        named = [
            (part.segment, part.text)
            for message in self.messages
            if isinstance(message.content, list)
            for part in message.content
            if part.segment is not None
        ]
        named += zip(self.document_names, (one.text for one in self.documents or ()), strict=True)
        how = 'Give a part of a message a segment, "doc:1" say, or send texts.'
        return QuotedTexts.of(self.grounding, named, how)

    @property
    def further_constraints(self) -> list[Constraint]:
        """That the answer is made of quotes."""
        return [] if self.quoted is None else [self.quoted.constraint]

    @property
    def offer(self) -> ToolOffer:
        """The functions that are offered, and how free the model is to call them.

        Raises:
            InputError: a call is asked for of a function that is not offered.
        """
        choice = self.tool_choice or "auto"
        may_call_many = self.parallel_tool_calls is not False
        if isinstance(choice, NamedTool):
            return ToolOffer.of(super().offered, named=choice.function.name, may_call_many=may_call_many)
        return ToolOffer.of(super().offered, choice=ToolChoice(choice), may_call_many=may_call_many)

    @property
    def offered(self) -> list[Tool]:
        """The functions that the model is told of: with `tool_choice` none, none."""
        return list(self.offer.tools)


class CalledFunction(Piece):
    """A function with its arguments, as JSON; in a stream, the text that is new."""

    name: str | None = None
    arguments: str


class Call(Piece):
    """A call that the model makes; in a stream only the first piece has id, type and name."""

    index: int | None = None
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunction


class AnswerMessage(Piece):
    """What the assistant says; in a stream, what is new."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    refusal: None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    annotations: list[MessageAnnotation] | None = None


class TopLogprob(BaseModel):
    """A token and how likely it was; `token` is `bytes:...` where it is no text by itself."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(TopLogprob):
    """A token of an answer, and the likeliest at its place."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """How likely the tokens of an answer were: all that was thought, said and called, in the order chosen."""

    content: list[ChatLogprob]
    refusal: None = None


FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatChoice(Piece):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    token_ids: list[int] | None = None
    attention: Attention | None = None
    stopped_call: StoppedCall | None = None
    grounding: GroundingReport | None = None


class ChatCompletion(Piece):
    """All answers, whole."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    prompt_token_ids: list[int] | None = None


class ChunkChoice(Piece):
    """A piece of one answer; its last one has the reason of its end."""

    index: int
    delta: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None
    token_ids: list[int] | None = None
    attention: Attention | None = None
    stopped_call: StoppedCall | None = None
    grounding: GroundingReport | None = None


class ChatChunk(BaseModel):
    """A piece of an answer; the very last may have usage and no choice."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
