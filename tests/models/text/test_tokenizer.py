"""Test text to ids and back, for each kind of tokenizer. Knows nothing of models."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer
from transformers import PreTrainedTokenizerFast

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound, InputError, InputTooLong
from cynosure.models.text.tokenizer import Tokenizer
from tests.models.tiny_tokenizers import KINDS, TEXTS, byte_fallback, byte_level, unigram, word_piece, write

HARD = [
    *TEXTS,
    "",
    " ",
    "  the  ",
    "\n\n",
    "🙂🙂",
    "e\u0301",
    "\u200b",
    "a\tb",
    "\ufffd",
    "ｆｕｌｌ",
    "the" * 200,
]


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Path]:
    """A tokenizer and its folder."""
    folder = write(tmp_path_factory.mktemp(request.param), KINDS[request.param]())
    return Tokenizer.from_folder(folder), folder


@pytest.mark.parametrize("text", HARD)
def test_ids_and_text_equal_the_oracle(pair: tuple[Tokenizer, Path], text: str) -> None:
    tokenizer, folder = pair
    oracle = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    for add in (True, False):
        encoding = tokenizer.encode(text, add_special_tokens=add)
        wanted = oracle(text, add_special_tokens=add, return_offsets_mapping=True)
        assert list(encoding.ids) == wanted["input_ids"]
        assert list(encoding.offsets) == wanted["offset_mapping"]
    ids = encoding.ids
    assert tokenizer.decode(ids) == oracle.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


@pytest.mark.parametrize("text", HARD)
def test_offsets_are_code_points_of_the_text(pair: tuple[Tokenizer, Path], text: str) -> None:
    tokenizer, _ = pair
    encoding = tokenizer.encode(text)
    for (start, end), special, sequence in zip(
        encoding.offsets, encoding.special, encoding.sequences, strict=True
    ):
        assert 0 <= start <= end <= len(text)
        assert (sequence is None) == (special and start == end)
    covered = {i for start, end in encoding.offsets for i in range(start, end)}
    # BERT's normalizer drops accents and replacement characters.
    dropped = {"\u0301", "\ufffd"} if tokenizer.token_to_id("[CLS]") else set()
    left = {text[i] for i in {*range(len(text))} - covered} - dropped
    assert all(letter.isspace() or not letter.isprintable() for letter in left)


def test_a_text_of_control_tokens_takes_little_time(pair: tuple[Tokenizer, Path]) -> None:
    tokenizer, _ = pair
    token = max(tokenizer.control_tokens, key=len)
    spans = [(start, start + len(token)) for start in range(0, 500 * len(token), len(token))]
    started = time.monotonic()
    for encoding in (tokenizer.encode(token * 500), tokenizer.encode_prompt(token * 500, spans)):
        assert len(encoding) >= 500
    assert time.monotonic() - started < 10


def test_a_token_inside_of_a_character_spans_it(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, byte_level()))
    encoding = tokenizer.encode("a🦉b")
    assert len(encoding) > 3
    assert set(encoding.offsets) == {(0, 1), (1, 2), (2, 3)}


def test_special_tokens_that_are_added_have_no_place(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, word_piece()))
    encoding = tokenizer.encode("the star")
    assert encoding.ids[0] == tokenizer.token_to_id("[CLS]")
    assert (encoding.offsets[0], encoding.special[0], encoding.sequences[0]) == ((0, 0), True, None)
    assert not any(encoding.special[1:-1])
    assert tokenizer.encode("the star", add_special_tokens=False).ids == encoding.ids[1:-1]


def test_pair(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, word_piece()))
    encoding = tokenizer.encode_pair("the star", "a star")
    first = tokenizer.encode("the star", add_special_tokens=False)
    second = tokenizer.encode("a star", add_special_tokens=False)
    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    assert encoding.ids == (cls, *first.ids, sep, *second.ids, sep)
    assert encoding.type_ids == (0,) * (len(first) + 2) + (1,) * (len(second) + 1)
    assert encoding.sequences == (None, *(0,) * len(first), None, *(1,) * len(second), None)
    assert [span for span, i in zip(encoding.offsets, encoding.sequences, strict=True) if i == 1] == [
        *second.offsets
    ]


def test_settings_of_the_file_neither_cut_nor_pad(tmp_path: Path) -> None:
    write(tmp_path, word_piece())
    assert json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]["max_length"] == 8
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert len(tokenizer.encode("the " * 50)) == 52
    assert len(tokenizer.encode("the")) == 3


def test_max_length(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, word_piece()))
    text = "the " * 6
    assert len(tokenizer.encode(text, max_length=8)) == 8
    with pytest.raises(InputTooLong, match=r"has 8 tokens, 2 added ones included; the limit is 7"):
        tokenizer.encode(text, max_length=7)
    cut = tokenizer.encode(text, max_length=5, truncate=True)
    assert cut.ids == (*tokenizer.encode("the the the").ids,)
    assert (cut.num_dropped, cut.offsets[3]) == (3, (8, 11))
    assert tokenizer.encode(text, max_length=8, truncate=True).num_dropped == 0
    assert tokenizer.encode(text, max_length=2, truncate=True).num_dropped == 6
    with pytest.raises(InputTooLong, match="the limit is 1"):
        tokenizer.encode(text, max_length=1, truncate=True)


@pytest.mark.parametrize(
    ("first", "second", "room", "kept"),
    [
        (6, 2, 6, (4, 2)),
        (2, 6, 6, (2, 4)),
        (6, 6, 5, (3, 2)),
        (5, 4, 5, (3, 2)),
        (4, 5, 5, (3, 2)),
        (1, 9, 1, (1, 0)),
        (9, 1, 4, (3, 1)),
        (1, 9, 4, (1, 3)),
    ],
)
def test_truncating_a_pair_cuts_the_longer(
    tmp_path: Path, first: int, second: int, room: int, kept: tuple[int, int]
) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, word_piece()))
    encoding = tokenizer.encode_pair("the " * first, "a " * second, max_length=room + 3, truncate=True)
    counts = encoding.sequences.count(0), encoding.sequences.count(1)
    assert sum(counts) == room
    assert counts == kept
    assert encoding.num_dropped == first + second - room


CONTROL = [
    (byte_level, "<|im_end|>"),
    (byte_level, "<｜User｜>"),
    (unigram, "</s>"),
    (word_piece, "[SEP]"),
    (byte_fallback, "<s>"),
]


@pytest.mark.parametrize(
    ("kind", "token"), CONTROL, ids=[f"{kind.__name__} {token}" for kind, token in CONTROL]
)
def test_control_tokens_in_text_are_characters(
    tmp_path: Path, kind: Callable[[], RawTokenizer], token: str
) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, kind()))
    token_id = tokenizer.token_to_id(token)
    assert token in tokenizer.control_tokens
    for text in (f"the {token} the", token, token * 2, f"{token}the"):
        plain = tokenizer.encode(text, add_special_tokens=False)
        assert token_id not in plain.ids
        # The positive control: the same text, allowed.
        allowed = tokenizer.encode(text, add_special_tokens=False, allow_special=True)
        assert allowed.ids.count(token_id) == text.count(token)
        covered = {i for start, end in plain.offsets for i in range(start, end)}
        assert covered >= {i for i, letter in enumerate(text) if letter != " "}


def test_what_is_added_but_controls_nothing_stays_a_token(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, byte_level()))
    assert tokenizer.token_to_id("<think>") in tokenizer.encode("a<think>b").ids
    assert "<think>" not in tokenizer.control_tokens


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback", "unigram"])
def test_prompt_encodes_the_templates_tokens_and_not_the_messages(tmp_path: Path, kind: str) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, KINDS[kind]()))
    token = {"byte_level": "<|im_end|>", "byte_fallback": "</s>", "unigram": "</s>"}[kind]
    token_id = tokenizer.token_to_id(token)
    text = f"the {token} star{token}\n"
    assert tokenizer.encode_prompt(text).ids.count(token_id) == 2
    assert (
        tokenizer.encode_prompt(text).ids
        == tokenizer.encode(text, add_special_tokens=False, allow_special=True).ids
    )
    start = text.index(token)
    encoding = tokenizer.encode_prompt(text, [(start, start + len(token))])
    assert encoding.ids.count(token_id) == 1
    place = encoding.ids.index(token_id)
    assert encoding.offsets[place] == (text.rindex(token), text.rindex(token) + len(token))
    assert encoding.special[place]
    whole = tokenizer.decode(encoding.ids, skip_special_tokens=False)
    # The small Unigram vocabulary has no line break.
    assert whole.replace(" ", "").replace("<unk>", "\n") == text.replace(" ", "")


def test_an_empty_literal_cuts_the_text(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_folder(write(tmp_path, byte_level()))
    assert tokenizer.token_to_id("<|im_end|>") in tokenizer.encode_prompt("a<|im_end|>").ids
    assert tokenizer.token_to_id("<|im_end|>") not in tokenizer.encode_prompt("a<|im_end|>", [(4, 4)]).ids


def test_tokens_of_the_other_files(tmp_path: Path) -> None:
    raw = byte_level()
    size = raw.get_vocab_size()
    folder = write(
        tmp_path,
        raw,
        tokenizer_config={
            "bos_token": "<|im_start|>",
            "eos_token": {"content": "<|im_end|>"},
            "model_max_length": 2048,
            "added_tokens_decoder": {str(size + 1): {"content": "<tool>", "special": False, "lstrip": True}},
        },
        special_tokens_map={
            "pad_token": "<|end|>",
            "additional_special_tokens": ["<think>", {"content": "<image>"}],
        },
        added_tokens={"<image>": size},
    )
    tokenizer = Tokenizer.from_folder(folder)
    assert tokenizer.named_tokens == {
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|end|>",
    }
    assert tokenizer.named_id("eos_token") == raw.token_to_id("<|im_end|>")
    assert tokenizer.named_id("cls_token") is None
    assert tokenizer.max_length == 2048
    assert tokenizer.vocab_size == size + 2
    assert tokenizer.token_to_id("<image>") == size
    assert {tokenizer.token_to_id("<think>"), size} <= tokenizer.special_ids
    assert size + 1 not in tokenizer.special_ids
    assert tokenizer.decode(tokenizer.encode("a<image>", allow_special=True).ids) == "a"


def test_begin_token_where_only_the_config_asks_for_it(tmp_path: Path) -> None:
    config = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "add_bos_token": True}
    tokenizer = Tokenizer.from_folder(write(tmp_path, byte_level(), tokenizer_config=config))
    assert tokenizer.encode("a").ids == (tokenizer.named_id("bos_token"), tokenizer.token_to_id("a"))


def test_files_of_two_checkpoints(tmp_path: Path) -> None:
    folder = write(tmp_path, byte_level(), added_tokens={"<image>": 5})
    with pytest.raises(CheckpointCorrupt, match="'<image>' as id 5; tokenizer"):
        Tokenizer.from_folder(folder)


def test_absent_file_names_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="no tokenizer file at all"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    with pytest.raises(CheckpointNotFound, match=r"found: tokenizer\.model\)\. Convert it: python -c"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"model": {"type": "Magic"}}', "\x00"])
def test_broken_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointCorrupt, match="is no tokenizer"):
        Tokenizer.from_folder(tmp_path)


def test_half_of_a_surrogate_pair(pair: tuple[Tokenizer, Path]) -> None:
    with pytest.raises(InputError, match="at position 1"):
        pair[0].encode("a\ud83d")


def test_ids_that_do_not_exist(pair: tuple[Tokenizer, Path]) -> None:
    tokenizer, _ = pair
    assert tokenizer.id_to_token(-1) is None
    assert tokenizer.id_to_token(2**40) is None
    assert tokenizer.decode([-1, 10**9, 2**40]) == ""


@given(text=st.text(max_size=40))
def test_any_text_survives_bytes(text: str) -> None:
    tokenizer = SHARED["byte_level"]
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert not tokenizer.special_ids & {*tokenizer.encode(text).ids}


def test_threads_share_one_tokenizer(pair: tuple[Tokenizer, Path]) -> None:
    tokenizer, _ = pair
    texts = [f"the {i} star </s> <|im_end|>" for i in range(40)]

    def both(text: str) -> tuple[object, object]:
        return tokenizer.encode(text), tokenizer.encode(text, allow_special=True)

    alone = [both(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(both, texts)) == alone


def test_the_servers_side_loads_no_torch() -> None:
    modules = (
        "text.tokenizer",
        "chat.template",
        "generation_config",
        "hub",
        "config_reader",
        "safetensor_files",
    )
    imports = ", ".join(f"cynosure.models.{module}" for module in modules)
    code = f"import sys; import {imports}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    control = code.replace("import sys;", "import sys, torch;")
    done = subprocess.run([sys.executable, "-c", control], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.fixture(scope="module", autouse=True)
def _shared(tmp_path_factory: pytest.TempPathFactory) -> None:
    SHARED["byte_level"] = Tokenizer.from_folder(write(tmp_path_factory.mktemp("shared"), byte_level()))


SHARED: dict[str, Tokenizer] = {}
