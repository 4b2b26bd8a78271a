"""Read GLM-4.5 and its kin (arXiv 2508.06471): grouped heads, and DeepSeek-V3's mixture. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.deepseek import mixture_names, read_mixture, without_drafts
from cynosure.models.families.llama import ATTENTION, MLP, NORMS, OUTER, mask_of, read_heads
from cynosure.models.families.naming import rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `Glm4MoeForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=0.5)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    attention = SelfAttentionSpec(
        AttentionSpec(heads, mask_of(None), rope),
        reader.take("attention_bias", bool, False),
        qk_norm=norm if reader.take("use_qk_norm", bool, False) else None,
    )
    activation = reader.expect("hidden_act", ACTIVATIONS.keys(), "silu")
    dense = MlpSpec(reader.take("intermediate_size", int, positive=True), activation)
    halves = (dense, read_mixture(reader, activation))
    num_dense = reader.take("first_k_dense_replace", int, 1)
    # Layers behind the last, which predict further tokens for drafts; `_rename` leaves them out.
    reader.ignore("num_nextn_predict_layers", "num_mtp_layers")
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(LayerSpec(attention, halves[layer >= num_dense], norm) for layer in range(num_layers)),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    inner = {**ATTENTION, **NORMS, **MLP, **mixture_names(spec)}
    return without_drafts(rename(weights, OUTER, inner, stack="layers.", prefix="model."), weights)


BRANDS: tuple[Brand, ...] = (
    Brand("Glm4MoeForCausalLM", ModelKind.DECODER, parse, Decoder, _rename, ("*.rotary_emb.inv_freq",)),
)
