"""Mixers equal the published implementations in transformers, which the reference was not written from."""

from __future__ import annotations

import pytest
import torch
from transformers import MiniMaxConfig, RecurrentGemmaConfig
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention
from transformers.models.qwen3_next.modeling_qwen3_next import torch_recurrent_gated_delta_rule
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRglru

from cynosure.attention.mixers import GatedDelta, Lightning, MixerInputs, MixerSpec, RealGated, mix

LENGTH = 21


def test_the_gated_delta_rule_is_qwen3_next_s() -> None:
    q, k = torch.randn(2, LENGTH, 2, 8), torch.randn(2, LENGTH, 2, 8)
    v, log_decay, write = torch.randn(2, LENGTH, 4, 6), -torch.rand(2, LENGTH, 4), torch.rand(2, LENGTH, 4)
    theirs, last = torch_recurrent_gated_delta_rule(
        q, k, v, log_decay, write, output_final_state=True, use_qk_l2norm_in_kernel=True
    )
    spec = MixerSpec(GatedDelta(), 4, 8, 6, chunk_size=8)
    out, state = mix(spec, MixerInputs(v, q, k, log_decay, write))
    torch.testing.assert_close(out, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.matrix, last, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_rg_lru_is_recurrent_gemma_s() -> None:
    layer = RecurrentGemmaRglru(RecurrentGemmaConfig(lru_width=12, num_attention_heads=1, hidden_size=12))
    for tensor in layer.parameters():
        tensor.normal_()
    x = torch.randn(2, LENGTH, 12)
    theirs = layer(x, torch.arange(LENGTH).expand(2, -1))
    write = torch.sigmoid(x @ layer.input_gate_weight[0] + layer.input_gate_bias[0])
    gate = torch.sigmoid(x @ layer.recurrent_gate_weight[0] + layer.recurrent_gate_bias[0])
    log_decay = -8 * gate * torch.nn.functional.softplus(layer.recurrent_param)
    spec = MixerSpec(RealGated(), 12, 1, 1, chunk_size=8)
    out, _ = mix(spec, MixerInputs(x.unsqueeze(-1), log_decay=log_decay, write=write))
    torch.testing.assert_close(out.squeeze(-1), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_lightning_s_slopes_are_minimax_s(layer: int) -> None:
    config = MiniMaxConfig(
        hidden_size=32, num_attention_heads=4, head_dim=8, num_hidden_layers=4, block_size=8
    )
    theirs = MiniMaxLightningAttention(config, layer).get_slope_rate().flatten()
    torch.testing.assert_close(torch.tensor(Lightning(layer, 4).slopes(4)), theirs.float())
    assert not torch.allclose(torch.tensor(Lightning((layer + 1) % 4, 4).slopes(4)), theirs.float())
