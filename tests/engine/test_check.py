from __future__ import annotations

import pytest

from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine import Request, SamplingParams
from cynosure.engine.check import check_request, check_seq2seq_request
from cynosure.engine.session import Session


def _request(*token_ids: int, **params: object) -> Request:
    return Request("one", token_ids, SamplingParams(**{"max_tokens": 2, **params}))  # type: ignore[arg-type]


def test_what_fits_to_the_last_token_is_taken() -> None:
    check_request(_request(0, 9), vocab_size=10, max_model_len=4)
    check_request(_request(*[0] * 1000), vocab_size=10, max_model_len=None)


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (_request(0, 10), InputError, r"token id 10; the vocabulary is 0\.\.9"),
        (_request(0, stop_token_ids=(10,)), InputError, "stop_token_ids holds token id 10"),
        (_request(0, logit_bias=((10, 1.0),)), InputError, "logit_bias holds token id 10"),
        (_request(0, 1, 2), InputTooLong, "has 3 tokens and may get 2 more; the limit is 4"),
    ],
)
def test_what_does_not_is_refused_by_name(request_: Request, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        check_request(request_, vocab_size=10, max_model_len=4)


def test_an_encoder_decoder_keeps_no_session() -> None:
    request = Request("one", (0,), SamplingParams(max_tokens=2), session=Session("talk"))
    with pytest.raises(InputError, match="'talk' can't be kept"):
        check_seq2seq_request(request, vocab_size=10, max_model_len=4)
    check_request(request, vocab_size=10, max_model_len=4)


def test_an_encoder_decoder_guesses_nothing() -> None:
    request = Request("one", (0,), SamplingParams(max_tokens=2), speculation=True)
    with pytest.raises(InputError, match="guesses no tokens"):
        check_seq2seq_request(request, vocab_size=10, max_model_len=4)
