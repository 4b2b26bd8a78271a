"""Mix each token with its neighbours beside a layer. Knows nothing of attention.

The convolution of DeBERTa's second version (arXiv 2006.03654, appendix), beside its first layer.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.models.batch import Batch
from cynosure.models.encoder_spec import ConvolutionSpec
from cynosure.models.heads import HEAD_ACTIVATIONS
from cynosure.models.norm import Norm, NormSpec
from cynosure.models.pooling import Rows


class Convolution(nn.Module):
    """A convolution over the tokens of a sequence, added to what a layer gives, and normalised."""

    def __init__(self, spec: ConvolutionSpec, norm: NormSpec, hidden_size: int) -> None:
        """Hold the convolution, as a linear layer over `width` tokens side by side, and the norm."""
        super().__init__()
        self.width = spec.width
        self.mix = nn.Linear(spec.width * hidden_size, hidden_size)
        self.act = HEAD_ACTIVATIONS[spec.activation]
        self.norm = Norm(norm, hidden_size)

    def forward(
        self, x: Float[Tensor, "n hidden"], given: Float[Tensor, "n hidden"], batch: Batch
    ) -> Float[Tensor, "n hidden"]:
        """Return what the layer gave, with what came into it mixed; beyond a text's ends all is zero."""
        rows = Rows.of(batch)
        x = x * rows.counts[:, None]
        places = torch.arange(x.shape[0])
        reach = self.width // 2
        beside = []
        for offset in range(-reach, reach + 1):
            there = (places + offset).clamp(0, x.shape[0] - 1)
            is_own = (there == places + offset) & (rows.sequence[there] == rows.sequence)
            beside.append(x[there] * is_own[:, None])
        return self.norm(given + self.act(self.mix(torch.cat(beside, -1))))
