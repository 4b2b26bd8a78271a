"""Tell which tokens of a text an encoder's last layer attended to. Knows nothing of words or of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from cynosure.attention import Watch
from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder


@dataclass(frozen=True)
class AttendedTokens:
    """What an encoder's last layer attended to in one text.

    `offsets` are code points in the text; `weights` are shares of attention, the mean over heads and over the
    tokens that ask. What went elsewhere, to added tokens ([CLS], [SEP]) and of a pair to the other text, is
    `sink_share`; all sum to 1.
    """

    offsets: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]
    sink_share: float


@torch.inference_mode()
def attended_tokens(
    graph: Encoder,
    batch: Batch,
    asking: Sequence[int],
    asked: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    backend: str = "auto",
) -> AttendedTokens:
    """Shares of the last layer's attention, from the tokens at `asking` to those at `asked`.

    Args:
        graph: The encoder.
        batch: One sequence, each of whose tokens is a segment.
        asking: Places of queries.
        asked: Places of keys.
        offsets: Where each token of the sequence comes from.
        backend: Of attention, by name.
    """
    if not asking or not asked:
        return AttendedTokens((), (), 1.0)
    last = len(graph.layers) - 1
    found = graph(batch, watch=Watch(mass=True), watched_layers=(last,), backend=backend)
    received = found.states[last].shares[list(asking)].mean(dim=(0, 1)).tolist()
    weights = tuple(received[place] for place in asked)
    return AttendedTokens(tuple(offsets[place] for place in asked), weights, 1.0 - sum(weights))
