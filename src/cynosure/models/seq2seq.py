"""Answer with an encoder-decoder, the likeliest token at each step. Knows nothing of text or checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch

from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.batch import Batch
from cynosure.models.encoder_decoder import EncoderDecoder, Memory


@torch.inference_mode()
def generate_seq2seq(
    model: EncoderDecoder,
    prompts: Sequence[Sequence[int]],
    *,
    start_id: int,
    max_new_tokens: int,
    eos_ids: Collection[int] = (),
    backend: str = "auto",
) -> list[list[int]]:
    """Return the new tokens of each prompt, an end token included where one came.

    Prompts are encoded once, together. Answers that have ended take part in the steps of the others, unread.

    Args:
        model: the graph with its weights.
        prompts: token ids, as the tokenizer gives them (T5 ends each with its end token).
        start_id: what every answer begins with; not returned.
        max_new_tokens: most tokens of an answer.
        eos_ids: tokens that end an answer.
        backend: of attention, by name.

    Raises:
        EmptyInput: there is no prompt, or an empty one.
        InputError: a token does not exist, or no tokens are asked for.
        InputTooLong: prompt or answer pass the length that the model was loaded for.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens}; ask for at least 1.")
    limit = model.spec.max_model_len
    if limit is not None and max_new_tokens > limit:
        raise InputTooLong(
            f"max_new_tokens is {max_new_tokens}; max_model_len is {limit}. Ask for less, or declare more."
        )
    encoded = model.encode(Batch.pack(prompts), backend=backend)
    starts = [[start_id]] * len(prompts)
    return answer_from(
        model, encoded, starts, max_new_tokens=max_new_tokens, eos_ids=eos_ids, backend=backend
    )


@torch.inference_mode()
def answer_from(
    model: EncoderDecoder,
    encoded: Memory,
    starts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_ids: Collection[int] = (),
    backend: str = "auto",
) -> list[list[int]]:
    """Return the new tokens of each answer; `starts` are what they begin with.

    Raises:
        InputTooLong: an answer passes the positions that the model has.
    """
    cache = model.new_cache(len(starts), max(map(len, starts)) + max_new_tokens)
    answers: list[list[int]] = [[] for _ in starts]
    new: Sequence[Sequence[int]] = starts
    for _ in range(max_new_tokens):
        batch = Batch.pack(new, past_lens=cache.lengths, max_len=cache.max_len)
        hidden = model.decode(batch, cache, encoded, backend=backend).hidden
        last = model.logits(hidden[batch.last_rows]).argmax(-1).tolist()
        new = [[token] for token in last]
        for answer, token in zip(answers, last, strict=True):
            if not answer or answer[-1] not in eos_ids:
                answer.append(token)
        if all(answer[-1] in eos_ids for answer in answers):
            break
    return answers
