"""Look at every head of a decoder, and compute without some of them. Knows nothing of engines or pages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from cynosure.attention import Watch
from cynosure.core.errors import UnknownOption
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.self_attention import SelfAttention

Head = tuple[int, int]


class DecoderProbe:
    """A decoder whose layers are plain attention, in modules: what probes and ablations ask of it."""

    def __init__(self, graph: Decoder) -> None:
        """Stand before a graph in eval mode.

        Raises:
            UnknownOption: a layer has no heads of its own that could be left out.
        """
        self._blocks: list[SelfAttention] = []
        for index, layer in enumerate(graph.layers):
            block = layer.attention
            if not isinstance(block, SelfAttention):
                kind = type(block).__name__
                raise UnknownOption(
                    f"layer {index} is {kind}; only plain attention can be probed head by head. Choose a "
                    "model whose layers are."
                )
            self._blocks.append(block)
        self._graph = graph
        self.num_heads: tuple[int, ...] = tuple(graph.spec.num_heads)
        self.full_layers: tuple[int, ...] = tuple(graph.spec.full_layers)

    @torch.inference_mode()
    def shares(
        self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]
    ) -> Float32[np.ndarray, "rows heads segments"]:
        """The share of each segment by row and head, heads in order of layers."""
        batch = Batch.pack([list(token_ids)], segments=[list(segments)])
        states = self._graph(batch, watch=Watch(), watched_layers=range(len(self.num_heads))).states
        chosen = torch.tensor(list(rows))
        by_layer = []
        for layer in range(len(self.num_heads)):
            state = states[layer]
            assert state.stats is not None
            assert state.stats.mass_lse is not None
            mass = state.stats.mass_lse[chosen]
            by_layer.append(torch.exp(mass - state.lse[chosen][..., None]))
        return torch.cat(by_layer, dim=1).float().numpy()

    @torch.inference_mode()
    def log_probs(
        self,
        token_ids: Sequence[int],
        first: int,
        *,
        without: Sequence[Head] = (),
        denied: Sequence[tuple[int, int]] = (),
    ) -> Float32[np.ndarray, " tokens"]:
        """How likely each token from `first` on is, in nats."""
        assert first > 0, "nothing is before the first token"
        batch = _without_runs(Batch.pack([list(token_ids)]), denied)
        with self._ablated(without):
            hidden = self._graph(batch).hidden[first - 1 : len(token_ids) - 1]
            scores = torch.log_softmax(self._graph.logits(hidden).float(), dim=-1)
        wanted = torch.tensor(list(token_ids[first:]))
        return scores.gather(1, wanted[:, None])[:, 0].numpy()

    @torch.inference_mode()
    def hidden(self, token_ids: Sequence[int]) -> Float32[np.ndarray, "tokens hidden"]:
        """What the head reads of each token: the states behind the last layer."""
        return self._graph(Batch.pack([list(token_ids)])).hidden.float().numpy()

    @contextmanager
    def _ablated(self, heads: Sequence[Head]) -> Iterator[None]:
        """Have heads give nothing, for a while: the columns of the output projection that read them are 0."""
        kept: list[tuple[Tensor, slice, Tensor]] = []
        try:
            for layer, head in heads:
                weight = self._blocks[layer].o.weight
                width = weight.shape[1] // self.num_heads[layer]
                columns = slice(head * width, (head + 1) * width)
                kept.append((weight, columns, weight[:, columns].clone()))
                weight[:, columns] = 0
            yield
        finally:
            for weight, columns, values in reversed(kept):
                weight[:, columns] = values


def _without_runs(batch: Batch, denied: Sequence[tuple[int, int]]) -> Batch:
    if not denied:
        return batch
    (keys,) = batch.plan.keys
    added = torch.zeros(keys.positions.numel())
    for start, end in denied:
        added[start:end] = -math.inf
    return replace(batch, plan=batch.plan.with_keys(replace(keys, bias=added)))
