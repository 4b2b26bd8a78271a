"""Shape what `/v1/responses` is given to read: messages, calls and their answers. Computes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from cynosure.core.errors import InputError
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.server.schemas.chat import MAX_MESSAGES, MAX_PARTS, FunctionCall, FunctionName, Nothing
from cynosure.server.schemas.file_search import FileSearchItem, GivenCitation
from cynosure.server.schemas.wire import NoPicture, Text, WireRequest

Status = Literal["in_progress", "completed", "incomplete"]


class InputText(WireRequest):
    """A piece of what is said."""

    type: Literal["input_text"]
    text: Text


class OutputText(WireRequest):
    """A piece of what the model said, as it was answered."""

    type: Literal["output_text"]
    text: Text
    annotations: Annotated[list[GivenCitation], Field(max_length=MAX_PARTS)] | None = None
    logprobs: list[dict[str, Any]] | None = None


class ReasoningText(WireRequest):
    """A piece of what the model thought, as it was answered."""

    type: Literal["reasoning_text"]
    text: Text


Part = Annotated[InputText | OutputText, Field(discriminator="type"), NoPicture]
Parts = Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS)]


class Item(WireRequest):
    """What every item may bring back as it was answered."""

    id: Text | None = None
    status: Status | None = None


class MessageItem(Item):
    """What somebody says."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Parts
    phase: None = None


class CallItem(Item):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: Text
    name: FunctionName
    arguments: Text


class CallOutputItem(Item):
    """What a call gave."""

    type: Literal["function_call_output"]
    call_id: Text
    output: Text | Annotated[list[Annotated[InputText, NoPicture]], Field(min_length=1, max_length=MAX_PARTS)]


class ReasoningItem(Item):
    """What the model thought; a summary, or reasoning that only its maker can read, is not served."""

    type: Literal["reasoning"]
    summary: Nothing = None
    content: Annotated[list[ReasoningText], Field(max_length=MAX_PARTS)] | None = None
    encrypted_content: None = None


def _kind(item: object) -> str:
    """The tag of an item, read or written; one that says no type is a message."""
    if isinstance(item, MessageItem | CallItem | CallOutputItem | ReasoningItem | FileSearchItem):
        return item.type
    kind = item.get("type", "message") if isinstance(item, Mapping) else "message"
    return kind if isinstance(kind, str) else ""


InputItem = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[CallOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[FileSearchItem, Tag("file_search_call")],
    Discriminator(_kind),
]
InputItems = Annotated[list[InputItem], Field(min_length=1, max_length=MAX_MESSAGES)]


def turns_of(items: Sequence[InputItem], path: str) -> list[Message]:
    """The items as turns; what the assistant thought, said and called in one go is one turn of it.

    Raises:
        InputError: the arguments of a call are no JSON object.
    """
    turns: list[Message] = []
    current: _Answer | None = None
    for at, item in enumerate(items):
        where = f"{path}[{at}]"
        if isinstance(item, FileSearchItem):
            continue
        is_answer = isinstance(item, CallItem | ReasoningItem) or (
            isinstance(item, MessageItem) and item.role == "assistant"
        )
        if current is not None and not (is_answer and current.takes(item)):
            turns.append(current.turn)
            current = None
        if is_answer:
            current = current or _Answer(where)
            current.add(item, where)
        elif isinstance(item, CallOutputItem):
            texts = _texts(item.output, f"{where}.output")
            turns.append(Message("tool", where, texts, tool_call_id=item.call_id))
        elif isinstance(item, MessageItem):
            role = "system" if item.role == "developer" else item.role
            turns.append(Message(role, where, _texts(item.content, f"{where}.content")))
    return turns if current is None else [*turns, current.turn]


def asked_turns(items: Sequence[InputItem], path: str) -> list[Message]:
    """The items of a request as turns.

    Raises:
        InputError: there is no turn, or the arguments of a call are no JSON object.
    """
    turns = turns_of(items, path)
    if not turns:
        raise InputError(f"{path} holds nothing to answer: a file_search_call is no turn. Send a message.")
    return turns


@dataclass
class _Answer:
    """A turn of the assistant that is being put together."""

    path: str
    reasoning: CallerText | None = None
    texts: tuple[CallerText, ...] = ()
    calls: list[Mapping[str, object]] = field(default_factory=list)

    def takes(self, item: InputItem) -> bool:
        """Whether an item belongs to the same turn: thoughts, then words, then calls."""
        if isinstance(item, ReasoningItem):
            return False
        return isinstance(item, CallItem) or not (self.texts or self.calls)

    def add(self, item: InputItem, where: str) -> None:
        if isinstance(item, ReasoningItem):
            thought = "".join(part.text for part in item.content or [])
            self.reasoning = CallerText(thought, f"{where}.content") if thought else None
        elif isinstance(item, MessageItem):
            self.texts = _texts(item.content, f"{where}.content")
        elif isinstance(item, CallItem):
            values = FunctionCall(name=item.name, arguments=item.arguments).values
            function = {"name": item.name, "arguments": values}
            self.calls.append({"id": item.call_id, "type": "function", "function": function})

    @property
    def turn(self) -> Message:
        return Message("assistant", self.path, self.texts, self.reasoning, tuple(self.calls))


def _texts(content: str | Sequence[InputText | OutputText], path: str) -> tuple[CallerText, ...]:
    if isinstance(content, str):
        return (CallerText(content, path),)
    return tuple(CallerText(part.text, f"{path}[{at}].text") for at, part in enumerate(content))
