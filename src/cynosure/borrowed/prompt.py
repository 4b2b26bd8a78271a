"""Make a prompt for a tokenizer of the transformers library, and keep whose each token is. Runs no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from cynosure.core.errors import InputError
from cynosure.insight import PromptPart, PromptSegments, role_of

#: A name for a stretch of a text, `start:end` in code points.
Named = tuple[str, int, int]


@dataclass(frozen=True, eq=False)
class Prompt:
    """Tokens, and the part of the caller's text that each belongs to."""

    token_ids: tuple[int, ...]
    segments: PromptSegments


def text_prompt(tokenizer: PreTrainedTokenizerBase, text: str, named: Sequence[Named] = ()) -> Prompt:
    """A prompt that is one text; stretches of it may have names, such as `doc:1`.

    Raises:
        InputError: the tokenizer keeps no offsets, or stretches overlap, are empty or end behind the text.
    """
    place = 0
    for name, start, end in named:
        if not place <= start < end <= len(text):
            raise InputError(
                f"stretch {name!r} is {start}..{end} of {len(text)} code points; they are sorted, apart and "
                "within the text. Correct it."
            )
        place = end
    parts = [
        PromptPart(name, name, role_of(name, "user"), text=text, start=start, end=end)
        for name, start, end in _with_rest(len(text), named)
    ]
    return _read(tokenizer, text, parts, [(part.start or 0, part.end or 0) for part in parts], True)


def chat_prompt(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, str]], **template: object
) -> Prompt:
    """A conversation under the tokenizer's own template; what the template adds is a part of its own.

    Args:
        tokenizer: One with a chat template.
        messages: `role`, `content` and, where a message is to have a name of its own, `name`: `doc:1`.
        template: Further variables for `apply_chat_template`.

    Raises:
        InputError: a content can't be found in what the template wrote, in the order of the messages.
    """
    bare = [{"role": one["role"], "content": one["content"]} for one in messages]
    options = {"tokenize": False, "add_generation_prompt": True} | template
    text = tokenizer.apply_chat_template(bare, **options)  # pyright: ignore[reportArgumentType]
    if not isinstance(text, str):
        raise InputError("the chat template gave no single text. Leave tokenize and return_dict out.")
    parts: list[PromptPart] = []
    spans: list[tuple[int, int]] = []
    counts: dict[str, int] = {}
    place = 0
    for index, one in enumerate(messages):
        content = one["content"]
        start = text.find(content, place)
        if start < 0:
            raise InputError(
                f"the content of message {index} is not in what the template wrote: it was changed or "
                "dropped. Send it as the template writes it."
            )
        number = counts[one["role"]] = counts.get(one["role"], -1) + 1
        name = one.get("name") or (one["role"] if one["role"] == "system" else f"{one['role']}:{number}")
        parts.append(
            PromptPart(name, name, role_of(name, one["role"]), index, None, content, 0, len(content))
        )
        place = start + len(content)
        spans.append((start, place))
    return _read(tokenizer, text, parts, spans, False)


def _read(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    parts: Sequence[PromptPart],
    spans: Sequence[tuple[int, int]],
    adds_special: bool,
) -> Prompt:
    if not tokenizer.is_fast:
        raise InputError("this tokenizer keeps no offsets. Load it with use_fast=True.")
    read = tokenizer(text, return_offsets_mapping=True, add_special_tokens=adds_special)
    owners: list[int | None] = []
    offsets: list[tuple[int, int] | None] = []
    for start, end in read["offset_mapping"]:
        # A token that straddles two parts belongs to the one that holds its first character.
        owner = next(
            (n for n, (first, stop) in enumerate(spans) if first <= start < stop and start < end), None
        )
        owners.append(owner)
        first = 0 if owner is None else spans[owner][0] - (parts[owner].start or 0)
        offsets.append(None if owner is None else (start - first, end - first))
    return Prompt(tuple(read["input_ids"]), PromptSegments.of(parts, owners, offsets))


def _with_rest(length: int, named: Sequence[Named]) -> list[Named]:
    found: list[Named] = []
    place, number = 0, 0
    for name, start, end in [*named, ("", length, length)]:
        if place < start or (not named and not found):
            found.append(("prompt" if not number else f"prompt.{number}", place, start))
            number += 1
        if name:
            found.append((name, start, end))
        place = end
    return found
