"""Arrange a prompt whose middle is to be written, as code models were trained. Knows nothing of requests.

Each family has control tokens of its own for what stands before a gap, after it, and for the gap itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from cynosure.core.errors import UnknownOption
from cynosure.models.text.tokenizer import Tokenizer


@runtime_checkable
class Vocabulary(Protocol):
    """What tells whether there is such a token."""

    def token_to_id(self, token: str) -> int | None:
        """A token's number; None where there is none of that text."""
        ...


@dataclass(frozen=True)
class FillForm:
    """How one family writes a gap.

    - `prefix`, `suffix`: the tokens before either part.
    - `middle`: the token after which the gap is written; None where it is simply what follows the prefix.
    - `ends`: tokens that end a middle, where the vocabulary has them.
    - `is_suffix_first`: whether the prefix stands last, so that the gap simply goes on from it.
    """

    prefix: str
    suffix: str
    middle: str | None
    ends: tuple[str, ...] = ()
    is_suffix_first: bool = False

    @property
    def tokens(self) -> tuple[str, ...]:
        """What a vocabulary must hold."""
        return tuple(token for token in (self.prefix, self.suffix, self.middle) if token is not None)


#: Qwen2.5-Coder and CodeGemma; StarCoder and Granite; SantaCoder; DeepSeek-Coder; CodeLlama; Codestral; the
#: pack's own, which is too small to find the end of a prefix that stands before the suffix.
FORMS: Final = (
    FillForm(
        "<|fim_prefix|>",
        "<|fim_suffix|>",
        "<|fim_middle|>",
        ("<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|file_separator|>"),
    ),
    FillForm("<fim_prefix>", "<fim_suffix>", "<fim_middle>", ("<|endoftext|>", "<file_sep>", "<filename>")),
    FillForm("<fim-prefix>", "<fim-suffix>", "<fim-middle>", ("<|endoftext|>",)),
    FillForm("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>", ("<｜end▁of▁sentence｜>",)),
    FillForm("▁<PRE>", "▁<SUF>", "▁<MID>", ("▁<EOT>",)),
    FillForm("[PREFIX]", "[SUFFIX]", None, is_suffix_first=True),
    FillForm("<|spm_prefix|>", "<|spm_suffix|>", "<|spm_middle|>", ("<|endoftext|>",), is_suffix_first=True),
)


@dataclass(frozen=True)
class FilledPrompt:
    """A prompt with a gap, and the tokens that end what is written into it."""

    token_ids: tuple[int, ...]
    end_ids: tuple[int, ...]


def form_of(tokenizer: Vocabulary) -> FillForm | None:
    """How a model writes a gap; None where its vocabulary has no tokens for one."""
    for form in FORMS:
        if all(tokenizer.token_to_id(token) is not None for token in form.tokens):
            return form
    return None


def fill_in(tokenizer: Tokenizer, prefix: str, suffix: str) -> FilledPrompt:
    """The tokens of a prompt whose middle is missing; control tokens in either text stay text.

    Raises:
        UnknownOption: the vocabulary has no tokens for a gap.
        InputError: a text is not valid Unicode.
    """
    form = form_of(tokenizer)
    if form is None:
        known = ", ".join(form.suffix for form in FORMS)
        raise UnknownOption(
            f"suffix is not served: this model's vocabulary has no token for a gap (known: {known}). Leave "
            "it out, or take a model that was trained to fill in."
        )
    before = tokenizer.encode(prefix, add_special_tokens=False).ids
    after = tokenizer.encode_later(suffix)
    begin = tokenizer.encode("").ids
    first, second, *middle = [
        mark for name in form.tokens if (mark := tokenizer.token_to_id(name)) is not None
    ]
    if not form.is_suffix_first:
        parts = (first, *before, second, *after, *middle)
    elif middle:
        parts = (first, second, *after, *middle, *before)
    else:
        parts = (second, *after, first, *before)
    ends = [tokenizer.token_to_id(token) for token in form.ends]
    return FilledPrompt((*begin, *parts), tuple(end for end in ends if end is not None))
