"""Read Bamba: Mamba-2's mixers, with attention in a few layers, on Llama's halves. Runs nothing.

Its authors: https://huggingface.co/blog/bamba; the mixer is that of arXiv 2405.21060.
"""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import ATTENTION, mask_of, read_heads
from cynosure.models.families.mamba2 import check_heads, mixer_names, step_limits
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.state_space import StateSpaceSpec

_OUTER: Mapping[str, Target] = {"embed_tokens": "embed", "final_layernorm": "norm", "lm_head": "head"}
_INNER: Mapping[str, Target] = {
    **ATTENTION,
    **mixer_names("mamba"),
    "feed_forward.gate_proj": "mlp.gate",
    "feed_forward.up_proj": "mlp.up",
    "feed_forward.down_proj": "mlp.down",
    "input_layernorm": "attention_norm",
    "pre_ff_layernorm": "mlp_norm",
}
#: Of a head's channels, those that are rotated where the config says nothing.
_ROTARY_SHARE = 0.5


def _parse(reader: ConfigReader) -> DecoderSpec:
    # One act stands in the mixer, where only this one is computed, and in the feed-forward half.
    activation = reader.expect("hidden_act", ["silu"], "silu")
    # A chunk's size changes rounding only; the rest is of training, or of other programs.
    reader.ignore("mamba_chunk_size", "num_logits_to_keep", "z_loss_coefficient", "use_mamba_kernels")
    hidden_size = reader.take("hidden_size", int, 4096, positive=True)
    num_layers = reader.take("num_hidden_layers", int, 32, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=_ROTARY_SHARE, max_positions=262144)
    # An older word for the channels that are rotated.
    reader.expect("attn_rotary_emb", [None, rope.dim])
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    attention = SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_bias, has_bias)
    mixer = _mixer(reader, hidden_size, norm.eps)
    mlp = MlpSpec(
        reader.take("intermediate_size", int, 14336, positive=True),
        activation,
        has_bias=reader.take("mlp_bias", bool, False),
    )
    attends = _attending(reader, num_layers)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, 128000, positive=True),
        hidden_size=hidden_size,
        layers=tuple(
            LayerSpec(attention if layer in attends else mixer, mlp, norm) for layer in range(num_layers)
        ),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def _mixer(reader: ConfigReader, hidden_size: int, eps: float) -> StateSpaceSpec:
    expand = reader.take("mamba_expand", int, 2, positive=True)
    num_heads = reader.take("mamba_n_heads", int, 128, positive=True)
    is_derived = not reader.holds("mamba_d_head", int)
    if is_derived:
        reader.expect("mamba_d_head", ["auto"], "auto")
    head_dim = (
        expand * hidden_size // num_heads if is_derived else reader.take("mamba_d_head", int, positive=True)
    )
    min_step, max_step = step_limits(reader)
    spec = StateSpaceSpec(
        num_heads=num_heads,
        head_dim=head_dim,
        state_size=reader.take("mamba_d_state", int, 256, positive=True),
        num_groups=reader.take("mamba_n_groups", int, 1, positive=True),
        conv_width=reader.take("mamba_d_conv", int, 4, positive=True),
        eps=eps,
        has_bias=reader.take("mamba_proj_bias", bool, False),
        has_conv_bias=reader.take("mamba_conv_bias", bool, True),
        min_step=min_step,
        max_step=max_step,
    )
    check_heads(reader, spec, expand * hidden_size, "mamba_expand * hidden_size")
    return spec


def _attending(reader: ConfigReader, num_layers: int) -> tuple[int, ...]:
    """Return the layers that attend, by either of the two keys that may list them."""
    listed = tuple(reader.take_list("attn_layer_indices", int) or ())
    if not all(0 <= layer < num_layers for layer in listed):
        raise UnsupportedConfig(
            f"{reader.where} has attn_layer_indices = {list(listed)} for {num_layers} layers; each must be "
            "one of them. Correct it."
        )
    kinds = ["full_attention" if layer in listed else "linear_attention" for layer in range(num_layers)]
    for key in ("layer_types", "layers_block_type"):
        found = reader.take_list(key, str)
        if found is not None and list(found) != kinds:
            raise UnsupportedConfig(
                f"{reader.where} has {key} = {list(found)}, which is not what attn_layer_indices says. "
                "Correct one."
            )
    return listed


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, _OUTER, _INNER, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (Brand("BambaForCausalLM", ModelKind.DECODER, _parse, Decoder, _rename),)
