"""The convolution equals torch's, in one piece and in many."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import conv1d

from cynosure.models.short_convolution import ShortConvolution


def convolution(width: int, has_bias: bool) -> ShortConvolution:
    dice = torch.Generator().manual_seed(width)
    found = ShortConvolution(6, width, has_bias)
    for parameter in found.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=dice))
    return found


@torch.no_grad()
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("num_tokens", [1, 3, 4, 5, 20])
def test_equals_torch(width: int, num_tokens: int, has_bias: bool) -> None:
    found, x = convolution(width, has_bias), torch.randn(2, num_tokens, 6)
    row = torch.cat((torch.zeros(2, width - 1, 6), x), dim=1)
    expected = conv1d(row.mT, found.weight, found.bias, groups=6).mT
    whole, tail = found(x, torch.zeros(2, width - 1, 6))
    torch.testing.assert_close(whole, expected)
    assert torch.equal(tail, row[:, num_tokens:])
    parts, state = [], torch.zeros(2, width - 1, 6)
    for at in range(num_tokens):
        part, state = found(x[:, at : at + 1], state)
        parts.append(part)
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert torch.equal(state, tail)
