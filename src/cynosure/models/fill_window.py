"""Cut what stands before and behind a gap to what a model takes at once. Knows nothing of files or requests.

A small model sees a window on a file: most of it before the gap, the rest behind it, in whole lines.
"""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import InputTooLong
from cynosure.models.fill_in import FilledPrompt, fill_in
from cynosure.models.text.tokenizer import Tokenizer

#: Of a window that is full, one token in so many stands behind the gap.
SUFFIX_SHARE = 4
#: More characters a token than code has; what lies further off is not even read.
MAX_TOKEN_CHARS = 8


@dataclass(frozen=True)
class FillWindow:
    """A prompt with a gap, and what it shows.

    `start` is where it begins in the text before the gap, and `end` where it ends in the one behind, both in
    code points.
    """

    prompt: FilledPrompt
    start: int
    end: int


def fill_window(tokenizer: Tokenizer, prefix: str, suffix: str, max_tokens: int) -> FillWindow:
    """The prompt of a gap, of at most so many tokens: all of the text, or the lines that are nearest.

    Raises:
        InputTooLong: not even an empty text has room.
        UnknownOption: the vocabulary has no tokens for a gap.
        InputError: a text is not valid Unicode.
    """
    room = max_tokens - len(fill_in(tokenizer, "", "").token_ids)
    while room >= 0:
        start, end = _cut(tokenizer, prefix, suffix, room)
        prompt = fill_in(tokenizer, prefix[start:], suffix[:end])
        over = len(prompt.token_ids) - max_tokens
        if over <= 0:
            return FillWindow(prompt, start, end)
        # Some tokenizers write a piece of a text in more tokens than the whole text has there.
        room -= over
    raise InputTooLong(
        f"a gap is to be written behind {max_tokens} tokens at most, which is less than its own marks take. "
        "Ask for fewer tokens, or take a model that reads more."
    )


def whole_lines(prefix: str, suffix: str, start: int, end: int) -> tuple[int, int]:
    """Move the edges of a window inwards to where lines begin; a line that is longer than it stays cut."""
    if start > 0 and (found := prefix.find("\n", start - 1)) >= 0:
        start = found + 1
    if end < len(suffix) and (found := suffix.rfind("\n", 0, end)) >= 0:
        end = found + 1
    return start, end


def _cut(tokenizer: Tokenizer, prefix: str, suffix: str, room: int) -> tuple[int, int]:
    """Where a window of `room` tokens begins and ends; what one side leaves, the other takes."""
    if room == 0:
        return len(prefix), 0
    tail, head = prefix[-MAX_TOKEN_CHARS * room :], suffix[: MAX_TOKEN_CHARS * room]
    before = tokenizer.encode(tail, add_special_tokens=False).offsets
    behind = tokenizer.encode(head, add_special_tokens=False).offsets
    num_behind = min(len(behind), max(room // SUFFIX_SHARE, room - len(before)))
    num_before = min(len(before), room - num_behind)
    is_cut = num_before < len(before)
    start = len(prefix) - len(tail) + (before[len(before) - num_before][0] if is_cut and num_before else 0)
    if is_cut and not num_before:
        start = len(prefix)
    end = behind[num_behind][0] if num_behind < len(behind) else len(head)
    return whole_lines(prefix, suffix, start, end)
