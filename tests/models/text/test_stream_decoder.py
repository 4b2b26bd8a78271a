"""Test that streamed text is final and complete. Knows nothing of sampling."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer

from cynosure.models.text.stream_decoder import REPLACEMENT, StreamDecoder, decode_whole
from tests.models.tiny_tokenizers import KINDS, TEXTS

NONE: frozenset[int] = frozenset()


@cache
def raw(kind: str) -> RawTokenizer:
    tokenizer = KINDS[kind]()
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def streamed(tokenizer: RawTokenizer, ids: Sequence[int], skipped: frozenset[int] = NONE) -> list[str]:
    stream = StreamDecoder(tokenizer, skipped)
    return [*(stream.push(token_id) for token_id in ids), stream.finish()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [*TEXTS, "🙂🙂 東京", "  the  the", "the , the . don't", ""])
def test_pieces_join_to_the_whole(kind: str, text: str) -> None:
    tokenizer = raw(kind)
    ids = tokenizer.encode(text).ids
    pieces = streamed(tokenizer, ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=False)
    # Text flows: it does not all wait for the end.
    assert len(ids) < 3 or pieces[-1] == ""


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_any_ids_join_to_the_whole(kind: str, data: st.DataObject) -> None:
    tokenizer = raw(kind)
    ids = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() + 2), max_size=30))
    special = frozenset(i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special)
    for skipped in (NONE, special):
        assert "".join(streamed(tokenizer, ids, skipped)) == decode_whole(tokenizer, ids, skipped)


@given(text=st.text(max_size=20))
@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_no_half_of_a_character_is_sent(kind: str, text: str) -> None:
    tokenizer = raw(kind)
    text = text.replace(REPLACEMENT, "")
    pieces = streamed(tokenizer, tokenizer.encode(text, add_special_tokens=False).ids)
    assert not any(REPLACEMENT in piece for piece in pieces)
    assert "".join(pieces) == text


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_a_character_comes_with_its_last_byte(kind: str) -> None:
    tokenizer = raw(kind)
    ids = tokenizer.encode("🦉", add_special_tokens=False).ids[-4:]
    assert streamed(tokenizer, ids) == ["", "", "", "🦉", ""]
    assert streamed(tokenizer, ids[:3]) == ["", "", "", REPLACEMENT]


def test_invalid_bytes_spoil_no_valid_neighbour() -> None:
    tokenizer = raw("byte_fallback")
    ids = [tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in "é".encode() + b"\xff" + "é".encode()]
    assert tokenizer.decode(ids) == REPLACEMENT * 5
    assert decode_whole(tokenizer, ids, NONE) == f"é{REPLACEMENT}é" == "".join(streamed(tokenizer, ids))


def test_a_skipped_token_between_two_bytes() -> None:
    tokenizer = raw("byte_level")
    ids = tokenizer.encode("🦉").ids
    end = tokenizer.token_to_id("<|end|>")
    ids.insert(2, end)
    assert "".join(streamed(tokenizer, ids, frozenset([end]))) == "🦉"
    assert "<|end|>" in "".join(streamed(tokenizer, ids))


def test_the_cost_of_a_step_does_not_grow() -> None:
    tokenizer = raw("byte_level")
    seen = []

    class Counting(StreamDecoder):
        def _decode(self, token_ids: list[int]) -> str:
            seen.append(len(token_ids))
            return super()._decode(token_ids)

    stream = Counting(tokenizer)
    for token_id in tokenizer.encode(" ".join(TEXTS * 20)).ids:
        stream.push(token_id)
    assert len(seen) > 1000
    assert max(seen) < 12
