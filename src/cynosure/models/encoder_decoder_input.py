"""Turn tokens, or frames of numbers, into the first hidden states of a stack. Knows nothing of layers."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from cynosure.core.errors import InputError, InputTooLong
from cynosure.models.embedding import embedding
from cynosure.models.encoder_decoder_spec import FeatureInputSpec, TokenInputSpec
from cynosure.models.norm import Norm


class TokenInput(nn.Module):
    """Add rows of positions to embedded tokens, and normalise, where the spec says so."""

    def __init__(self, spec: TokenInputSpec, embed: nn.Embedding) -> None:
        """Share `embed`, and hold what else the spec asks for."""
        super().__init__()
        width = embed.embedding_dim
        self.spec = spec
        self.embed = embed
        num_rows = (spec.num_positions or 0) + spec.position_offset
        self.positions = None if spec.num_positions is None else embedding(num_rows, width)
        self.norm = nn.Identity() if spec.norm is None else Norm(spec.norm, width)

    def forward(
        self, token_ids: Int[Tensor, " n"], positions: Int[Tensor, " n"]
    ) -> Float[Tensor, "n hidden"]:
        """Return the tokens as they enter the first layer.

        Raises:
            InputTooLong: a token sits behind the last position that was learned.
        """
        x = self.embed(token_ids)
        if self.spec.scale != 1.0:
            x = x * self.spec.scale
        if self.positions is not None:
            last = int(positions.max())
            if last >= (self.spec.num_positions or 0):
                raise InputTooLong(
                    f"a token sits at position {last}; the model has {self.spec.num_positions} positions. "
                    "Shorten the input, or ask for fewer tokens."
                )
            x = x + self.positions(positions + self.spec.position_offset)
        return self.norm(x)


class FeatureInput(nn.Module):
    """Two convolutions over frames, and rows of positions."""

    def __init__(self, spec: FeatureInputSpec, width: int) -> None:
        """Hold the kernels of three frames each, and the rows."""
        super().__init__()
        self.spec = spec
        self.first = nn.Conv1d(spec.num_bins, width, kernel_size=3, padding=1)
        self.second = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.positions = embedding(spec.num_positions, width)

    def forward(self, features: Float[Tensor, "inputs bins frames"]) -> Float[Tensor, "n hidden"]:
        """Return the positions of all inputs, one input after the other.

        Raises:
            InputError: an input has other bins, or another number of frames, than the model reads.
        """
        expected = (self.spec.num_bins, self.spec.num_frames)
        if tuple(features.shape[1:]) != expected:
            raise InputError(
                f"features of {features.shape[1]} bins and {features.shape[2]} frames were given; the model "
                f"reads {expected[0]} bins and exactly {expected[1]} frames. Pad with silence, or cut."
            )
        x = functional.gelu(self.first(features.to(self.positions.weight.dtype)))
        x = functional.gelu(self.second(x)).transpose(1, 2)
        return (x + self.positions.weight).flatten(0, 1)


def sinusoids(num_rows: int, width: int) -> Float[Tensor, "rows width"]:
    """Return rows of sines, then cosines, of falling frequencies (arXiv 1706.03762, section 3.5).

    Marian and Pegasus compute them in float64; checkpoints may leave them out.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float64) / width
    angles = torch.arange(num_rows, dtype=torch.float64)[:, None] / torch.pow(10_000.0, exponents)
    num_cosines = width // 2
    return torch.cat([angles.sin(), angles[:, :num_cosines].cos()], dim=1).float()
