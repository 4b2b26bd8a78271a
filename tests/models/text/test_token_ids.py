"""Ids that are read many at once are those of the plain path, and so is what goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer as RawTokenizer

from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.minilm_package import minilm_folder
from cynosure.models.text import token_ids
from cynosure.models.text.token_ids import IdReader, TokenIds
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.tiny_tokenizers import byte_fallback, byte_level, unigram, word_piece, write

TEXTS = [
    "the pole star",
    "naïve café [SEP] and [CLS] of [MASK]",
    "\u200b",
    "ein 星 ⭐️ 👩‍🚀",
    "word " * 600,
    "[SEP]",
    "  spaces\tand\nlines ",
]


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(minilm_folder())


def plain(text: str, max_length: int | None) -> TokenIds:
    read = tokenizer().encode(text, max_length=max_length, truncate=True)
    return TokenIds(read.ids, read.num_dropped)


@pytest.mark.parametrize("max_length", [None, 2, 3, 16, 256])
def test_ids_are_those_of_the_plain_path(max_length: int | None) -> None:
    found = IdReader(tokenizer()).read(TEXTS, max_length=max_length, truncate=True)
    assert found == [plain(text, max_length) for text in TEXTS]
    assert IdReader(tokenizer()).read([]) == []


@pytest.mark.parametrize("kind", [byte_level, byte_fallback, word_piece, unigram])
def test_every_kind_of_tokenizer(tmp_path: Path, kind: Callable[[], RawTokenizer]) -> None:
    """Unigram vocabularies hold control tokens as pieces: such a text is the plain path's."""
    own = Tokenizer.from_folder(write(tmp_path, kind()))
    texts = [*TEXTS[:4], "a </s> b <|im_end|> c", ""]
    assert [one.ids for one in IdReader(own).read(texts)] == [own.encode(text).ids for text in texts]


def test_a_control_token_s_text_and_no_other_takes_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, asked, encode = IdReader(tokenizer()), [], Tokenizer.encode
    own_ids = Tokenizer.own_ids

    def spelling(self: Tokenizer, texts: Sequence[str]) -> list[list[int] | None]:
        found = zip(texts, own_ids(self, texts), strict=True)
        return [None if "[SEP]" in text else ids for text, ids in found]

    def watched(self: Tokenizer, text: str, **options: object) -> object:
        asked.append(text)
        return encode(self, text, **options)

    monkeypatch.setattr(Tokenizer, "own_ids", spelling)
    monkeypatch.setattr(Tokenizer, "encode", watched)
    found = reader.read(TEXTS)
    assert asked == [text for text in TEXTS if "[SEP]" in text]
    assert found == [plain(text, None) for text in TEXTS]


def test_what_is_wrong_is_said_as_before() -> None:
    reader = IdReader(tokenizer())
    with pytest.raises(InputTooLong, match="602 tokens, 2 added ones included; the limit is 16"):
        reader.read(TEXTS, max_length=16)
    with pytest.raises(InputError, match="surrogate"):
        reader.read(["fine", "half \ud800"])
    with pytest.raises(InputTooLong):
        reader.read(["star"], max_length=1, truncate=True)


def test_a_tokenizer_that_adds_other_things_takes_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_ids, "_around", lambda _: None)
    found = IdReader(tokenizer()).read(TEXTS, max_length=16, truncate=True)
    assert found == [plain(text, 16) for text in TEXTS]


@pytest.mark.parametrize("max_length", [None, 3, 5, 16, 256])
@pytest.mark.parametrize("kind", [byte_fallback, word_piece, unigram])
def test_pairs_are_those_of_the_plain_path(
    tmp_path: Path, kind: Callable[[], RawTokenizer], max_length: int | None
) -> None:
    own = Tokenizer.from_folder(write(tmp_path, kind()))
    pairs = [(first, second) for first in TEXTS[:3] for second in [*TEXTS[:4], "a </s> b"]]
    found = IdReader(own).read_pairs(pairs, max_length=max_length, truncate=True)
    for pair, one in zip(pairs, found, strict=True):
        plain = own.encode_pair(*pair, max_length=max_length, truncate=True)
        assert one == TokenIds(plain.ids, plain.num_dropped, plain.type_ids)
    with pytest.raises(InputTooLong):
        IdReader(own).read_pairs([(TEXTS[4], "b")], max_length=16)


def test_most_pairs_do_not_take_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = IdReader(tokenizer())
    monkeypatch.setattr(Tokenizer, "encode_pair", None)
    assert len(reader.read_pairs([("a star", "a pole"), ("a star", "")])) == 2
