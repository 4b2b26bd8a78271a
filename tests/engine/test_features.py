"""Features are what was computed, or nothing: of a known shape, finite, and never mistaken for tokens."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine import Request, SamplingParams
from cynosure.engine.check import check_request, check_seq2seq_request
from cynosure.engine.features import Features, FeatureShape
from cynosure.engine.wire.types import codec_of

NUMBERS = np.linspace(-1, 1, 12).reshape(3, 4)
SHAPE = FeatureShape(3, 4)


def _request(features: Features | None, *token_ids: int, max_tokens: int = 2) -> Request:
    return Request("one", token_ids or (5,), SamplingParams(max_tokens=max_tokens), features=features)


def test_numbers_come_back_as_they_were() -> None:
    held = Features.of(NUMBERS)
    assert held.shape == SHAPE
    assert np.array_equal(held.array, NUMBERS.astype(np.float32))
    assert held == Features.of(NUMBERS)
    assert held != Features.of(NUMBERS.T)
    assert "data" not in repr(held)


def test_they_cross_the_wire() -> None:
    codec, request = codec_of(Request), _request(Features.of(NUMBERS))
    assert codec.read(codec.write(request)) == request


@pytest.mark.parametrize(
    ("shape", "data", "words"),
    [
        (SHAPE, bytes(47), "48 are needed"),
        (FeatureShape(0, 4), b"", "0 bins"),
        (FeatureShape(-3, -4), bytes(48), "-3 bins"),
        (FeatureShape(1, 1), np.float32("nan").tobytes(), "finite"),
        (FeatureShape(1, 1), np.float32("inf").tobytes(), "finite"),
    ],
)
def test_others_are_refused(shape: FeatureShape, data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Features(shape, data)


def test_each_model_gets_what_it_reads() -> None:
    features = Features.of(NUMBERS)
    check_seq2seq_request(_request(features), 10, 4, features=SHAPE)
    check_seq2seq_request(_request(None), 10, 4)
    with pytest.raises(InputError, match="reads tokens"):
        check_seq2seq_request(_request(features), 10, 4)
    with pytest.raises(InputError, match="reads tokens"):
        check_request(_request(features), 10, 4)
    with pytest.raises(InputError, match="reads features of 3 bins and 4 frames"):
        check_seq2seq_request(_request(None), 10, 4, features=SHAPE)
    with pytest.raises(InputError, match="exactly 5 frames"):
        check_seq2seq_request(_request(features), 10, 4, features=FeatureShape(3, 5))


def test_what_an_answer_begins_with_takes_its_positions_too() -> None:
    features = Features.of(NUMBERS)
    check_seq2seq_request(_request(features, 1, 2, 3, max_tokens=2), 10, 4, features=SHAPE)
    with pytest.raises(InputTooLong, match="5 tokens; the limit is 4"):
        check_seq2seq_request(_request(features, 1, 2, 3, max_tokens=3), 10, 4, features=SHAPE)
