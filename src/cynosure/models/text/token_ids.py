"""Turn many texts into token ids at once, on all cores. Knows nothing of offsets, nor of models.

`Tokenizer.encode` says of every token where it comes from, and is the plain path; most of its time goes into
that. Who needs no more than ids reads them here, and gets the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from cynosure.models.text.tokenizer import Tokenizer

_PROBES = ("", "a", "a b")
_PAIR_PROBE = ("a", "a b")


@dataclass(frozen=True)
class TokenIds:
    """The ids of one text, added ones included, and how many a truncation left out.

    `type_ids` is what the model calls each of them; `None` where that is 0 for all.
    """

    ids: tuple[int, ...]
    num_dropped: int = 0
    type_ids: tuple[int, ...] | None = None

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self.ids)


@dataclass(frozen=True)
class _PairForm:
    """What stands before, between and behind two texts, as `(id, type)`, and what types the texts have."""

    before: tuple[tuple[int, int], ...]
    between: tuple[tuple[int, int], ...]
    after: tuple[tuple[int, int], ...]
    types: tuple[int, int]

    def filled(self, one: Sequence[int], two: Sequence[int]) -> TokenIds:
        """Put two texts into it."""
        parts = (
            self.before,
            ((id_, self.types[0]) for id_ in one),
            self.between,
            ((id_, self.types[1]) for id_ in two),
            self.after,
        )
        ids, types = zip(*(token for part in parts for token in part), strict=True)
        return TokenIds(ids, 0, types)


@final
class IdReader:
    """Reads texts by a tokenizer that puts the same tokens around each; by `encode` where it does not."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Find out what is put around a text."""
        self._tokenizer = tokenizer
        self._around = _around(tokenizer)
        self._form = _pair_form(tokenizer)

    def read(
        self, texts: Sequence[str], *, max_length: int | None = None, truncate: bool = False
    ) -> list[TokenIds]:
        """Return the ids of each text, as `Tokenizer.encode` gives them.

        Raises:
            InputError: A text is not valid Unicode.
            InputTooLong: A text has more than `max_length` tokens, and `truncate` is not set.
        """
        if self._around is None:
            return [self._read_one(text, max_length, truncate) for text in texts]
        before, after = self._around
        num_added = len(before) + len(after)
        found = []
        for text, own in zip(texts, self._tokenizer.own_ids(texts), strict=True):
            # What spells a control token, is too long or leaves no room is the plain path's to judge.
            if own is None:
                found.append(self._read_one(text, max_length, truncate))
                continue
            num_dropped = 0 if max_length is None else max(0, len(own) + num_added - max_length)
            if num_dropped and (not truncate or num_dropped > len(own)):
                found.append(self._read_one(text, max_length, truncate))
                continue
            found.append(TokenIds((*before, *own[: len(own) - num_dropped], *after), num_dropped))
        return found

    def read_pairs(
        self, pairs: Sequence[tuple[str, str]], *, max_length: int | None = None, truncate: bool = False
    ) -> list[TokenIds]:
        """Return the ids of each pair, as `Tokenizer.encode_pair` gives them; a text of several is read once.

        Raises:
            InputError: A text is not valid Unicode.
            InputTooLong: A pair has more than `max_length` tokens, and `truncate` is not set.
        """
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        own = dict(zip(texts, self._tokenizer.own_ids(texts), strict=True))
        found = []
        for first, second in pairs:
            one, two = own[first], own[second]
            whole = None if one is None or two is None or self._form is None else self._form.filled(one, two)
            if whole is None or (max_length is not None and len(whole) > max_length):
                read = self._tokenizer.encode_pair(first, second, max_length=max_length, truncate=truncate)
                whole = TokenIds(read.ids, read.num_dropped, read.type_ids)
            found.append(whole)
        return found

    def _read_one(self, text: str, max_length: int | None, truncate: bool) -> TokenIds:
        read = self._tokenizer.encode(text, max_length=max_length, truncate=truncate)
        return TokenIds(read.ids, read.num_dropped, read.type_ids if any(read.type_ids) else None)


def _around(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return what stands before and behind every text; `None` where that differs, or is of other types."""
    found = set()
    for text, own in zip(_PROBES, tokenizer.own_ids(_PROBES), strict=True):
        whole = tokenizer.encode(text)
        if own is None or any(whole.type_ids):
            return None
        first = next((i for i, added in enumerate(whole.sequences) if added is not None), None)
        if first is None:  # nothing but added tokens: they may stand on either side
            continue
        before, after = whole.ids[:first], whole.ids[first + len(own) :]
        if (*before, *own, *after) != whole.ids:
            return None
        found.add((before, after))
    return found.pop() if len(found) == 1 else None


def _pair_form(tokenizer: Tokenizer) -> _PairForm | None:
    """Return what stands around two texts; `None` where that differs from pair to pair."""
    one, two = tokenizer.own_ids(_PAIR_PROBE)
    probe = tokenizer.encode_pair(*_PAIR_PROBE)
    if not one or not two or {0, 1} - set(probe.sequences):
        return None
    tokens = list(zip(probe.ids, probe.type_ids, strict=True))
    first, second = probe.sequences.index(0), probe.sequences.index(1)
    between, after = first + len(one), second + len(two)
    form = _PairForm(
        tuple(tokens[:first]),
        tuple(tokens[between:second]),
        tuple(tokens[after:]),
        (tokens[first][1], tokens[second][1]),
    )
    for pair in (_PAIR_PROBE, _PAIR_PROBE[::-1]):
        parts, whole = tokenizer.own_ids(pair), tokenizer.encode_pair(*pair)
        if form.filled(parts[0] or (), parts[1] or ()) != TokenIds(whole.ids, 0, whole.type_ids):
            return None
    return form
