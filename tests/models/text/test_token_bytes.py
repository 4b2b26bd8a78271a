from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.models.text.token_bytes import TokenBytes
from tests.models.tiny_tokenizers import KINDS, byte_fallback, byte_level, unigram, word_piece

TEXT = "the star; größe ☆ 🙂"


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_the_bytes_of_tokens_are_those_of_their_text(kind: str) -> None:
    raw = KINDS[kind]()
    ids = raw.encode(TEXT, add_special_tokens=False).ids
    told = TokenBytes(raw)
    assert b"".join(told.of(token) for token in ids).decode().strip() == TEXT
    assert any(b"\x80" <= told.of(token) < b"\xff" and len(told.of(token)) == 1 for token in ids)


@pytest.mark.parametrize(
    ("raw", "token", "expected"),
    [
        (byte_level(), "<|im_start|>", b"<|im_start|>"),
        (byte_level(), "Ġ", b" "),
        (byte_fallback(), "▁the", b" the"),
        (byte_fallback(), "<0xE2>", b"\xe2"),
        (byte_fallback(), "</s>", b"</s>"),
        (unigram(), "▁the", b" the"),
        (word_piece(), "##e", b"e"),
    ],
)
def test_one_token(raw: object, token: str, expected: bytes, tmp_path: Path) -> None:
    told = TokenBytes(raw)  # type: ignore[arg-type]
    assert told.of(raw.token_to_id(token)) == expected  # type: ignore[attr-defined]


def test_an_id_without_a_token_has_none() -> None:
    assert TokenBytes(byte_level()).of(10**6) == b""
