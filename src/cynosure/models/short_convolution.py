"""Mix each channel with its last few tokens, from a tail to a tail. Knows nothing of what comes behind it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ShortConvolution(nn.Module):
    """A causal convolution a channel, `width` tokens wide, as stand before most recurrences."""

    def __init__(self, num_channels: int, width: int, has_bias: bool) -> None:
        """Hold the weights as checkpoints have them, the oldest token's first."""
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.empty(num_channels, 1, width), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(num_channels), requires_grad=False) if has_bias else None

    def forward(
        self, x: Float[Tensor, "batch tokens channels"], tail: Float[Tensor, "batch tail channels"]
    ) -> tuple[Float[Tensor, "batch tokens channels"], Float[Tensor, "batch tail channels"]]:
        """Return the mixed tokens, in the dtype of `x`, and the tail with which the text goes on."""
        num_tokens = x.shape[1]
        row = torch.cat((tail, x), dim=1)
        # A sum of shifted rows: the same for one token and for many, and in float32 for any dtype.
        wide, weight = row.float(), self.weight.float()
        mixed = sum(wide[:, at : at + num_tokens] * weight[:, 0, at] for at in range(self.width))
        assert isinstance(mixed, Tensor)
        if self.bias is not None:
            mixed = mixed + self.bias.float()
        return mixed.to(x.dtype), row[:, num_tokens:]
