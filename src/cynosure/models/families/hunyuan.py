"""Read Hunyuan's dense decoders (model cards, Tencent 2025), whose norms of heads come last. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.positions import Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import ATTENTION, MLP, NORMS, OUTER, mask_of, read_heads
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length, read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_HEAD_NORMS: Mapping[str, Target] = {
    "self_attn.query_layernorm": "attention.q_norm",
    "self_attn.key_layernorm": "attention.k_norm",
}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `HunYuanDenseV1ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = _position(reader, heads)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    layer = LayerSpec(
        SelfAttentionSpec(
            AttentionSpec(heads, mask_of(None), rope), has_bias, has_bias, norm, is_qk_norm_last=True
        ),
        MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
        ),
        norm,
    )
    _check_constants(reader, heads)
    return decoder_of(reader, layer, hidden_size, rope.max_model_len)


def _position(reader: ConfigReader, heads: Heads) -> Rope:
    """Return the rotation; `alpha` stretches its base, whatever the length, though the kind says dynamic."""
    values = reader.sub("rope_parameters") or reader.sub("rope_scaling")
    alpha = None if values is None else values.take("alpha", float, None, positive=True)
    if values is None or alpha is None:
        return read_rope(reader, heads.head_dim, share=None)
    for key in ("rope_type", "type"):
        values.expect(key, ["dynamic"])
    if heads.head_dim < 4:
        raise UnsupportedConfig(
            f"{reader.where} stretches {heads.head_dim} channels; it takes 4. Correct it."
        )
    base = reader.take("rope_theta", float, 10_000.0, positive=True)
    base = values.take("rope_theta", float, base, positive=True)
    # Beside an alpha, the published graph reads none of these.
    values.ignore("factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
    longest = reader.take("max_position_embeddings", int, positive=True)
    stretched = base * alpha ** (heads.head_dim / (heads.head_dim - 2))
    return Rope(heads.head_dim, stretched, max_model_len=declared_length(reader, longest))


def _check_constants(reader: ConfigReader, heads: Heads) -> None:
    """Refuse what the authors' own configs could say, and their published graph does not do."""
    reader.expect("attention_head_dim", [heads.head_dim])
    for key in ("use_qk_norm", "use_rotary_pos_emb"):
        reader.expect(key, [True])
    for key in ("use_cla", "mlp_bias", "add_classification_head"):
        reader.expect(key, [False])
    reader.expect("norm_type", ["rms"])
    reader.ignore("cla_share_factor", "class_num", "dense_list", "org_vocab_size", "pool_type")
    reader.ignore("eod_token_id", "im_end_id", "im_newline_id", "im_start_id", "mask_init_id")
    reader.ignore("text_end_id", "text_start_id")


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    inner = {**ATTENTION, **_HEAD_NORMS, **MLP, **NORMS}
    return rename(weights, OUTER, inner, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (
    Brand(
        "HunYuanDenseV1ForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, ("*.rotary_emb.inv_freq",)
    ),
)
