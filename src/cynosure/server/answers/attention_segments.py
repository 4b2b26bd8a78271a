"""Say to which part of a request each token of its prompt belongs. Knows no protocol and no attention."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from cynosure.core.errors import InputError
from cynosure.insight import PromptPart, PromptSegments, role_of
from cynosure.models.chat.prompt import TEMPLATE, ChatPrompt, Segment
from cynosure.models.text.tokenizer import Tokenizer

PROMPT = "prompt"

_TITLE = re.compile(r"documents\[\d+\]\.title")
_MESSAGE, _PART = re.compile(r"messages\[(\d+)\]"), re.compile(r"content\[(\d+)\]")


def chat_segments(prompt: ChatPrompt, names: Mapping[str, str]) -> PromptSegments:
    """The parts of a conversation; `names` are the caller's own, by where he wrote what they name."""
    taken: dict[str, int] = {}
    parts = [_part(segment, names.get(segment.path), taken) for segment in prompt.segments[1:]]
    assert prompt.segments[0].kind == TEMPLATE, "the template comes first"
    owners = [None if number == 0 else number - 1 for number in prompt.token_segments]
    return PromptSegments.of(parts, owners, prompt.token_offsets)


def text_segments(
    tokenizer: Tokenizer, text: str, token_ids: tuple[int, ...], named: Sequence[tuple[str, int, int]] = ()
) -> PromptSegments:
    """A prompt that is one text; what the tokenizer adds to it is the template's.

    Args:
        tokenizer: What made the tokens.
        text: What was written.
        token_ids: What is read.
        named: What the caller calls stretches of it: name, start and end, sorted and apart.

    Raises:
        InputError: a stretch ends behind the text, or the text was changed on its way.
    """
    if named and named[-1][2] > len(text):
        name, _, end = named[-1]
        raise InputError(
            f"segment {name!r} ends at {end}; the prompt has {len(text)} code points. Correct it."
        )
    encoding = tokenizer.encode(text)
    if encoding.ids != token_ids:
        # What the guard changed is no slice of what the caller wrote.
        if named:
            raise InputError(
                "segments are named by their places, and this server's policy changed the prompt. Leave them "
                "out."
            )
        return token_segments(token_ids)
    taken: dict[str, int] = {}
    stretches = list(_stretches(len(text), named))
    parts = [
        PromptPart(_unique(name, taken), name, role_of(name, "user"), text=text, start=start, end=end)
        for name, start, end in stretches
    ]
    ends = [end for _, _, end in stretches]
    owners = [
        None if sequence is None else min(bisect_right(ends, start), len(parts) - 1)
        for sequence, (start, _) in zip(encoding.sequences, encoding.offsets, strict=True)
    ]
    return PromptSegments.of(parts, owners, encoding.offsets)


def _stretches(length: int, named: Sequence[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    """What has a name, and what lies between: the prompt itself."""
    place = 0
    for name, start, end in named:
        if place < start:
            yield PROMPT, place, start
        yield name, start, end
        place = end
    if place < length or not named:
        yield PROMPT, place, length


def token_segments(token_ids: tuple[int, ...]) -> PromptSegments:
    """A prompt that came in tokens: one part, without a text."""
    part = PromptPart(PROMPT, PROMPT, "user")
    return PromptSegments.of([part], [0] * len(token_ids), [None] * len(token_ids))


def _part(segment: Segment, name: str | None, taken: dict[str, int]) -> PromptPart:
    """A segment of a conversation under a name that no other has."""
    message, part = _MESSAGE.match(segment.path), _PART.search(segment.path)
    called = name or segment.name
    return PromptPart(
        # A document is its text; its title is called the same, and is another part.
        id=f"{called}.title" if _TITLE.fullmatch(segment.path) else _unique(called, taken),
        name=called,
        role=role_of(called, segment.kind),
        message=None if message is None else int(message.group(1)),
        part=None if part is None else int(part.group(1)),
        text=segment.text,
        start=None if segment.text is None else 0,
        end=None if segment.text is None else len(segment.text),
    )


def _unique(name: str, taken: dict[str, int]) -> str:
    number = taken[name] = taken.get(name, -1) + 1
    return f"{name}.{number}" if number else name
