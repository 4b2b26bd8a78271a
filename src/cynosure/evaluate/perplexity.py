"""Measure how well a decoder predicts a text. Knows nothing of files or terminals.

Perplexity is `exp` of the mean negative log-likelihood of tokens. The text is cut into windows of `window`
tokens, each `stride` behind the one before; a window counts only tokens that no earlier one counted, so that
with a stride below the window every token but the first ones has at least `window - stride` before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from cynosure.cache import BLOCK_SIZE
from cynosure.core.errors import EmptyInput, InputError, UnsupportedArchitecture
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel

#: Where no window is asked for: enough to read from, and quick.
WINDOW = 512

#: Rows of logits that are held at once: a vocabulary is wide.
ROWS = 256

#: Called with the windows that are done, and how many there are.
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Window:
    """A run of tokens; those from `first_counted` on are predicted, each from all before it in the run."""

    start: int
    stop: int
    first_counted: int


@dataclass(frozen=True)
class Perplexity:
    """The total negative log-likelihood, in nats, and over how many tokens."""

    nats: float
    num_tokens: int

    @property
    def value(self) -> float:
        """The perplexity."""
        return math.exp(self.nats / self.num_tokens)

    def change_from(self, baseline: Perplexity) -> float:
        """Return by how much it is above a baseline on the same tokens, in percent."""
        assert self.num_tokens == baseline.num_tokens
        return 100 * math.expm1((self.nats - baseline.nats) / self.num_tokens)


def windows(num_tokens: int, window: int, stride: int) -> Iterator[Window]:
    """Yield windows that count every token but the first exactly once."""
    counted = 1
    for start in range(0, num_tokens, stride):
        stop = min(num_tokens, start + window)
        if counted < stop:
            yield Window(start, stop, counted)
        counted = stop
        if stop == num_tokens:
            return


def perplexity(
    model: LanguageModel,
    token_ids: Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    kv_cache_dtype: str = "auto",
    report: Report = lambda done, total: None,
) -> Perplexity:
    """Return the perplexity of a text's tokens; the same model, tokens and threads give the same number.

    Args:
        model: a decoder.
        token_ids: the text.
        window: tokens that are looked at together; by default 512, or what the model takes.
        stride: how far windows are apart; by default they overlap by one token, whose successor would else
            not be predicted.
        kv_cache_dtype: what keys and values are kept in; other than `auto`, they go through pages.
        report: told after each window.

    Raises:
        EmptyInput: fewer than two tokens, so that none is predicted.
        InputError: a window below 2, above what the model takes, or a stride that leaves tokens out; a
            token id that does not exist.
        UnsupportedArchitecture: the model does not continue text.
    """
    graph = model.graph
    if not isinstance(graph, Decoder):
        raise UnsupportedArchitecture(
            f"{model.architecture} does not continue text, and so predicts none. Name a decoder."
        )
    width = min(WINDOW, graph.spec.max_model_len or WINDOW) if window is None else window
    step = width - 1 if stride is None else stride
    _check(graph, token_ids, width, step)
    planned = list(windows(len(token_ids), width, step))
    nats = 0.0
    for done, part in enumerate(planned, 1):
        nats += _nats(graph, token_ids, part, model.backend, kv_cache_dtype)
        report(done, len(planned))
    return Perplexity(nats, len(token_ids) - 1)


@torch.inference_mode()
def _nats(
    graph: Decoder, token_ids: Sequence[int], window: Window, backend: str, kv_cache_dtype: str
) -> float:
    """Return the negative log-likelihood of a window's counted tokens, summed in float64."""
    # The last token predicts nothing.
    given = token_ids[window.start : window.stop - 1]
    num_blocks = -(-len(given) // BLOCK_SIZE)
    if kv_cache_dtype == "auto":
        batch, cache = Batch.pack([given]), None
    else:
        batch = Batch.pack([given], block_tables=[range(num_blocks)])
        cache = graph.new_paged_cache(num_blocks, dtype=kv_cache_dtype)
    first = window.first_counted - 1 - window.start
    hidden = graph(batch, cache, backend=backend).hidden[first:]
    wanted = torch.tensor(token_ids[window.first_counted : window.stop])
    nats = 0.0
    for rows, answers in zip(hidden.split(ROWS), wanted.split(ROWS), strict=True):
        scores = graph.logits(rows).float().log_softmax(-1)
        nats -= float(scores.gather(-1, answers[:, None]).double().sum())
    return nats


def _check(graph: Decoder, token_ids: Sequence[int], window: int, stride: int) -> None:
    limit, vocab_size = graph.spec.max_model_len, graph.spec.vocab_size
    if len(token_ids) < 2:
        raise EmptyInput(f"the text has {len(token_ids)} tokens; perplexity needs 2. Give more text.")
    if window < 2 or (limit is not None and window > limit):
        raise InputError(
            f"the window is {window} tokens; it must be at least 2, and at most what the model takes: "
            f"{limit or 'any number'}. Change it."
        )
    if not 1 <= stride < window:
        raise InputError(
            f"the stride is {stride} tokens; it must be at least 1 and below the window, {window}, or tokens "
            "would be left out. Change it."
        )
    if not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
        raise InputError(
            f"the text holds token ids {min(token_ids)} to {max(token_ids)}; the vocabulary is "
            f"0..{vocab_size - 1}. Encode it with this model's tokenizer."
        )
