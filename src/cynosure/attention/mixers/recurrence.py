"""Run one linear recurrence over tokens, one at a time or in chunks. Knows nothing of kinds of mixers.

The state S is a matrix a head. A token decays it, writes to it and reads it:

    S = diag(exp(log_decay)) S + k u^T        u = v, or write (v - S^T k) of the decayed S (delta rule)
    out = S^T q

In a chunk, with G the running sum of `log_decay`, everything before the chunk comes through
`exp(G_t) S`, and everything in it through the matrix `sum_c q_tc k_jc exp(G_tc - G_jc)`. Differences of G are
never positive, so that no decay overflows. The delta rule first solves a triangular system for all u of
the chunk (arXiv 2412.06464, section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

# exp of it is 0 in every dtype; sums of more negative ones would swallow their neighbours.
LOWEST_LOG_DECAY = -1000.0


@dataclass(frozen=True)
class Recurrence:
    """What each token does to the state. `log_decay` has one column a head, or one a channel."""

    q: Float[Tensor, "batch tokens heads k"]
    k: Float[Tensor, "batch tokens heads k"]
    v: Float[Tensor, "batch tokens heads v"]
    log_decay: Float[Tensor, "batch tokens heads decays"]
    delta_write: Float[Tensor, "batch tokens heads"] | None = None

    def part(self, start: int, stop: int) -> Recurrence:
        """Return the tokens from `start` until `stop`."""
        write = self.delta_write
        return Recurrence(
            self.q[:, start:stop],
            self.k[:, start:stop],
            self.v[:, start:stop],
            self.log_decay[:, start:stop],
            None if write is None else write[:, start:stop],
        )


def run_stepwise(
    tokens: Recurrence, state: Float[Tensor, "batch heads k v"]
) -> tuple[Float[Tensor, "batch tokens heads v"], Float[Tensor, "batch heads k v"]]:
    """Go on from `state` one token at a time; return what each token read, and the last state."""
    read = torch.empty_like(tokens.v)
    for at in range(tokens.v.shape[1]):
        # A state is large: after the product with its decay, which is a copy, nothing as large is made.
        decayed = tokens.log_decay[:, at].exp().unsqueeze(-1) * state
        k, u = tokens.k[:, at], tokens.v[:, at]
        if tokens.delta_write is not None:
            u = tokens.delta_write[:, at].unsqueeze(-1) * (u - _recall(k, decayed))
        state = decayed.addcmul_(k.unsqueeze(-1), u.unsqueeze(-2))
        read[:, at] = _recall(tokens.q[:, at], state)
    return read, state


def _recall(
    key: Float[Tensor, "batch heads k"], state: Float[Tensor, "batch heads k v"]
) -> Float[Tensor, "batch heads v"]:
    """`S^T key`, a head at a time."""
    return (key.unsqueeze(-2) @ state).squeeze(-2)


def run_chunked(
    tokens: Recurrence, state: Float[Tensor, "batch heads k v"], chunk_size: int
) -> tuple[Float[Tensor, "batch tokens heads v"], Float[Tensor, "batch heads k v"]]:
    """The same as `run_stepwise`, up to rounding, in a matrix product for each chunk."""
    read = torch.empty_like(tokens.v)
    for start in range(0, tokens.v.shape[1], chunk_size):
        stop = min(start + chunk_size, tokens.v.shape[1])
        read[:, start:stop], state = _chunk(tokens.part(start, stop), state)
    return read, state


def _chunk(
    tokens: Recurrence, state: Float[Tensor, "batch heads k v"]
) -> tuple[Float[Tensor, "batch tokens heads v"], Float[Tensor, "batch heads k v"]]:
    """Take a whole chunk at once."""
    # Float64: a difference of two long sums must be as exact as one decay.
    total = tokens.log_decay.double().clamp(min=LOWEST_LOG_DECAY).cumsum(1)
    since_start = total.to(state.dtype).exp()
    if tokens.delta_write is not None:
        recalled = torch.einsum("bthk,bhkv->bthv", tokens.k * since_start, state)
        among = _weights(tokens.k, tokens.k, total).tril(-1)
        write = tokens.delta_write.mT.unsqueeze(-1)
        u = torch.linalg.solve_triangular(
            write * among, write * (tokens.v - recalled).transpose(1, 2), upper=False, unitriangular=True
        )
        tokens = replace(tokens, v=u.transpose(1, 2))
    before = torch.einsum("bthk,bhkv->bthv", tokens.q * since_start, state)
    within = torch.einsum("bhtj,bjhv->bthv", _weights(tokens.q, tokens.k, total), tokens.v)
    until_end = (total[:, -1:] - total).to(state.dtype).exp()
    written = torch.einsum("bthk,bthv->bhkv", tokens.k * until_end, tokens.v)
    return before + within, since_start[:, -1].unsqueeze(-1) * state + written


def _weights(
    reader: Float[Tensor, "batch tokens heads k"],
    written: Float[Tensor, "batch tokens heads k"],
    total: Float[Tensor, "batch tokens heads decays"],
) -> Float[Tensor, "batch heads tokens tokens"]:
    """How much of what j wrote is read at t: products of channels, each with its decay from j to t."""
    gap = (total.unsqueeze(2) - total.unsqueeze(1)).clamp(max=0.0).to(reader.dtype).exp()
    if gap.shape[-1] == 1:
        products = torch.einsum("bthk,bjhk->bhtj", reader, written)
        return (products * gap.squeeze(-1).permute(0, 3, 1, 2)).tril()
    return torch.einsum("bthk,bjhk,btjhk->bhtj", reader, written, gap).tril()
