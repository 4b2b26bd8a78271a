"""Choose the tokens that a query attends to by small keys of their own. Knows nothing of what is attended to.

DeepSeek-V3.2's lightning indexer (arXiv 2512.02556, section 2.1): a score of a token is the sum over
the indexer's heads of a weight times `relu(q . k)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cynosure.attention import DenseSource, PagedSource, PageScales
from cynosure.attention.chosen_keys import allowed_keys, best_keys
from cynosure.attention.masks import Mask
from cynosure.attention.positions import Rope
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.norm import Norm, NormSpec

#: Scores of so many queries, keys and heads are held at once.
_MOST_SCORES = 1 << 24


@dataclass(frozen=True)
class IndexerSpec:
    """Heads of `head_dim` channels whose first are rotated; they leave each query `num_chosen` tokens."""

    num_heads: int
    head_dim: int
    num_chosen: int
    position: Rope
    norm: NormSpec


class Indexer(nn.Module):
    """Queries from a token's compressed query, one key a token, and a weight a head."""

    def __init__(self, spec: IndexerSpec, hidden_size: int, q_latent_dim: int) -> None:
        """Hold the projections; the weights' stays exact, like a router's."""
        super().__init__()
        self.spec = spec
        self.q = nn.Linear(q_latent_dim, spec.num_heads * spec.head_dim, bias=False)
        self.k = nn.Linear(hidden_size, spec.head_dim, bias=False)
        self.norm = Norm(spec.norm, spec.head_dim)
        self.weight = nn.Parameter(torch.empty(spec.num_heads, hidden_size), requires_grad=False)

    def keys(self, x: Float[Tensor, "n hidden"], forward_pass: ForwardPass) -> Float[Tensor, "n 1 d"]:
        """Return what is kept of each token."""
        return forward_pass.rotate(self.spec.position, self.norm(self.k(x))[:, None])

    def choose(
        self,
        x: Float[Tensor, "n hidden"],
        q_latent: Float[Tensor, "n latent"],
        stored: DenseSource | PagedSource,
        mask: Mask,
        forward_pass: ForwardPass,
    ) -> Int[Tensor, "n num_chosen"]:
        """Return the tokens of each query, as `best_keys` does; `stored` holds what `keys` gave as values."""
        spec = self.spec
        q = forward_pass.rotate(
            spec.position, self.q(q_latent).unflatten(-1, (spec.num_heads, spec.head_dim))
        )
        weights = functional.linear(x.float(), self.weight.float()) * (spec.num_heads * spec.head_dim) ** -0.5
        plan, chosen = forward_pass.plan, []
        for seq, (start, stop) in enumerate(pairwise(plan.queries.offsets)):
            keys = plan.keys[0]
            num_keys = keys.offsets[seq + 1] - keys.offsets[seq]
            own = _as_keys(stored).read(keys, seq, 0, num_keys)[0][0].float()
            scores = _scores(q[start:stop].float(), own, weights[start:stop])
            chosen.append(best_keys(allowed_keys(plan, mask, seq, scores), spec.num_chosen))
        return torch.cat(chosen)


def _as_keys(stored: DenseSource | PagedSource) -> DenseSource | PagedSource:
    """Return the values of a source as keys, so that nothing else is gathered."""
    if isinstance(stored, DenseSource):
        return DenseSource(stored.v, stored.v[..., :0])
    scales = None if stored.scales is None else PageScales(stored.scales.v, stored.scales.v)
    return PagedSource(stored.v_pages, stored.v_pages[..., :0], scales, stored.read_dtype)


def _scores(
    q: Float[Tensor, "q h d"], k: Float[Tensor, "k d"], weights: Float[Tensor, "q h"]
) -> Float[Tensor, "q k"]:
    """Return the score of every key, a few queries at a time: `relu` is between the heads and their sum."""
    num_rows = max(1, _MOST_SCORES // max(1, q.shape[1] * k.shape[0]))
    parts = [
        torch.einsum("qhk,qh->qk", functional.relu(torch.einsum("qhd,kd->qhk", rows, k)), own)
        for rows, own in zip(q.split(num_rows), weights.split(num_rows), strict=True)
    ]
    return torch.cat(parts)
