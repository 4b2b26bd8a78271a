"""Shape `/v1/messages`, as Anthropic's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, model_validator

from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat.format import Tool
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.models.chat.tool_offer import ToolChoice, ToolOffer
from cynosure.server.schemas.attention import Attention, AttentionParam
from cynosure.server.schemas.chat import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS, FunctionName
from cynosure.server.schemas.citations import CitationsParam
from cynosure.server.schemas.end_user import EndUserName
from cynosure.server.schemas.message_documents import CacheControl, DocumentBlock, Location, TextBlock
from cynosure.server.schemas.stopped_call import StoppedCall
from cynosure.server.schemas.treatment import TreatmentFields
from cynosure.server.schemas.wire import Count1, Never, NoPicture, Piece, Text, WireRequest

MAX_STOPS = 8

Stop = Annotated[Text, Field(min_length=1, max_length=200)]


class ThinkingBlock(WireRequest):
    """What the model thought; the signature is ours, and empty."""

    type: Literal["thinking"]
    thinking: Text
    signature: Text = ""


class ToolUseBlock(WireRequest):
    """What the model called."""

    type: Literal["tool_use"]
    id: Text
    name: FunctionName
    input: dict[str, Any]
    caller: None = None
    cache_control: CacheControl | None = None
    toolset_name: None = None


class ToolResultBlock(WireRequest):
    """What a call gave; templates know no errors, so that one is said in the content."""

    type: Literal["tool_result"]
    tool_use_id: Text
    content: Text | Annotated[list[Annotated[TextBlock, NoPicture]], Field(max_length=MAX_PARTS)] = ""
    is_error: Never | None = None
    cache_control: CacheControl | None = None


Block: TypeAlias = Annotated[
    TextBlock | DocumentBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock,
    Field(discriminator="type"),
    NoPicture,
]


#: Who may send a block; anybody may send text.
_OWNERS = {
    ThinkingBlock: "assistant",
    ToolUseBlock: "assistant",
    ToolResultBlock: "user",
    DocumentBlock: "user",
}


class MessageParam(WireRequest):
    """One turn."""

    role: Literal["user", "assistant", "system"]
    content: Text | Annotated[list[Block], Field(min_length=1, max_length=MAX_PARTS)]

    @model_validator(mode="after")
    def _blocks_fit_the_role(self) -> MessageParam:
        for block in self.content if isinstance(self.content, list) else []:
            owner = _OWNERS.get(type(block), self.role)
            if owner != self.role:
                raise ValueError(f"a block of type {block.type} is the {owner}'s, not the {self.role}'s")
        return self

    def turns(self, path: str) -> list[Message]:
        """The message, and before it one for each result of a tool."""
        if isinstance(self.content, str):
            return [Message(self.role, path, (CallerText(self.content, f"{path}.content"),))]
        results, texts, calls = [], [], []
        thought: CallerText | None = None
        for at, block in enumerate(self.content):
            where = f"{path}.content[{at}]"
            if isinstance(block, TextBlock):
                texts.append(CallerText(block.text, f"{where}.text"))
            elif isinstance(block, DocumentBlock):
                texts += block.texts(where)
            elif isinstance(block, ThinkingBlock):
                thought = CallerText(block.thinking, f"{where}.thinking")
            elif isinstance(block, ToolUseBlock):
                function = {"name": block.name, "arguments": block.input}
                calls.append({"id": block.id, "type": "function", "function": function})
            else:
                said = _texts(block.content, f"{where}.content")
                results.append(Message("tool", where, said, tool_call_id=block.tool_use_id))
        if not (texts or calls or thought):
            return results
        return [*results, Message(self.role, path, tuple(texts), thought, tuple(calls))]


class AnthropicTool(WireRequest):
    """A function that is offered."""

    name: FunctionName
    input_schema: dict[str, Any]
    description: Text | None = None
    type: Literal["custom"] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None

    @property
    def tool(self) -> Tool:
        """As templates read it."""
        function = {"name": self.name, "description": self.description or "", "parameters": self.input_schema}
        schema = {"type": "function", "function": function}
        return Tool(self.name, schema, self.input_schema, is_strict=self.strict is True)


class ToolChoiceParam(WireRequest):
    """Whether the model may call, must call any function, or must call one."""

    type: Literal["auto", "none", "any", "tool"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def _only_one_tool_is_named(self) -> ToolChoiceParam:
        if (self.name is not None) != (self.type == "tool"):
            raise ValueError("tool_choice has a name where its type is tool, and nowhere else")
        return self


class ThinkingConfig(WireRequest):
    """Whether the model thinks first; a budget is not served."""

    type: Literal["adaptive", "disabled"]


class CountRequest(WireRequest):
    """What a model is to read."""

    model: Text
    messages: Annotated[list[MessageParam], Field(min_length=1, max_length=MAX_MESSAGES)]
    system: Text | Annotated[list[TextBlock], Field(max_length=MAX_PARTS)] | None = None
    tools: Annotated[list[AnthropicTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoiceParam | None = None
    thinking: ThinkingConfig | None = None
    cache_control: CacheControl | None = None

    @model_validator(mode="after")
    def _all_documents_are_cited_or_none(self) -> CountRequest:
        if len({document.is_cited for _, document in self.documents}) > 1:
            raise ValueError("citations are enabled on some documents: enable them on all, or on none")
        return self

    @model_validator(mode="after")
    def _the_last_turn_is_not_the_model_s(self) -> CountRequest:
        if self.messages[-1].role == "assistant":
            raise ValueError("the last message is the assistant's, and to go on with it is not served")
        return self

    @property
    def turns(self) -> list[Message]:
        """The messages, the system's first, with where each text stands in the request."""
        turns = [
            turn for at, message in enumerate(self.messages) for turn in message.turns(f"messages[{at}]")
        ]
        return (
            turns
            if self.system is None
            else [Message("system", "system", _texts(self.system, "system")), *turns]
        )

    @property
    def documents(self) -> list[tuple[str, DocumentBlock]]:
        """The documents of all messages, each with where it stands."""
        return [
            (f"messages[{at}].content[{place}]", block)
            for at, message in enumerate(self.messages)
            if isinstance(message.content, list)
            for place, block in enumerate(message.content)
            if isinstance(block, DocumentBlock)
        ]

    @property
    def segment_names(self) -> dict[str, str]:
        """What segments call the texts of documents, by their paths."""
        names: dict[str, str] = {}
        for number, (where, document) in enumerate(self.documents):
            names |= document.names(where, number)
        return names

    @property
    def offer(self) -> ToolOffer:
        """The functions that are offered, and how free the model is to call them.

        Raises:
            InputError: a call is asked for of a function that is not offered.
        """
        tools = [tool.tool for tool in self.tools or []]
        asked = self.tool_choice
        if asked is None:
            return ToolOffer.of(tools)
        may_call_many = not asked.disable_parallel_tool_use
        if asked.name is not None:
            return ToolOffer.of(tools, named=asked.name, may_call_many=may_call_many)
        choice = ToolChoice.REQUIRED if asked.type == "any" else ToolChoice(asked.type)
        return ToolOffer.of(tools, choice=choice, may_call_many=may_call_many)


class MessagesMetadata(WireRequest):
    """Whom the caller asks for."""

    user_id: EndUserName | None = None


class MessagesRequest(CountRequest, TreatmentFields):
    """A conversation to go on. Fields with one permitted value are known and not served otherwise.

    How it is treated is said in fields of OpenAI's and our own, as on the other routes.
    """

    max_tokens: Count1
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Count1 | None = None
    stop_sequences: Annotated[list[Stop], Field(max_length=MAX_STOPS)] | None = None
    stream: bool | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    attention: AttentionParam | None = None
    metadata: MessagesMetadata | None = None

    @property
    def end_user(self) -> str:
        """Who asks; empty where nobody is named."""
        return "" if self.metadata is None else self.metadata.user_id or ""

    @property
    def watched(self) -> AttentionParam | None:
        """What is to be told of attention, citations of documents among it."""
        if not any(document.is_cited for _, document in self.documents):
            return self.attention
        asked = self.attention or AttentionParam()
        return asked if asked.citations else asked.model_copy(update={"citations": CitationsParam()})

    @property
    def sampling(self) -> SamplingParams:
        """What the engine is asked."""
        given = self.model_dump(include={"temperature", "top_p", "top_k"}, exclude_none=True)
        return SamplingParams(max_tokens=self.max_tokens, **given)


class TokenCount(BaseModel):
    """How many tokens the model would read."""

    input_tokens: int


class MessagesUsage(BaseModel):
    """Tokens read from the cache, read anew, and chosen."""

    input_tokens: int
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    output_tokens: int


class TextContent(Piece):
    """What the model says; where documents are cited, a sentence with citations is a block."""

    type: Literal["text"]
    text: str
    citations: list[Location] | None = None


class ThinkingContent(BaseModel):
    """What the model thought; nobody signs it here."""

    type: Literal["thinking"] = "thinking"
    thinking: str
    signature: Literal[""] = ""


class ToolUseContent(BaseModel):
    """What the model calls."""

    type: Literal["tool_use"] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]


class MessageBody(Piece):
    """A whole answer, or the empty beginning of one."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[TextContent | ThinkingContent | ToolUseContent]
    stop_reason: Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"] | None
    stop_sequence: str | None
    usage: MessagesUsage
    attention: Attention | None = None
    stopped_call: StoppedCall | None = None


def _texts(content: str | list[TextBlock], path: str) -> tuple[CallerText, ...]:
    if isinstance(content, str):
        return (CallerText(content, path),)
    return tuple(CallerText(block.text, f"{path}[{at}].text") for at, block in enumerate(content))
