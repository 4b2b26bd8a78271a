"""Read what a completion goes on from: its tokens, its text and where they meet. Knows no protocol."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import InputError
from cynosure.models.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class EchoedPrompt:
    """A prompt that is said again.

    `starts[i]` is where the text of token i begins, in code points; one that was added has none, and begins
    where the next does.
    """

    token_ids: tuple[int, ...]
    text: str
    starts: tuple[int, ...]


def read_text(tokenizer: Tokenizer, text: str) -> EchoedPrompt:
    """A prompt that was written as text; it is said again word for word."""
    encoding = tokenizer.encode(text)
    starts, position = [], 0
    for (start, end), sequence in zip(encoding.offsets, encoding.sequences, strict=True):
        starts.append(position if sequence is None else start)
        position = position if sequence is None else end
    return EchoedPrompt(encoding.ids, text, tuple(starts))


def read_tokens(tokenizer: Tokenizer, token_ids: list[int], *, skips_special: bool) -> EchoedPrompt:
    """A prompt that was written in tokens; its text is what they spell.

    Raises:
        InputError: there is no such token.
    """
    decoder = tokenizer.stream(skip_special_tokens=skips_special)
    starts, pieces, length = [], [], 0
    for token_id in token_ids:
        if tokenizer.id_to_token(token_id) is None:
            raise InputError(
                f"the prompt holds token id {token_id}, which has no text to echo; ids are "
                f"0..{tokenizer.vocab_size - 1}. Leave echo out."
            )
        starts.append(length)
        pieces.append(decoder.push(token_id))
        length += len(pieces[-1])
    return EchoedPrompt(tuple(token_ids), "".join(pieces) + decoder.finish(), tuple(starts))
