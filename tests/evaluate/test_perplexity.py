"""Perplexity is what transformers' own logits give, and every token is counted once."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cynosure.core.errors import (
    EmptyInput,
    InputError,
    UnknownOption,
    UnsupportedArchitecture,
    UnsupportedConfig,
)
from cynosure.evaluate import perplexity as module
from cynosure.evaluate.perplexity import Perplexity, perplexity, windows
from cynosure.evaluate.variants import Question, Variant, compare, variant_of
from cynosure.models.load import LanguageModel, load
from tests.cli.conftest import byte_level
from tests.models.decoder_oracle import VOCAB, Pair, pair_of
from tests.models.tiny_tokenizers import write

WINDOW = 20


@pytest.fixture(scope="module")
def pair() -> Pair:
    return pair_of("llama")


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return torch.randint(1, VOCAB, (97,), generator=torch.Generator().manual_seed(4)).tolist()


def expected(pair: Pair, tokens: list[int], window: int, stride: int) -> float:
    """Written anew from the oracle's logits: token by token, from the window that counts it."""
    total = 0.0
    for place in range(1, len(tokens)):
        start = 0
        while start + window <= place:
            start += stride
        logits = pair.oracle(torch.tensor([tokens[start:place]])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[tokens[place]])
    return total


@pytest.mark.parametrize("stride", [1, 7, WINDOW - 1])
@pytest.mark.parametrize("num_tokens", [2, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW - 1, 97])
def test_it_is_what_the_oracle_s_logits_give(
    pair: Pair, tokens: list[int], num_tokens: int, stride: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 8)
    found = perplexity(pair.model, tokens[:num_tokens], window=WINDOW, stride=stride)
    assert found.num_tokens == num_tokens - 1
    assert found.nats == pytest.approx(expected(pair, tokens[:num_tokens], WINDOW, stride), rel=1e-5)
    assert found.value == pytest.approx(math.exp(found.nats / found.num_tokens))


@pytest.mark.parametrize("window", [2, 3, 8])
@pytest.mark.parametrize("num_tokens", range(2, 20))
def test_every_token_but_the_first_counts_once(window: int, num_tokens: int) -> None:
    for stride in range(1, window):
        seen = Counter(
            token
            for one in windows(num_tokens, window, stride)
            for token in range(one.first_counted, one.stop)
        )
        assert seen == dict.fromkeys(range(1, num_tokens), 1)
        for one in windows(num_tokens, window, stride):
            assert one.start < one.first_counted < one.stop <= one.start + window


def test_the_same_twice_and_more_context_matters(pair: Pair, tokens: list[int]) -> None:
    once, again = (perplexity(pair.model, tokens, window=WINDOW) for _ in range(2))
    assert once == again
    assert perplexity(pair.model, tokens, window=60).nats != once.nats
    told: list[tuple[int, int]] = []
    perplexity(pair.model, tokens, window=WINDOW, report=lambda *one: told.append(one))
    assert told == [(done, 6) for done in range(1, 7)]


def test_the_default_window_is_what_the_model_takes(pair: Pair) -> None:
    tokens = [1 + place % 190 for place in range(150)]
    assert perplexity(pair.model, tokens) == perplexity(pair.model, tokens, window=128)


def test_pages_of_numbers_change_nothing_and_pages_of_codes_little(pair: Pair, tokens: list[int]) -> None:
    plain, pages, codes = (
        perplexity(pair.model, tokens, window=70, kv_cache_dtype=name) for name in ("auto", "float32", "int8")
    )
    assert pages.nats == pytest.approx(plain.nats, rel=1e-6)
    assert plain.nats != codes.nats
    assert codes.nats == pytest.approx(plain.nats, rel=0.01)


def test_change_is_in_percent() -> None:
    assert Perplexity(20.0, 10).change_from(Perplexity(20.0, 10)) == 0.0
    worse = Perplexity(10 * math.log(8.08), 10)
    assert worse.change_from(Perplexity(10 * math.log(8.0), 10)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("tokens", "options", "error", "words"),
    [
        ([], {}, EmptyInput, "has 0 tokens; perplexity needs 2"),
        ([5], {}, EmptyInput, "has 1 tokens"),
        ([5, 6], {"window": 1}, InputError, "the window is 1"),
        ([5, 6], {"window": 129}, InputError, "at most what the model takes: 128"),
        ([5, 6], {"window": 8, "stride": 8}, InputError, "the stride is 8"),
        ([5, 6], {"window": 8, "stride": 0}, InputError, "the stride is 0"),
        ([5, VOCAB], {}, InputError, r"the vocabulary is 0\.\.198"),
        ([5, -1], {}, InputError, "token ids -1 to 5"),
        ([5, 6], {"kv_cache_dtype": "int4"}, UnknownOption, "'int4'"),
    ],
)
def test_bad_input_is_refused(
    pair: Pair, tokens: list[int], options: dict[str, int], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        perplexity(pair.model, tokens, **options)


def test_an_encoder_predicts_nothing(pair: Pair) -> None:
    other: LanguageModel = replace(pair.model, graph=torch.nn.Identity())
    with pytest.raises(UnsupportedArchitecture, match="does not continue text"):
        perplexity(other, [1, 2])


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("int8", Variant("int8", "int8")),
        ("kv-int8", Variant("kv-int8", None, "int8")),
        ("int4-g128+kv-int8", Variant("int4-g128+kv-int8", "int4-g128", "int8")),
    ],
)
def test_variants_have_names(name: str, variant: Variant) -> None:
    assert variant_of(name) == variant


@pytest.mark.parametrize("name", ["", "int3", "int8+", "int8+int4", "+kv-int8", "kv-int8+int8", "baseline"])
def test_other_variants_do_not_exist(name: str) -> None:
    with pytest.raises(UnknownOption, match="nothing can be compared with"):
        variant_of(name)


def test_variants_are_compared_on_the_same_tokens(tmp_path: Path) -> None:
    pair = pair_of("llama")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((pair.folder / name).read_bytes())
    with pytest.raises(UnsupportedConfig, match=r"has no tokenizer\.json"):
        compare(Question(tmp_path, "some"), [])
    write(tmp_path, byte_level())
    # A tokenizer of 325 over a vocabulary of 199: only letters that were merged early.
    question = Question(tmp_path, "abcabcaabbcc" * 9, window=30, max_tokens=60)
    told: list[str] = []
    found = compare(
        question,
        [variant_of("int8"), variant_of("kv-int8"), variant_of("int4")],
        lambda name, *one: told.append(name),
    )
    assert [one.variant.name for one in found] == ["baseline", "int8", "kv-int8", "int4"]
    assert {one.perplexity.num_tokens for one in found} == {59}
    assert len({one.perplexity.nats for one in found}) == 4
    ids = load(tmp_path).tokenizer.encode(question.text).ids[:60]  # type: ignore[union-attr]
    assert found[1].perplexity == perplexity(load(tmp_path, quantize="int8"), ids, window=30)
    assert found[2].perplexity == perplexity(load(tmp_path), ids, window=30, kv_cache_dtype="int8")
    assert list(dict.fromkeys(told)) == ["baseline", "int8", "kv-int8", "int4"]
    with pytest.raises(EmptyInput, match="the text is empty"):
        compare(Question(tmp_path, ""), [])
