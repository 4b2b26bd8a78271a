"""Compute attention as transformers does, and the shares of its last query. Knows nothing of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class RowShares:
    """What the last query of each sequence attended to, by watched head; with `sink` masses sum to 1.

    `entropy` is that of the attention over keys and sink, in nats.
    """

    mass: Float[Tensor, "b heads segments"]
    sink: Float[Tensor, "b heads"]
    entropy: Float[Tensor, "b heads"]


def scores_of(
    query: Float[Tensor, "b hq n d"],
    key: Float[Tensor, "b hkv m d"],
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
) -> Float[Tensor, "b hq n m"]:
    """Scores in float32 under a mask that is boolean (true: seen) or added; every head by its K/V head."""
    keys = key.float().repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query.float() @ keys.transpose(2, 3) * scaling
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        return scores
    mask = mask[..., : keys.shape[2]]
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.float()


def plain_attention(
    scores: Float[Tensor, "b hq n m"], value: Float[Tensor, "b hkv m dv"], sinks: Float[Tensor, " hq"] | None
) -> Float[Tensor, "b n hq dv"]:
    """What eager attention gives: a softmax over scores and learned sinks, times the values."""
    values = value.float().repeat_interleave(scores.shape[1] // value.shape[1], dim=1)
    weights = torch.softmax(_with_sinks(scores, sinks), dim=-1)[..., : scores.shape[-1]]
    return (weights @ values).to(value.dtype).transpose(1, 2).contiguous()


def last_row_shares(
    scores: Float[Tensor, "b hq 1 m"],
    sinks: Float[Tensor, " hq"] | None,
    heads: Sequence[int],
    segments: Int[Tensor, "b m"],
    num_segments: int,
) -> RowShares:
    """Fold the weights of one query into segments; keys of segment -1 are padding, which nothing sees."""
    scores = scores.masked_fill(segments[:, None, None] < 0, -torch.inf)
    chosen = torch.tensor(list(heads), device=scores.device)
    own = None if sinks is None else sinks[chosen]
    log_weights = torch.log_softmax(_with_sinks(scores[:, chosen], own), dim=-1)[:, :, 0]
    weights = log_weights.exp()
    terms = torch.where(weights > 0, weights * log_weights, 0.0)
    num_keys = scores.shape[-1]
    where = torch.where(segments < 0, num_segments, segments)[:, None].expand(-1, len(heads), -1)
    mass = weights.new_zeros(*weights.shape[:2], num_segments + 1)
    mass.scatter_add_(2, where, weights[..., :num_keys])
    sink = weights[..., num_keys:].sum(-1)
    return RowShares(mass[..., :num_segments], sink, -terms.sum(-1))


def sinks_of(module: nn.Module, given: Tensor | None) -> Float[Tensor, " hq"] | None:
    """The learned sinks of a layer, as it hands them on or keeps them."""
    if given is not None:
        return given.detach().float()
    own = dict(module.named_parameters(recurse=False)).get("sinks")
    return None if own is None else own.detach().float()


def _with_sinks(scores: Tensor, sinks: Tensor | None) -> Tensor:
    if sinks is None:
        return scores
    column = sinks.reshape(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], 1)
    return torch.cat([scores, column], dim=-1)
