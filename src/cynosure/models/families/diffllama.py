"""Read DiffLlama checkpoints, a Llama of differential attention (arXiv 2410.05258). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.spec import Differential
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.differential_attention import DifferentialSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import ATTENTION, MLP, NORMS, OUTER, mask_of, read_heads
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope

_COEFFICIENTS: Mapping[str, Target] = {
    f"self_attn.lambda_{part}": f"attention.{ours}"
    for part, ours in (("q1", "first_q"), ("k1", "first_k"), ("q2", "second_q"), ("k2", "second_k"))
}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `DiffLlamaForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = _heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    # What the coefficients were drawn with, before they were learned.
    reader.ignore("lambda_std_dev")
    layer = LayerSpec(
        DifferentialSpec(
            AttentionSpec(heads, mask_of(None), rope, combination=Differential()),
            NormSpec(NormKind.RMS, norm.eps, has_weight=False),
            has_bias=reader.take("attention_bias", bool, False),
        ),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        ),
        norm,
    )
    return decoder_of(reader, layer, hidden_size, rope.max_model_len)


def _heads(reader: ConfigReader, hidden_size: int) -> Heads:
    """Return the heads; each sees the values of two."""
    heads = read_heads(reader, hidden_size)
    if heads.num_kv_heads % 2:
        raise UnsupportedConfig(
            f"{reader.where} has num_key_value_heads = {heads.num_kv_heads}; differential attention pairs "
            "them. Correct the file."
        )
    return Heads(heads.num_heads, heads.num_kv_heads, heads.head_dim, 2 * heads.head_dim)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    inner = {**ATTENTION, **_COEFFICIENTS, **MLP, **NORMS}
    return rename(weights, OUTER, inner, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (
    Brand("DiffLlamaForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, ("*.rotary_emb.inv_freq",)),
)
