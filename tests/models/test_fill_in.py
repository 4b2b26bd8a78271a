from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as RawTokenizer

from cynosure.core.errors import UnknownOption
from cynosure.models.fill_in import FORMS, FillForm, fill_in, form_of
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.tiny_tokenizers import byte_fallback, byte_level, write

PREFIX, SUFFIX = "def star():\n    ", "\n    return pole\n"


def tokenizer_with(folder: Path, raw: RawTokenizer, tokens: tuple[str, ...]) -> Tokenizer:
    raw.add_special_tokens(list(tokens))
    return Tokenizer.from_folder(write(folder, raw))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.suffix)
def test_each_family_has_its_order(form: FillForm, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, byte_level(), (*form.tokens, *form.ends))
    assert form_of(tokenizer) == form
    filled = fill_in(tokenizer, PREFIX, SUFFIX)
    written = tokenizer.decode(filled.token_ids, skip_special_tokens=False)
    if form.middle is None:
        assert written == f"{form.suffix}{SUFFIX}{form.prefix}{PREFIX}"
    elif form.is_suffix_first:
        assert written == f"{form.prefix}{form.suffix}{SUFFIX}{form.middle}{PREFIX}"
    else:
        assert written == f"{form.prefix}{PREFIX}{form.suffix}{SUFFIX}{form.middle}"
    assert [tokenizer.id_to_token(end) for end in filled.end_ids] == list(form.ends)


def test_a_suffix_begins_no_text(tmp_path: Path) -> None:
    """SentencePiece puts a space before a text; what follows a gap has none that its author did not write."""
    llama = FORMS[4]
    tokenizer = tokenizer_with(tmp_path, byte_fallback(), llama.tokens)
    filled = fill_in(tokenizer, "the", "the end")
    pieces = [tokenizer.id_to_token(token) for token in filled.token_ids]
    assert pieces[:4] == ["<s>", "▁<PRE>", "▁the", "▁<SUF>"]
    assert pieces[4] == "the"
    assert pieces[-1] == "▁<MID>"


def test_control_tokens_in_a_text_are_characters(tmp_path: Path) -> None:
    form = FORMS[0]
    tokenizer = tokenizer_with(tmp_path, byte_level(), form.tokens)
    middle = tokenizer.token_to_id("<|fim_middle|>")
    filled = fill_in(tokenizer, "a<|fim_middle|>b", "<|fim_middle|>")
    assert filled.token_ids.count(middle or -1) == 1


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("", "a"), ("a", "")])
def test_either_side_may_be_empty(prefix: str, suffix: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, byte_level(), FORMS[0].tokens)
    assert len(fill_in(tokenizer, prefix, suffix).token_ids) == 3 + len(prefix) + len(suffix)


def test_a_model_without_the_tokens_is_told_of_them(tmp_path: Path) -> None:
    tokenizer = tokenizer_with(tmp_path, byte_level(), ("<|fim_prefix|>",))
    with pytest.raises(UnknownOption, match=r"suffix .* <\|fim_suffix\|>"):
        fill_in(tokenizer, "a", "b")
