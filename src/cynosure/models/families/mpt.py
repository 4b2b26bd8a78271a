"""Read MPT checkpoints (MosaicML, 2023). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec, Heads, Score
from cynosure.attention.positions import Alibi
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import mask_of
from cynosure.models.families.naming import Target, rename, rows
from cynosure.models.families.widths import equal_heads
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length
from cynosure.models.self_attention import SelfAttentionSpec

_OUTER: Mapping[str, Target] = {"wte": "embed", "norm_f": "norm", "lm_head": "head"}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of an `MPTForCausalLM`, which has ALiBi and no bias anywhere."""
    hidden_size = reader.take("d_model", int, positive=True)
    heads = equal_heads(reader, hidden_size, reader.take("n_heads", int, positive=True))
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_epsilon", float, 1e-5, positive=True))
    reader.expect("norm_type", ["low_precision_layernorm"])
    reader.expect("no_bias", [True])
    # The published graph has no other width.
    width = reader.expect("expansion_ratio", [4]) * hidden_size
    layer = LayerSpec(_attention(reader, heads), MlpSpec(width, "gelu", is_gated=False), norm)
    # ALiBi is in the place of a table of positions; the fraction is one of gradients.
    reader.ignore("learned_pos_emb", "embedding_fraction", "init_device", "init_config", "verbose")
    reader.ignore("tokenizer_name", "emb_pdrop")
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("n_layers", int, positive=True),
        final_norm=norm,
        # ALiBi reaches further than it was trained to, so that a caller may declare more.
        max_model_len=declared_length(reader, None) or reader.take("max_seq_len", int, None),
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
    )
    reader.ignore("max_seq_len")
    reader.finish()
    return spec


def _attention(reader: ConfigReader, heads: Heads) -> SelfAttentionSpec:
    values = reader.sub("attn_config")
    if values is None:
        values = ConfigReader({}, reader.where)
    values.expect("attn_type", ["multihead_attention"])
    values.expect("alibi", [True])
    values.expect("alibi_bias_max", [8])
    for key in ("qk_ln", "prefix_lm", "attn_uses_sequence_id"):
        values.expect(key, [False])
    # Which kernel, and what transformers writes of any config.
    values.ignore("attn_impl", "attn_pdrop")
    score = Score(values.take("softmax_scale", float, None, positive=True))
    attention = AttentionSpec(heads, mask_of(None), Alibi(heads.num_heads), score)
    return SelfAttentionSpec(attention, qkv_clip=values.take("clip_qkv", float, None, positive=True))


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Split the fused projection: all queries, then all keys, then all values."""
    width = spec.hidden_size
    inner: dict[str, Target] = {
        "norm_1": "attention_norm",
        "norm_2": "mlp_norm",
        "attn.Wqkv": {f"attention.{part}": rows(i * width, (i + 1) * width) for i, part in enumerate("qkv")},
        "attn.out_proj": "attention.o",
        "ffn.up_proj": "mlp.up",
        "ffn.down_proj": "mlp.down",
    }
    return rename(weights, _OUTER, inner, stack="blocks.", prefix="transformer.")


#: The authors' files call the class otherwise than transformers does.
BRANDS: tuple[Brand, ...] = tuple(
    Brand(architecture, ModelKind.DECODER, parse, Decoder, _rename)
    for architecture in ("MptForCausalLM", "MPTForCausalLM")
)
