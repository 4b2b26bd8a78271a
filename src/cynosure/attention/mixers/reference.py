"""Compute each mixer as its paper writes it, token by token in float64. Shares no code with fast paths."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.mixers.inputs import MixerInputs, present
from cynosure.attention.mixers.spec import Favor, GatedDelta, KimiDelta, Lightning, MixerSpec, RealGated


def reference_mix(spec: MixerSpec, inputs: MixerInputs) -> Float[Tensor, "batch tokens heads v"]:
    """Return what every token of whole sequences reads, in float64. Slow, plain, the judge of `mix`."""
    batch, tokens, heads = inputs.v.shape[:3]
    out = torch.zeros(inputs.v.shape, dtype=torch.float64)
    for row in range(batch):
        for head in range(heads):
            if tokens:
                out[row, :, head] = _one_head(spec, inputs, row, head)
    return out


def _one_head(spec: MixerSpec, inputs: MixerInputs, row: int, head: int) -> Float[Tensor, "tokens v"]:
    """Compute one head of one sequence."""
    v = inputs.v[row, :, head].double()
    if isinstance(spec.kind, RealGated):
        decay, write = _gates(inputs, row, head)
        return _real_gated(v, decay, write)
    q, k = _shared(present(inputs.q), row, head, spec), _shared(present(inputs.k), row, head, spec)
    if isinstance(spec.kind, Favor):
        return _favor(spec, spec.kind, q, k, v, present(inputs.projection).double())
    if isinstance(spec.kind, Lightning):
        decay = math.exp(-spec.kind.slopes(spec.num_heads)[head])
        return _add(q, k, v, torch.full((len(v),), decay, dtype=torch.float64))
    decay, write = _gates(inputs, row, head)
    if isinstance(spec.kind, GatedDelta | KimiDelta):
        q = q / (q.square().sum(-1, keepdim=True) + spec.kind.eps).sqrt() / math.sqrt(spec.head_dim)
        k = k / (k.square().sum(-1, keepdim=True) + spec.kind.eps).sqrt()
        return _delta(q, k, v, decay, write)
    return _add(q, k * write.unsqueeze(-1), v, decay)


def _shared(x: Tensor, row: int, head: int, spec: MixerSpec) -> Float[Tensor, "tokens k"]:
    """Return the queries or keys that a head reads, which its neighbours may read too."""
    return x[row, :, head // (spec.num_heads // x.shape[2])].double()


def _gates(inputs: MixerInputs, row: int, head: int) -> tuple[Tensor, Float[Tensor, " tokens"]]:
    """Return the decay, one a token or one a channel of it, and the write gate."""
    decay = present(inputs.log_decay)[row, :, head].double().exp()
    return decay, present(inputs.write)[row, :, head].double()


def _add(
    q: Float[Tensor, "tokens k"],
    k: Float[Tensor, "tokens k"],
    v: Float[Tensor, "tokens v"],
    decay: Float[Tensor, " tokens"],
) -> Float[Tensor, "tokens v"]:
    """`S = decay S + k v^T`, `o = S^T q`."""
    state = torch.zeros(k.shape[1], v.shape[1], dtype=torch.float64)
    out = []
    for t in range(len(v)):
        state = decay[t] * state + torch.outer(k[t], v[t])
        out.append(state.T @ q[t])
    return torch.stack(out)


def _delta(
    q: Float[Tensor, "tokens k"],
    k: Float[Tensor, "tokens k"],
    v: Float[Tensor, "tokens v"],
    decay: Float[Tensor, " tokens"] | Float[Tensor, "tokens k"],
    write: Float[Tensor, " tokens"],
) -> Float[Tensor, "tokens v"]:
    """`S = (I - write k k^T) Diag(decay) S + write k v^T`, `o = S^T q`."""
    state = torch.zeros(k.shape[1], v.shape[1], dtype=torch.float64)
    identity = torch.eye(k.shape[1], dtype=torch.float64)
    out = []
    for t in range(len(v)):
        erase = identity - write[t] * torch.outer(k[t], k[t])
        state = erase @ torch.diag(decay[t].expand(k.shape[1])) @ state + write[t] * torch.outer(k[t], v[t])
        out.append(state.T @ q[t])
    return torch.stack(out)


def _real_gated(
    v: Float[Tensor, "tokens 1"], decay: Float[Tensor, " tokens"], write: Float[Tensor, " tokens"]
) -> Float[Tensor, "tokens 1"]:
    """`h = a h + sqrt(1 - a^2) i x`; the first token is `i x`."""
    state = write[0] * v[0]
    out = [state]
    for t in range(1, len(v)):
        state = decay[t] * state + torch.sqrt(1 - decay[t] ** 2) * write[t] * v[t]
        out.append(state)
    return torch.stack(out)


def _favor(
    spec: MixerSpec,
    kind: Favor,
    q: Float[Tensor, "tokens k"],
    k: Float[Tensor, "tokens k"],
    v: Float[Tensor, "tokens v"],
    projection: Float[Tensor, "features k"],
) -> Float[Tensor, "tokens v"]:
    """`sum_j phi(q).phi(k_j) v_j / sum_j phi(q).phi(k_j)`, over the keys that a token reads."""
    root = math.sqrt(spec.favor_scale(kind))
    out = []
    for t in range(len(v)):
        total, weights = torch.zeros(v.shape[1], dtype=torch.float64), 0.0
        for j in range(t + 1 if kind.is_causal else len(v)):
            weight = float(_phi(q[t] * root, projection) @ _phi(k[j] * root, projection))
            total, weights = total + weight * v[j], weights + weight
        out.append(total / weights)
    return torch.stack(out)


def _phi(x: Float[Tensor, " k"], projection: Float[Tensor, "features k"]) -> Float[Tensor, " features"]:
    return torch.exp(projection @ x - x @ x / 2) / math.sqrt(len(projection))
