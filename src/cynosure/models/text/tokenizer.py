"""Turn text into token ids and back. Knows nothing of torch, nor of what the ids are for.

A control token (`<|im_end|>`) inside a caller's text is encoded as ordinary characters unless the caller says
otherwise: nobody ends the system's turn by writing its end token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding as RawEncoding
from tokenizers import Tokenizer as RawTokenizer

from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.text.stream_decoder import StreamDecoder, decode_whole
from cynosure.models.text.token_bytes import TokenBytes
from cynosure.models.text.tokenizer_files import TokenizerFiles, load_tokenizer_files

Span = tuple[int, int]


@dataclass(frozen=True)
class Encoding:
    """Token ids and, for each, where it comes from.

    Attributes:
        ids: The token ids.
        offsets: Start and end in the caller's text, in Unicode code points; a token that holds a part of a
            character spans the whole character, one that was added spans nothing.
        special: Whether it is a control token instead of text.
        type_ids: What the model calls it: 0, or 1 in the second text of a pair.
        sequences: Which text it comes from (0 or 1), None where it was added.
        num_dropped: How many tokens of the text a truncation left out.
    """

    ids: tuple[int, ...]
    offsets: tuple[Span, ...]
    special: tuple[bool, ...]
    type_ids: tuple[int, ...]
    sequences: tuple[int | None, ...]
    num_dropped: int = 0

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.ids)


class Tokenizer:
    """The tokenizer of one checkpoint; safe to share between threads.

    Args:
        files: What `load_tokenizer_files` read.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        """Wrap the files' content."""
        self._raw = files.raw
        self._plain = files.plain
        self._named = dict(files.named)
        self.control_tokens = files.control
        self.special_ids = files.special_ids
        #: The length that the checkpoint declares, specials included; None where it declares none.
        self.max_length = files.max_length
        self._bytes = TokenBytes(files.raw)
        unknown = self.token_to_id(self._named.get("unk_token", ""))
        self._control_ids = {self.token_to_id(text) for text in files.control} - {unknown}
        longest_first = sorted(files.control, key=len, reverse=True)
        self._control_pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    @classmethod
    def from_folder(cls, folder: Path) -> Tokenizer:
        """The tokenizer in a checkpoint's folder.

        Raises:
            CheckpointNotFound: No tokenizer.json.
            CheckpointCorrupt: A file that does not parse.
        """
        return cls(load_tokenizer_files(folder))

    @property
    def named_tokens(self) -> Mapping[str, str]:
        """The texts of `bos_token`, `eos_token` and what else the files name, as chat templates see them."""
        return dict(self._named)

    @property
    def vocab_size(self) -> int:
        """How many ids there are, added tokens included; a model's table may be longer."""
        return self._raw.get_vocab_size()

    @property
    def definition(self) -> str:
        """What it is made of, as `tokenizer.json` holds it, with all tokens that the other files add."""
        return self._raw.to_str()

    def named_id(self, name: str) -> int | None:
        """The id of `bos_token` or its like."""
        return self.token_to_id(self._named[name]) if name in self._named else None

    def token_to_id(self, token: str) -> int | None:
        """The id of a token's text."""
        return self._raw.token_to_id(token)

    def id_to_token(self, token_id: int) -> str | None:
        """The text of a token in the vocabulary's own spelling, or None where there is no such id."""
        return self._raw.id_to_token(token_id) if 0 <= token_id < 2**32 else None

    def encode(
        self,
        text: str,
        *,
        add_special_tokens: bool = True,
        allow_special: bool = False,
        max_length: int | None = None,
        truncate: bool = False,
    ) -> Encoding:
        """Encode one text.

        Args:
            text: The text.
            add_special_tokens: Whether to add what the model expects around it.
            allow_special: Whether control tokens written in the text count as such.
            max_length: The most tokens that may come out, added ones included.
            truncate: Whether to drop tokens at the end instead of raising; `num_dropped` tells how many.

        Raises:
            InputError: The text is not valid Unicode.
            InputTooLong: More than `max_length` tokens.
        """
        parts = [self._part(text, allow_special)]
        return self._finished(parts, add_special_tokens, max_length, truncate)

    def encode_pair(
        self,
        first: str,
        second: str,
        *,
        allow_special: bool = False,
        max_length: int | None = None,
        truncate: bool = False,
    ) -> Encoding:
        """Encode two texts for one pass, as a cross-encoder reads them; offsets count in each text by itself.

        Truncation drops from the longer one. Arguments and errors are those of `encode`.
        """
        parts = [self._part(text, allow_special) for text in (first, second)]
        return self._finished(parts, True, max_length, truncate)

    def own_ids(self, texts: Sequence[str]) -> list[list[int] | None]:
        """Return each text's own tokens, without added ones; `None` for a text that spells a control token.

        All cores share the work.

        Raises:
            InputError: A text is not valid Unicode.
        """
        for text in texts:
            _check_unicode(text)
        raws = self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
        return [ids if self._control_ids.isdisjoint(ids) else None for ids in (raw.ids for raw in raws)]

    def encode_prompt(self, text: str, literals: Sequence[Span] = (), part: Span | None = None) -> Encoding:
        """Encode a rendered chat, whose control tokens count, save for the spans of `literals`.

        Nothing is added: a template writes its own begin token.

        Args:
            text: What a chat template rendered.
            literals: Sorted spans of control tokens that came out of a message; they become characters.
            part: Which of the text to encode, in code points; all of it where nothing is said.
        """
        _check_unicode(text)
        position, stop = part or (0, len(text))
        pieces = []
        for start, end in literals:
            start, end = max(start, position), min(end, stop)
            if start <= end:  # an empty one cuts too
                pieces += [(position, start, self._raw), *self._broken(text, start, end)]
                position = end
        whole = _join(text, [*pieces, (position, stop, self._raw)])
        return self._finished([whole], False, None, False)

    def control_spans(self, text: str) -> list[Span]:
        """Where control tokens are written in a text, whoever wrote them; sorted, in code points."""
        return [match.span() for match in self._control_pattern.finditer(text)]

    def is_control(self, token_id: int) -> bool:
        """Whether a token must not come from a user's text."""
        return token_id in self._control_ids

    def encode_later(self, text: str) -> tuple[int, ...]:
        """The tokens of a text that goes on from another: nothing is put before it, and none are added."""
        _check_unicode(text)
        if not text:
            return ()
        # Not at the start: `_encode_piece` reads it behind a line break, and drops that again.
        whole, pieces, position = f"\n{text}", [], 1
        for match in self._control_pattern.finditer(whole, 1):
            pieces += [(position, match.start(), self._plain), *self._broken(whole, *match.span())]
            position = match.end()
        return tuple(_join(whole, [*pieces, (position, len(whole), self._plain)]).raw.ids)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token behind other text; none where there is no such token."""
        return self._bytes.of(token_id)

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of `token_ids`; ids that do not exist give none."""
        known = [token_id for token_id in token_ids if self.id_to_token(token_id) is not None]
        return decode_whole(self._raw, known, self.special_ids if skip_special_tokens else frozenset())

    def stream(self, *, skip_special_tokens: bool = True, shown: Collection[str] = ()) -> StreamDecoder:
        """A decoder for ids that arrive one by one; the special tokens in `shown` are text all the same."""
        skipped = self.special_ids if skip_special_tokens else frozenset()
        return StreamDecoder(self._raw, skipped - {self.token_to_id(token) for token in shown})

    def _part(self, text: str, allow_special: bool) -> _Part:
        _check_unicode(text)
        raw = (self._raw if allow_special else self._plain).encode(text, add_special_tokens=False)
        if allow_special or self._control_ids.isdisjoint(raw.ids):
            return _Part(raw, list(raw.offsets))
        pieces = []
        position = 0
        for match in self._control_pattern.finditer(text):
            pieces += [(position, match.start(), self._plain), *self._broken(text, *match.span())]
            position = match.end()
        return _join(text, [*pieces, (position, len(text), self._plain)])

    def _broken(self, text: str, start: int, end: int) -> list[_Piece]:
        """The pieces that spell a control token in ordinary tokens.

        Unigram vocabularies hold "</s>" as one piece, so that even the plain tokenizer gives its id.
        """
        if self._control_ids.isdisjoint(self._plain.encode(text[start:end], add_special_tokens=False).ids):
            return [(start, end, self._plain)]
        return [(start, start + 1, self._plain), (start + 1, end, self._plain)]

    def _finished(
        self, parts: list[_Part], add_special_tokens: bool, max_length: int | None, truncate: bool
    ) -> Encoding:
        num_added = self._raw.num_special_tokens_to_add(len(parts) == 2) if add_special_tokens else 0
        total = sum(len(part.offsets) for part in parts) + num_added
        num_dropped = 0
        if max_length is not None and total > max_length:
            if not truncate or num_added > max_length:
                raise InputTooLong(
                    f"the text has {total} tokens, {num_added} added ones included; the limit is "
                    f"{max_length}. Shorten it, or ask for truncation."
                )
            num_dropped = total - max_length
            _truncate(parts, max_length - num_added)
        second = parts[1].raw if len(parts) == 2 else None
        raw = self._raw.post_process(parts[0].raw, second, add_special_tokens)
        return self._read(raw, parts, num_dropped)

    def _read(self, raw: RawEncoding, parts: list[_Part], num_dropped: int) -> Encoding:
        """Give each token of the text its offsets again; the added ones have none."""
        given = iter([(span, index) for index, part in enumerate(parts) for span in part.offsets])
        places = [((0, 0), None) if added else next(given) for added in raw.special_tokens_mask]
        assert next(given, None) is None, "the post-processor lost a token"
        return Encoding(
            ids=tuple(raw.ids),
            offsets=tuple(span for span, _ in places),
            special=tuple(
                index is None or id_ in self.special_ids
                for id_, (_, index) in zip(raw.ids, places, strict=True)
            ),
            type_ids=tuple(raw.type_ids),
            sequences=tuple(index for _, index in places),
            num_dropped=num_dropped,
        )


@dataclass(frozen=True)
class _Part:
    """One text's tokens, with their offsets in that text."""

    raw: RawEncoding
    offsets: list[Span]


#: Start and end in a text, and which tokenizer reads it.
_Piece = tuple[int, int, RawTokenizer]


def _join(text: str, pieces: list[_Piece]) -> _Part:
    """Encode the pieces of one text, each by its tokenizer."""
    raws, offsets = [], []
    for start, end, tokenizer in pieces:
        if start == end:
            continue
        raw, shift = _encode_piece(text[start:end], tokenizer, is_first=start == 0)
        raws.append(raw)
        offsets += [(max(begin + shift, 0) + start, stop + shift + start) for begin, stop in raw.offsets]
    return _Part(RawEncoding.merge(raws, growing_offsets=False), offsets)


def _encode_piece(text: str, tokenizer: RawTokenizer, *, is_first: bool) -> tuple[RawEncoding, int]:
    """Encode one piece; the number is what to add to its offsets.

    SentencePiece puts a space before a string. A later piece is therefore read behind a line break, whose
    tokens are dropped again.
    """
    if not is_first:
        lead = tokenizer.encode("\n", add_special_tokens=False).ids
        raw = tokenizer.encode(f"\n{text}", add_special_tokens=False)
        if raw.ids[: len(lead)] == lead:
            raw.truncate(len(raw.ids) - len(lead), direction="left")
            return _without_dropped(raw), -1
    return tokenizer.encode(text, add_special_tokens=False), 0


def _without_dropped(raw: RawEncoding) -> RawEncoding:
    """The encoding alone: it keeps what was cut off, and a merge combines all of that, exponentially."""
    state = json.loads(raw.__getstate__())
    clean = RawEncoding()
    clean.__setstate__(json.dumps({**state, "overflowing": []}).encode())
    return clean


def _truncate(parts: list[_Part], room: int) -> None:
    """Drop tokens at the end, of the longer part first, until all fit in `room`."""
    lengths = [len(part.offsets) for part in parts]
    if len(lengths) == 2:
        half = room // 2
        first = room - half if min(lengths) > half else min(lengths[0], room - min(lengths[1], half))
        lengths = [first, room - first]
    else:
        lengths = [room]
    for part, length in zip(parts, lengths, strict=True):
        part.raw.truncate(length)
        del part.offsets[length:]


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text has half of a surrogate pair at position {error.start}, which is no character. Send "
            "valid Unicode."
        ) from error
