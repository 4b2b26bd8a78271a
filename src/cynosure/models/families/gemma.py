"""Read Gemma 1 to 3 for texts (arXiv 2403.08295, 2408.00118, 2503.19786). Runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cynosure.attention import AttentionSpec, Score
from cynosure.attention.positions import Rope
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.alike import decoder_of
from cynosure.models.families.llama import (
    ATTENTION,
    MLP,
    OUTER,
    Windows,
    mask_of,
    read_heads,
    rename_llama,
    windows_by_type,
)
from cynosure.models.families.naming import rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_GELU = "gelu_pytorch_tanh"
NORMS = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "attention_post_norm",
    "pre_feedforward_layernorm": "mlp_norm",
    "post_feedforward_layernorm": "mlp_post_norm",
}


@dataclass(frozen=True)
class _Generation:
    """What changed from one Gemma to the next; `ropes` gives the global and the local position."""

    ropes: Callable[[ConfigReader, int], tuple[Rope, Rope]]
    full_every: Callable[[ConfigReader], int]
    caps_scores: bool
    has_qk_norm: bool


def _one_rope(reader: ConfigReader, head_dim: int) -> tuple[Rope, Rope]:
    rope = read_rope(reader, head_dim)
    return rope, rope


def two_ropes(reader: ConfigReader, head_dim: int) -> tuple[Rope, Rope]:
    """Return a slow global position and a fast local one; scaling stretches the global one alone."""
    wide = read_rope(reader, head_dim, theta=1_000_000.0, layer_type="full_attention")
    if reader.sub("rope_parameters") is not None:
        return wide, read_rope(reader, head_dim, layer_type="sliding_attention")
    return wide, Rope(head_dim, reader.take("rope_local_base_freq", float, 10_000.0, positive=True))


def _windows(reader: ConfigReader, num_layers: int, full_every: int) -> Windows:
    window = reader.take("sliding_window", int, 4096, positive=True)
    listed = windows_by_type(reader, num_layers, window)
    return listed or tuple(None if (layer + 1) % full_every == 0 else window for layer in range(num_layers))


def _pattern(reader: ConfigReader) -> int:
    new = reader.take("_sliding_window_pattern", int, 6, positive=True)
    return reader.take("sliding_window_pattern", int, new, positive=True)


def _parser(generation: _Generation) -> Callable[[ConfigReader], DecoderSpec]:
    def parse(reader: ConfigReader) -> DecoderSpec:
        hidden_size = reader.take("hidden_size", int, positive=True)
        heads = read_heads(reader, hidden_size)
        wide, local = generation.ropes(reader, heads.head_dim)
        norm = NormSpec(NormKind.RMS_OFFSET, reader.take("rms_norm_eps", float, 1e-6, positive=True))
        score = Score(
            scale=reader.take("query_pre_attn_scalar", float, 256.0, positive=True) ** -0.5,
            softcap=reader.take("attn_logit_softcapping", float, None) if generation.caps_scores else None,
        )
        mlp = MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_activation", ACTIVATIONS.keys(), "gelu_pytorch_tanh"),
        )
        reader.ignore("hidden_act")  # an older name, which the published graph does not read either
        reader.expect("use_bidirectional_attention", [False])
        has_bias = reader.take("attention_bias", bool, False)
        num_layers = reader.take("num_hidden_layers", int, positive=True)
        windows = _windows(reader, num_layers, generation.full_every(reader))
        layers = {
            window: LayerSpec(
                SelfAttentionSpec(
                    AttentionSpec(heads, mask_of(window), wide if window is None else local, score),
                    has_bias,
                    has_bias,
                    norm if generation.has_qk_norm else None,
                ),
                mlp,
                norm,
                has_post_norms=True,
            )
            for window in windows
        }
        spec = DecoderSpec(
            vocab_size=reader.take("vocab_size", int, positive=True),
            hidden_size=hidden_size,
            layers=tuple(layers[window] for window in windows),
            final_norm=norm,
            max_model_len=wide.max_model_len,
            is_head_tied=reader.take("tie_word_embeddings", bool, True),
            embedding_multiplier=hidden_size**0.5,
            logit_softcap=reader.take("final_logit_softcapping", float, None),
        )
        reader.finish()
        return spec

    return parse


def parse_first(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `GemmaForCausalLM`: one norm before each half, and every layer sees all."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    reader.take("head_dim", int, positive=True)  # the published default follows from no other number
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None)
    has_bias = reader.take("attention_bias", bool, False)
    # The first files say gelu, and were trained with its approximation all the same.
    reader.expect("hidden_act", [_GELU, "gelu"], _GELU)
    reader.expect("hidden_activation", [_GELU])
    reader.expect("use_bidirectional_attention", [False])
    layer = LayerSpec(
        SelfAttentionSpec(AttentionSpec(heads, mask_of(None), rope), has_bias, has_bias),
        MlpSpec(reader.take("intermediate_size", int, positive=True), _GELU),
        NormSpec(NormKind.RMS_OFFSET, reader.take("rms_norm_eps", float, 1e-6, positive=True)),
    )
    spec = decoder_of(reader, layer, hidden_size, rope.max_model_len, is_head_tied=True)
    return replace(spec, embedding_multiplier=hidden_size**0.5)


def _rename(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    return rename(weights, OUTER, {**ATTENTION, **MLP, **NORMS}, stack="layers.", prefix="model.")


def _brand(architecture: str, generation: _Generation) -> Brand:
    return Brand(architecture, ModelKind.DECODER, _parser(generation), Decoder, _rename)


BRANDS: tuple[Brand, ...] = (
    Brand(
        "GemmaForCausalLM",
        ModelKind.DECODER,
        parse_first,
        Decoder,
        rename_llama,
        ("*.rotary_emb.inv_freq",),
    ),
    _brand(
        "Gemma2ForCausalLM", _Generation(_one_rope, lambda reader: 2, caps_scores=True, has_qk_norm=False)
    ),
    _brand("Gemma3ForCausalLM", _Generation(two_ropes, _pattern, caps_scores=False, has_qk_norm=True)),
)
