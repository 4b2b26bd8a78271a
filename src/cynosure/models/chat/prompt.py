"""Turn a conversation into token ids whose origin is known. Knows nothing of HTTP, nor of what is generated.

Every token belongs to one segment: one string of the caller, one structure of his (tool definitions, calls)
or the template. A token that straddles two belongs to the one that holds its first byte.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from cynosure.models.chat.earlier import Earlier, Splice, splices_in
from cynosure.models.chat.template import REASONING_KEYS, ChatTemplate, RenderedPrompt, is_role_path
from cynosure.models.chat.template_process import CallerRun
from cynosure.models.text.tokenizer import Encoding, Tokenizer

Span = tuple[int, int]

TEMPLATE, TOOLS, SYSTEM, GENERATED = "template", "tools", "system", "generated"

#: What stands between two texts of one message, for templates that read one string.
_JOINT = "\n"
#: How byte-level vocabularies spell a space.
_BYTE_SPACE = "Ġ"


@dataclass(frozen=True)
class CallerText:
    """A string that a caller wrote, and where in his request: `messages[0].content`.

    `document` is the number of the document that it is a field of, where it is one: templates that quote
    documents get it apart, others as a text of its message.
    """

    text: str
    path: str
    document: int | None = None


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: Who speaks: system, user, assistant or tool.
        path: Where it stands in the request: `messages[0]`.
        texts: What is said.
        reasoning: What was thought before it.
        tool_calls: `{"id", "type", "function": {"name", "arguments"}}`, the arguments as an object.
        tool_call_id: Which call a tool answers.
        name: The name of the speaker, or of the tool.
    """

    role: str
    path: str
    texts: tuple[CallerText, ...] = ()
    reasoning: CallerText | None = None
    tool_calls: tuple[Mapping[str, object], ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Segment:
    """What a token belongs to.

    Attributes:
        kind: The role of the message, or `template`, `tools`, `generated`.
        index: Which message of its kind.
        path: Where the caller wrote it; empty for the template.
        text: His string, into which offsets count; None where he wrote a structure, or nothing.
    """

    kind: str
    index: int = 0
    path: str = ""
    text: str | None = None

    @property
    def name(self) -> str:
        """What requests call it: `system`, `user:1`, `template`."""
        alone = self.kind in (TEMPLATE, TOOLS, SYSTEM, GENERATED) and self.index == 0
        return self.kind if alone else f"{self.kind}:{self.index}"


@dataclass(frozen=True)
class ChatPrompt:
    """A rendered conversation, in tokens.

    Attributes:
        text: What the tokens spell.
        token_ids: What the model reads.
        segments: The template first, then the caller's in the order of the conversation, dropped ones too.
        token_segments: For each token the number of its segment.
        token_offsets: For each token its start and end in the segment's text, in Unicode code points; None
            where the segment has no text, or the template changed it.
    """

    text: str
    token_ids: tuple[int, ...]
    segments: tuple[Segment, ...]
    token_segments: tuple[int, ...]
    token_offsets: tuple[Span | None, ...]


def build_chat_prompt(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, object]] | None = None,
    add_generation_prompt: bool = True,
    variables: Mapping[str, object] | None = None,
    earlier: Earlier | None = None,
) -> ChatPrompt:
    """Render and encode a conversation.

    Args:
        template: The checkpoint's.
        tokenizer: The checkpoint's.
        messages: The turns.
        tools: JSON schemas of functions.
        add_generation_prompt: Whether to open the assistant's turn at the end.
        variables: What else the template reads.
        earlier: What was generated before; where the conversation repeats it, its tokens stand for the text.

    Raises:
        TemplateError: The template refuses the messages, fails, or runs over a limit.
        InputError: A text is not valid Unicode.
    """

    def render(documents: Sequence[Mapping[str, str]] | None) -> RenderedPrompt:
        return template.render(
            _as_templates_read(messages, is_quoted=documents is not None),
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            variables=variables,
        )

    documents = _documents_of(messages) if template.reads("documents") else None
    rendered = render(documents)
    if documents is not None and not _are_quoted(documents, rendered):
        # The template only has the word, or knows documents by other fields.
        documents = None
        rendered = render(None)
    origin = _Origin(messages, bool(tools), rendered, is_quoted=documents is not None)
    splices = [] if earlier is None else splices_in(rendered, tokenizer, earlier)
    ids, spans = _encoded(tokenizer, rendered, origin, splices)
    owners, offsets = [], []
    for span in _untrimmed(tokenizer, ids, spans, rendered.text):
        owner, offset = origin.of(*span)
        owners.append(owner)
        offsets.append(offset)
    return ChatPrompt(rendered.text, tuple(ids), origin.segments, tuple(owners), tuple(offsets))


def _documents_of(messages: Sequence[Message]) -> list[dict[str, str]] | None:
    """The documents as templates know them; None where there are none."""
    documents: dict[int, dict[str, str]] = {}
    for text in (text for message in messages for text in message.texts):
        if text.document is not None:
            documents.setdefault(text.document, {})[_field(text)] = text.text
    return [documents[number] for number in sorted(documents)] or None


def _field(text: CallerText) -> str:
    """What a text of a document is called: the last word of its path."""
    return text.path.rsplit(".", 1)[-1]


def _are_quoted(documents: Sequence[Mapping[str, str]], rendered: RenderedPrompt) -> bool:
    """Whether the template wrote every field of every document whole."""
    written = Counter[tuple[str | int, ...]]()
    for run in rendered.runs:
        if run.path[:1] == ("documents",):
            written[run.path] += run.end - run.start
    return all(
        written["documents", number, name] >= len(text)
        for number, document in enumerate(documents)
        for name, text in document.items()
    )


def _as_templates_read(messages: Sequence[Message], *, is_quoted: bool) -> list[dict[str, object]]:
    """Messages as templates know them; a tool's answer gets the name of the function that was called.

    Documents are left out where the template quotes them itself.
    """
    called: dict[object, object] = {}
    read = []
    for message in messages:
        for call in message.tool_calls:
            function = call["function"]
            called[call.get("id")] = function.get("name") if isinstance(function, Mapping) else None
        name = message.name or (called.get(message.tool_call_id) if message.tool_call_id else None)
        values = {
            "role": message.role,
            "content": _JOINT.join(text.text for text in _said(message, is_quoted)),
            REASONING_KEYS[0]: message.reasoning and message.reasoning.text,
            "tool_calls": [dict(call) for call in message.tool_calls],
            "tool_call_id": message.tool_call_id,
            "name": name,
        }
        read.append({key: value for key, value in values.items() if value or key in ("role", "content")})
    return read


def _said(message: Message, is_quoted: bool) -> list[CallerText]:
    """The texts that are its content."""
    return [text for text in message.texts if text.document is None or not is_quoted]


def _encoded(
    tokenizer: Tokenizer, rendered: RenderedPrompt, origin: _Origin, splices: Sequence[Splice]
) -> tuple[list[int], list[Span]]:
    """Tokens and their spans: those that are known, and between them what the tokenizer makes of the text."""
    ids: list[int] = []
    spans: list[Span] = []
    position = 0
    for splice in splices:
        between = _between(tokenizer, rendered, origin, (position, splice.start))
        ids += [*between.ids, *splice.token_ids]
        spans += [*between.offsets, *splice.offsets]
        position = splice.end
    rest = _between(tokenizer, rendered, origin, (position, len(rendered.text)))
    return [*ids, *rest.ids], [*spans, *rest.offsets]


def _between(tokenizer: Tokenizer, rendered: RenderedPrompt, origin: _Origin, part: Span) -> Encoding:
    """Encode a part; control tokens that the tokenizer's normalizer made of a caller's text are spelled."""
    encoding = tokenizer.encode_prompt(rendered.text, rendered.literals, part)
    forged = {
        span
        for span, is_special in zip(encoding.offsets, encoding.special, strict=True)
        if is_special and span[0] < span[1] and origin.is_callers(*span)
    }
    if not forged:
        return encoding
    return tokenizer.encode_prompt(rendered.text, sorted({*rendered.literals, *forged}), part)


def _untrimmed(tokenizer: Tokenizer, ids: Sequence[int], spans: Sequence[Span], text: str) -> Iterator[Span]:
    """The spans of the tokens with the spaces that some byte-level tokenizers leave out of them."""
    position = 0
    for token_id, (start, end) in zip(ids, spans, strict=True):
        if position < start and not text[position:start].strip(" "):
            token = tokenizer.id_to_token(token_id) or ""
            num_spaces = len(token) - len(token.lstrip(_BYTE_SPACE))
            start = max(position, start - num_spaces)
        yield start, end
        position = max(position, end)


class _Origin:
    """Says of each part of a rendered text whose it is."""

    def __init__(
        self, messages: Sequence[Message], has_tools: bool, rendered: RenderedPrompt, *, is_quoted: bool
    ) -> None:
        self._is_quoted = is_quoted
        self._segments = [Segment(TEMPLATE)]
        self._numbers: dict[tuple[str | int, ...], int] = {}
        #: Starts of a message's texts in its content, and the segment of the first.
        self._contents: dict[int, tuple[list[int], int]] = {}
        counts: Counter[str] = Counter()
        if has_tools:
            self._numbers[("tools",)] = self._add(Segment(TOOLS, 0, "tools"))
        for index, message in enumerate(messages):
            self._add_message(index, message, counts[message.role])
            counts[message.role] += 1
        self.segments = tuple(self._segments)
        self._pieces = [piece for run in rendered.runs for piece in self._pieces_of(run)]
        self._ends = [end for _, end, _, _ in self._pieces]

    def of(self, start: int, end: int) -> tuple[int, Span | None]:
        """The segment of the first character, and the span in its text that `start:end` holds."""
        place = bisect_right(self._ends, start)
        if place == len(self._pieces) or self._pieces[place][0] > start:
            return 0, None
        first, last, number, offset = self._pieces[place]
        if offset is None or self.segments[number].text is None:
            return number, None
        begin = offset + start - first
        return number, (begin, begin + min(end, last) - start)

    def is_callers(self, start: int, end: int) -> bool:
        """Whether a caller wrote any of these characters."""
        place = bisect_right(self._ends, start)
        return place < len(self._pieces) and self._pieces[place][0] < max(end, start + 1)

    def _add(self, segment: Segment) -> int:
        self._segments.append(segment)
        return len(self._segments) - 1

    def _add_message(self, index: int, message: Message, ordinal: int) -> None:
        def segment(path: str, text: str | None = None) -> int:
            return self._add(Segment(message.role, ordinal, path, text))

        if message.reasoning is not None:
            number = segment(message.reasoning.path, message.reasoning.text)
            self._numbers |= {("messages", index, key): number for key in REASONING_KEYS}
        said = _said(message, self._is_quoted)
        for text in message.texts:
            if text.document is not None and text not in said:
                self._numbers["documents", text.document, _field(text)] = segment(text.path, text.text)
        if said:
            numbers = [segment(text.path, text.text) for text in said]
            lengths = [len(text.text) + len(_JOINT) for text in said]
            self._contents[index] = ([0, *accumulate(lengths)], numbers[0])
        if message.tool_calls or message.tool_call_id or message.name or not message.texts:
            # Calls and names: the caller's, and no text of his.
            self._numbers[("messages", index)] = segment(message.path)

    def _pieces_of(self, run: CallerRun) -> Iterator[tuple[int, int, int, int | None]]:
        """Start, end, segment and offset in its text; a content's joints are left out."""
        if is_role_path(run.path):
            return
        index = run.path[1] if len(run.path) > 1 and run.path[0] == "messages" else None
        if isinstance(index, int) and run.path[2:3] == ("content",) and index in self._contents:
            starts, number = self._contents[index]
            yield from _split(run, starts, number)
            return
        for length in range(len(run.path), 0, -1):
            number = self._numbers.get(run.path[:length])
            if number is not None:
                yield run.start, run.end, number, run.offset
                return


def _split(run: CallerRun, starts: Sequence[int], number: int) -> Iterator[tuple[int, int, int, int | None]]:
    if run.offset is None:
        yield run.start, run.end, number, None
        return
    stop = run.offset + run.end - run.start
    for place, (start, after) in enumerate(pairwise(starts)):
        first, last = max(run.offset, start), min(stop, after - len(_JOINT))
        if first < last:
            shift = run.start - run.offset
            yield first + shift, last + shift, number + place, first - start
