from __future__ import annotations

import pytest
import torch
from torch import nn

from cynosure.train.core_lm_optimiser import Muon, orthogonal


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 64), (2, 64, 16)])
def test_directions_become_equally_long(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    before = torch.linalg.svdvals(matrix)
    after = torch.linalg.svdvals(orthogonal(matrix))
    assert after.min() > 0.5
    assert after.max() < 1.4
    assert before.max() / before.min() > after.max() / after.min()
    assert orthogonal(matrix).shape == matrix.shape


def test_the_rest_moves_as_under_adamw() -> None:
    twins = [nn.ModuleDict({"embed": nn.Embedding(5, 4), "norm": nn.LayerNorm(4)}) for _ in range(2)]
    twins[1].load_state_dict(twins[0].state_dict())
    ours = Muon(twins[0], 0.01, 0.1)
    groups = [
        {"params": [twins[1]["embed"].weight], "weight_decay": 0.1},
        {"params": list(twins[1]["norm"].parameters()), "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95))
    for step in range(5):
        for module, optimiser in zip(twins, (ours, theirs), strict=True):
            optimiser.zero_grad()
            (module["norm"](module["embed"].weight) * (step + 1)).square().sum().backward()
            optimiser.step()
    for one, other in zip(twins[0].parameters(), twins[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_matrices_learn() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 16, bias=False)
    wanted, given = torch.eye(16), torch.randn(200, 16)
    optimiser = Muon(layer, 0.05, 0.0)
    losses = []
    for _ in range(60):
        loss = (layer(given) - given @ wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
