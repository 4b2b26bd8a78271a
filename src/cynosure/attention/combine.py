"""Finish a state: gate it, or take the difference of pairs of heads. Knows nothing of keys."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.spec import AttentionSpec, Differential, Gate
from cynosure.attention.state import AttentionState
from cynosure.core.errors import AttentionError


def combine(
    spec: AttentionSpec,
    state: AttentionState,
    *,
    gate: Float[Tensor, "n h"] | Float[Tensor, "n h d"] | None = None,
    coefficient: Float[Tensor, ""] | None = None,
) -> Float[Tensor, "n heads d"]:
    """Return the layer's output by `spec.combination`.

    Args:
        spec: what to do; without a combination the output passes as it is.
        state: the finished state, sinks merged.
        gate: logits of `Gate`, a column a head, or a channel where `is_per_channel`.
        coefficient: lambda of `Differential` (`differential_coefficient` computes it from its parameters).

    Raises:
        AttentionError: what the combination needs is missing, or what it does not need was given.
    """
    if (gate is not None) != isinstance(spec.combination, Gate):
        raise AttentionError(
            f"gate logits belong to a Gate and to nothing else; the spec has {spec.combination}"
        )
    if (coefficient is not None) != isinstance(spec.combination, Differential):
        raise AttentionError(
            f"a coefficient belongs to Differential and to nothing else; the spec has {spec.combination}"
        )
    if gate is not None:
        expected = state.out.shape if spec.combination == Gate(is_per_channel=True) else state.lse.shape
        if gate.shape != expected:
            raise AttentionError(f"gate logits must be {tuple(expected)}; got {tuple(gate.shape)}")
        return state.out * torch.sigmoid(gate.to(state.out.dtype)).reshape(*gate.shape[:2], -1)
    if coefficient is not None:
        return difference(state.out, coefficient)
    return state.out


def difference(out: Float[Tensor, "n h d"], coefficient: Float[Tensor, ""]) -> Float[Tensor, "n pairs d"]:
    """Return the first half of the heads less the second half, times the coefficient."""
    first, second = out.chunk(2, dim=1)
    return first - coefficient.to(out.dtype) * second


def coefficient_at_first(layer: int) -> float:
    """Return what a layer's coefficient was before anything was learned (equation 3)."""
    return 0.8 - 0.6 * math.exp(-0.3 * layer)


def differential_coefficient(
    queries: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
    keys: tuple[Float[Tensor, " d"], Float[Tensor, " d"]],
    layer: int,
) -> Float[Tensor, ""]:
    """Return `exp(q1.k1) - exp(q2.k2) + 0.8 - 0.6 exp(-0.3 layer)`, layers from 0 (equations 2 and 3)."""
    first, second = torch.dot(queries[0], keys[0]).exp(), torch.dot(queries[1], keys[1]).exp()
    return first - second + coefficient_at_first(layer)
