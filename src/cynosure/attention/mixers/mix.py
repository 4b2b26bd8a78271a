"""Run any kind of mixer over tokens, from a state to a state. Knows nothing of models or caches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.mixers.features import positive_features
from cynosure.attention.mixers.inputs import MixerInputs, check_inputs, present, widened
from cynosure.attention.mixers.recurrence import Recurrence, run_chunked, run_stepwise
from cynosure.attention.mixers.spec import (
    Favor,
    GatedDelta,
    KimiDelta,
    Lightning,
    MixerSpec,
    RealGated,
    StateSpace,
)
from cynosure.core.errors import AttentionError


class Method(Enum):
    """How the tokens of a call are taken. `AUTO` takes a single token by a step, and more in chunks."""

    AUTO = "auto"
    CHUNKED = "chunked"
    STEPWISE = "stepwise"


@dataclass(frozen=True)
class MixerState:
    """All that a sequence remembers: the matrices, FAVOR+'s scale of them, how many tokens they saw.

    `log_scale` is the largest logarithm of a feature so far; `matrix` holds sums divided by its exponential.
    """

    matrix: Float[Tensor, "batch heads rows columns"]
    log_scale: Float[Tensor, "batch heads"]
    num_tokens: int = 0

    @classmethod
    def empty(cls, spec: MixerSpec, batch: int, like: Tensor) -> MixerState:
        """Return the state before the first token: float32, or float64 where `like` is, on its device."""
        dtype = torch.promote_types(like.dtype, torch.float32)
        matrix = torch.zeros(batch, *spec.state_shape, dtype=dtype, device=like.device)
        lowest = torch.finfo(dtype).min
        return cls(matrix, torch.full((batch, spec.num_heads), lowest, dtype=dtype, device=like.device))


def mix(
    spec: MixerSpec, inputs: MixerInputs, state: MixerState | None = None, method: Method = Method.AUTO
) -> tuple[Float[Tensor, "batch tokens heads v"], MixerState]:
    """Return what each token reads, in the dtype of `v`, and the state after the last token.

    Computes in the state's dtype. A call over all tokens equals calls over its parts, each with the state of
    the one before; FAVOR+ that is not causal reads what is known by the end of each call.

    Raises:
        AttentionError: a field is missing, not the kind's, or of another shape; a decay that grows.
    """
    check_inputs(spec, inputs)
    before = MixerState.empty(spec, inputs.v.shape[0], inputs.v) if state is None else state
    expected = (inputs.v.shape[0], *spec.state_shape)
    if tuple(before.matrix.shape) != expected:
        raise AttentionError(
            f"state is {tuple(before.matrix.shape)}; {spec.kind} expects {expected}. "
            "Pass the state of the same spec and batch"
        )
    num_tokens = inputs.v.shape[1]
    if num_tokens == 0:
        return inputs.v, before
    wide = widened(inputs, spec.num_heads, before.matrix.dtype)
    if isinstance(spec.kind, Favor):
        read, after = _mix_favor(spec, spec.kind, wide, before, method)
    else:
        read, matrix = _run(spec, _recurrence(spec, wide, before), before.matrix, method)
        after = replace(before, matrix=matrix)
    return read.to(inputs.v.dtype), replace(after, num_tokens=before.num_tokens + num_tokens)


def _run(
    spec: MixerSpec, tokens: Recurrence, matrix: Float[Tensor, "batch heads k v"], method: Method
) -> tuple[Float[Tensor, "batch tokens heads v"], Float[Tensor, "batch heads k v"]]:
    """Choose the algorithm."""
    if method is Method.STEPWISE or (method is Method.AUTO and tokens.v.shape[1] == 1):
        return run_stepwise(tokens, matrix)
    return run_chunked(tokens, matrix, spec.chunk_size)


def _recurrence(spec: MixerSpec, inputs: MixerInputs, before: MixerState) -> Recurrence:
    """Say what a kind's tokens do to the state."""
    kind, v = spec.kind, inputs.v
    if isinstance(kind, RealGated):
        return _real_gated(inputs, before.num_tokens == 0)
    q, k = present(inputs.q), present(inputs.k)
    if isinstance(kind, Lightning):
        slopes = torch.tensor(kind.slopes(spec.num_heads), dtype=v.dtype, device=v.device)
        return Recurrence(q, k, v, -slopes.expand(*v.shape[:3]).unsqueeze(-1))
    log_decay, write = present(inputs.log_decay), present(inputs.write)
    if isinstance(kind, StateSpace):
        return Recurrence(q, k, v * write.unsqueeze(-1), log_decay.unsqueeze(-1))
    assert isinstance(kind, GatedDelta | KimiDelta)
    columns = log_decay if log_decay.ndim == 4 else log_decay.unsqueeze(-1)
    queries = _unit(q, kind.eps) / spec.head_dim**0.5
    return Recurrence(queries, _unit(k, kind.eps), v, columns, write)


def _real_gated(inputs: MixerInputs, is_start: bool) -> Recurrence:
    """Write `sqrt(1 - a^2)` of the gated input to each channel, and the first token of a sequence whole."""
    log_decay, write = present(inputs.log_decay), present(inputs.write)
    # expm1 keeps the digits that 1 - a^2 would lose where a is near 1.
    amount = torch.sqrt(-torch.expm1(2 * log_decay))
    if is_start:
        amount = torch.cat((torch.ones_like(amount[:, :1]), amount[:, 1:]), dim=1)
    ones = torch.ones_like(inputs.v)
    return Recurrence(ones, ones, inputs.v * (amount * write).unsqueeze(-1), log_decay.unsqueeze(-1))


def _mix_favor(
    spec: MixerSpec, kind: Favor, inputs: MixerInputs, before: MixerState, method: Method
) -> tuple[Float[Tensor, "batch tokens heads v"], MixerState]:
    """Read the sums of weighted values and of weights, both kept relative to the largest feature so far."""
    projection, scale = present(inputs.projection), spec.favor_scale(kind)
    of_q = positive_features(present(inputs.q), projection, scale)
    of_k = positive_features(present(inputs.k), projection, scale)
    # A factor of a query's features cancels in the quotient.
    q = (of_q - of_q.amax(-1, keepdim=True)).exp()
    v = torch.cat((inputs.v, torch.ones_like(inputs.v[..., :1])), dim=-1)
    earlier = before.log_scale.unsqueeze(1)
    highest = torch.maximum(of_k.amax(-1), earlier).cummax(1).values
    if kind.is_causal:
        log_decay = (torch.cat((earlier, highest[:, :-1]), dim=1) - highest).unsqueeze(-1)
        tokens = Recurrence(q, (of_k - highest.unsqueeze(-1)).exp(), v, log_decay)
        sums, matrix = _run(spec, tokens, before.matrix, method)
    else:
        last = highest[:, -1:]
        k = (of_k - last.unsqueeze(-1)).exp()
        kept = (earlier - last).exp().squeeze(1)[..., None, None]
        matrix = kept * before.matrix + torch.einsum("bthk,bthv->bhkv", k, v)
        sums = torch.einsum("bthk,bhkv->bthv", q, matrix)
    weight = sums[..., -1:].clamp(min=torch.finfo(sums.dtype).tiny)
    return sums[..., :-1] / weight, replace(before, matrix=matrix, log_scale=highest[:, -1])


def _unit(x: Float[Tensor, "*lead dim"], eps: float) -> Float[Tensor, "*lead dim"]:
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + eps)
