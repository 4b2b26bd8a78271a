"""Say what is wrong with a request for a model that is known by its card. Knows nothing of engines."""

from __future__ import annotations

from cynosure.engine.check import check_request, check_seq2seq_request, check_watch
from cynosure.engine.pool.card import ModelCard, ModelRole
from cynosure.engine.request import Request


def check_by_card(request: Request, card: ModelCard) -> None:
    """Raise what the model can't take.

    Raises:
        InputError: a token id, features or a parameter is not of this model.
        InputTooLong: prompt and answer would be longer than the model takes.
    """
    if card.role is ModelRole.SEQ2SEQ:
        check_seq2seq_request(
            request,
            card.vocab_size,
            card.max_model_len,
            max_input_len=card.max_tokens,
            features=card.features,
        )
    else:
        check_request(request, card.vocab_size, card.max_model_len, card.image_token_id)
        check_watch(request, card.watchable)
