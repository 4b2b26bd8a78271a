"""The vocabulary of a GGUF file encodes and decodes as the same tokenizer in a folder."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.models.text.tokenizer_files import has_tokenizer
from tests.models.gguf_files import write_header
from tests.models.gguf_vocabularies import (
    CONTROL,
    NORMAL,
    UNUSED,
    USER_DEFINED,
    byte_level_metadata,
    cut_like,
    piece_metadata,
)
from tests.models.tiny_tokenizers import byte_fallback, write

TEXTS = (
    "",
    " ",
    "the centre of attention",
    "  two  spaces\tand\r\n\n lines \n",
    "It's WE'LL they'Re 1234567 x86/64 e=mc²",
    "café cafe\u0301 Größe Ελλάδα 東京 🙂 <|im_start|>user<|im_end|><think>",
    "<s> the</s>▁ <0x0A>",
)
PRES = ("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken")


def from_file(folder: Path, metadata: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_folder(write_header(folder / "model.gguf", metadata))


def assert_same(ours: Tokenizer, theirs: Tokenizer) -> None:
    for text in TEXTS:
        for allow_special in (False, True):
            got = ours.encode(text, allow_special=allow_special)
            assert got == theirs.encode(text, allow_special=allow_special), text
            assert ours.decode(got.ids) == theirs.decode(got.ids), text
    assert ours.control_tokens == theirs.control_tokens
    assert ours.special_ids == theirs.special_ids
    assert ours.vocab_size == theirs.vocab_size


@pytest.mark.parametrize("pre", [*PRES, "deepseek-r1-qwen"])
def test_byte_level(tmp_path: Path, pre: str) -> None:
    tokenizer = cut_like(pre)
    more = {"bos_token_id": 0, "add_bos_token": False}
    ours = from_file(tmp_path, byte_level_metadata(tokenizer, pre, **more))
    named = {"eos_token": "<|im_end|>", "bos_token": "<|end|>"}
    assert_same(ours, Tokenizer.from_folder(write(tmp_path, tokenizer, tokenizer_config=named)))
    assert ours.named_tokens == named


def test_the_ways_to_cut_text_differ(tmp_path: Path) -> None:
    """Else the test above would pass whichever was taken."""
    words = set()
    for pre in PRES:
        cut = cut_like(pre).pre_tokenizer
        words.add(tuple(word for text in TEXTS for word, _ in cut.pre_tokenize_str(text)))
    assert len(words) == len(PRES)


@pytest.mark.parametrize(("pre", "adds"), [("llama-bpe", True), ("tekken", True), ("qwen2", False)])
def test_the_begin_token_where_the_file_does_not_say(tmp_path: Path, pre: str, adds: bool) -> None:
    ours = from_file(tmp_path, byte_level_metadata(cut_like(pre), pre, bos_token_id=0))
    assert (ours.encode("the").ids[0] == 0) is adds


def test_a_word_of_the_vocabulary_is_one_token_where_the_family_takes_it_whole(tmp_path: Path) -> None:
    lengths = {}
    for pre in ("llama-bpe", "qwen2"):
        metadata = byte_level_metadata(cut_like(pre), pre)
        metadata["tokenizer.ggml.tokens"].append("zzzz")
        metadata["tokenizer.ggml.token_type"].append(NORMAL)
        folder = tmp_path / pre
        folder.mkdir()
        lengths[pre] = len(from_file(folder, metadata).encode("zzzz"))
    assert lengths == {"llama-bpe": 1, "qwen2": 4}


def test_pieces_with_scores(tmp_path: Path) -> None:
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    theirs = Tokenizer.from_folder(write(tmp_path, byte_fallback(), tokenizer_config=named))
    assert_same(from_file(tmp_path, piece_metadata()), theirs)


def test_pieces_without_a_space_in_front(tmp_path: Path) -> None:
    ours = from_file(tmp_path, piece_metadata(add_space_prefix=False, add_bos_token=False))
    assert [ours.id_to_token(one) for one in ours.encode("the the").ids] == ["the", "▁the"]
    assert ours.decode(ours.encode(" the").ids) == " the"


def merged(text: str, scores: dict[str, float]) -> list[str]:
    """SentencePiece's rule, plainly: of all neighbours that make a piece, the best one, then the first."""
    parts = list(text)
    while True:
        pairs = [
            (-scores[left + right], at)
            for at, (left, right) in enumerate(itertools.pairwise(parts))
            if left + right in scores
        ]
        if not pairs:
            return parts
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_merges_follow_from_scores(tmp_path: Path) -> None:
    dice = random.Random(5)
    pieces = sorted({"".join(dice.choices("abc", k=dice.randint(2, 5))) for _ in range(60)})
    dice.shuffle(pieces)
    scores = dict.fromkeys("abc", -99.0) | {piece: -float(at) for at, piece in enumerate(pieces)}
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": list(scores),
        "tokenizer.ggml.scores": list(scores.values()),
        "tokenizer.ggml.token_type": [NORMAL] * len(scores),
        "tokenizer.ggml.add_space_prefix": False,
    }
    ours = from_file(tmp_path, metadata)
    for _ in range(200):
        text = "".join(dice.choices("abc", k=dice.randint(1, 20)))
        assert [ours.id_to_token(one) for one in ours.encode(text).ids] == merged(text, scores)


def test_tokens_that_are_no_plain_text(tmp_path: Path) -> None:
    metadata = byte_level_metadata(cut_like("qwen2"), "qwen2")
    for text, kind in (("<tool>", USER_DEFINED), ("<|turn|>", CONTROL), ("[PAD7]", UNUSED)):
        metadata["tokenizer.ggml.tokens"].append(text)
        metadata["tokenizer.ggml.token_type"].append(kind)
    ours = from_file(tmp_path, metadata)
    tool, turn, padding = (ours.token_to_id(text) for text in ("<tool>", "<|turn|>", "[PAD7]"))
    assert tool in ours.encode("x<tool>y").ids
    assert turn not in ours.encode("x<|turn|>y").ids
    assert turn in ours.encode("x<|turn|>y", allow_special=True).ids
    assert padding not in ours.encode("x[PAD7]y", allow_special=True).ids
    assert "<|turn|>" in ours.control_tokens


def test_a_file_without_a_vocabulary(tmp_path: Path) -> None:
    assert not has_tokenizer(write_header(tmp_path / "model.gguf", {}))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"model": "bert"}, UnsupportedConfig, "'gpt2' and 'llama' are read here"),
        ({"pre": "falcon"}, UnsupportedConfig, "tokenizer.ggml.pre = 'falcon'"),
        ({"pre": ...}, UnsupportedConfig, "tokenizer.ggml.pre = None"),
        ({"merges": ...}, CheckpointCorrupt, "has no tokenizer.ggml.merges"),
        ({"merges": ["ab"]}, CheckpointCorrupt, "the merge 'ab'"),
        ({"merges": ["nowhere ab"]}, CheckpointCorrupt, "does not fit together"),
        ({"token_type": [1]}, CheckpointCorrupt, "does not give each token its kind"),
        ({"eos_token_id": 10**6}, CheckpointCorrupt, "the eos token 1000000; ids are below"),
        ({"tokens": ["a", "a"], "token_type": [1, 1], "merges": ["a a"]}, CheckpointCorrupt, "'a' twice"),
        ({"add_bos_token": 7}, CheckpointCorrupt, "it is yes or no"),
        ({"tokens": [1, 2]}, CheckpointCorrupt, "no list of texts"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    metadata = byte_level_metadata(cut_like("qwen2"), "qwen2")
    metadata |= {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with pytest.raises(error, match=words):
        from_file(tmp_path, metadata)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"scores": ...}, CheckpointCorrupt, "does not give each piece its score"),
        ({"precompiled_charsmap": [1, 2]}, UnsupportedConfig, "rewrites text"),
        ({"remove_extra_whitespaces": True}, UnsupportedConfig, "rewrites text"),
    ],
)
def test_pieces_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], words: str
) -> None:
    metadata = piece_metadata() | {f"tokenizer.ggml.{name}": value for name, value in change.items()}
    with pytest.raises(error, match=words):
        from_file(tmp_path, metadata)
