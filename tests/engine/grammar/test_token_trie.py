"""The vocabulary is spelled in bytes, and what is no text is left out."""

from __future__ import annotations

import pytest

from cynosure.core.errors import InputError
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.grammar.token_trie import TokenTrie
from tests.models.tiny_tokenizers import TEXTS, byte_fallback, byte_level, unigram, word_piece

SIZE = 330


def of(raw, eos: tuple[int, ...] = (0,)) -> TokenTrie:  # noqa: ANN001
    return TokenTrie(TokenizerDefinition(raw.to_str(), SIZE, eos))


@pytest.mark.parametrize("make", [byte_level, byte_fallback, unigram])
def test_tokens_spell_what_they_decode_to(make) -> None:  # noqa: ANN001
    raw = make()
    tokens = of(raw)
    for text in TEXTS:
        ids = raw.encode(text, add_special_tokens=False).ids
        usable = [token_id for token_id in ids if token_id in set(tokens.ids.tolist())]
        spelled = b"".join(map(tokens.bytes_of, usable)).decode()
        assert spelled.removeprefix(" ") == raw.decode(usable)
    assert b"the" in tokens or b" the" in tokens


def test_control_tokens_tags_and_the_unknown_are_no_text() -> None:
    raw = byte_level()
    tokens = of(raw)
    for name in ("<|end|>", "<|im_start|>", "<think>"):
        assert raw.token_to_id(name) not in tokens.ids
        with pytest.raises(InputError, match="no text"):
            tokens.bytes_of(raw.token_to_id(name))
    assert unigram().token_to_id("<unk>") not in of(unigram()).ids
    assert byte_fallback().token_to_id("<unk>") not in of(byte_fallback()).ids


def test_added_runs_of_spaces_are_text() -> None:
    raw = byte_level()
    raw.add_tokens(["    "])
    assert b"    " in of(raw)


def test_it_knows_what_it_can_spell() -> None:
    assert of(byte_level()).spells("東京 \n\t🙂")
    assert of(unigram()).spells("東京")
    assert not of(unigram()).spells("a{")


def test_a_decoder_that_changes_the_text_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"can't be held to given texts.*WordPiece"):
        of(word_piece())


def test_the_mask_is_of_the_whole_vocabulary() -> None:
    tokens = of(byte_level(), eos=(0, 2))
    mask = tokens.mask(tokens.nodes == tokens.nodes[5], may_end=True)
    assert mask.shape == (SIZE,)
    assert set(mask.nonzero()[0].tolist()) == {0, 2, int(tokens.ids[5])}
