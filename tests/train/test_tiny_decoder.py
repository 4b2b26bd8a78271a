from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cynosure.train.tiny_decoder import Shape, TinyDecoder

TINY = Shape(vocab_size=300, hidden_size=64, intermediate_size=128, num_layers=2, num_heads=4, num_kv_heads=2)


def test_a_token_does_not_see_those_behind_it() -> None:
    decoder = TinyDecoder(TINY)
    tokens = torch.randint(0, 300, (2, 30))
    with torch.no_grad():
        whole = decoder(tokens)
        torch.testing.assert_close(decoder(tokens[:, :11]), whole[:, :11])
        assert not torch.allclose(decoder(tokens[:, 1:])[:, -1], whole[:, -1], atol=1e-6)


def test_every_parameter_learns() -> None:
    decoder = TinyDecoder(TINY)
    decoder(torch.randint(0, 300, (1, 9))).square().sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in decoder.parameters())


@pytest.mark.parametrize("layers", [1, 3])
def test_names_are_those_of_a_checkpoint(layers: int, tmp_path: Path) -> None:
    names = TinyDecoder(Shape(num_layers=layers)).state_dict().keys()
    assert len(names) == 2 + 9 * layers
    assert f"model.layers.{layers - 1}.self_attn.q_proj.weight" in names
    assert Shape().head_dim == 64
