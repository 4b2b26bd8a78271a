"""Read Cohere 2 checkpoints (Command R7B, Command A: arXiv 2504.00698). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

from cynosure.attention import AttentionSpec
from cynosure.attention.positions import NoPosition
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import (
    ATTENTION,
    MLP,
    OUTER,
    Windows,
    mask_of,
    read_heads,
    windows_by_type,
)
from cynosure.models.families.naming import Target, rename
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

#: One norm stands before both halves.
_NORM: Target = {"attention_norm": None, "mlp_norm": None}


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `Cohere2ForCausalLM`; layers that see all do not rotate."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    heads = read_heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, share=None, is_interleaved=True)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-5, positive=True))
    has_bias = reader.take("attention_bias", bool, False)
    mlp = MlpSpec(
        reader.take("intermediate_size", int, positive=True),
        reader.expect("hidden_act", ACTIVATIONS.keys(), "silu"),
    )
    windows = _windows(reader, num_layers)
    layers = {
        window: LayerSpec(
            SelfAttentionSpec(
                AttentionSpec(heads, mask_of(window), NoPosition() if window is None else rope),
                has_bias,
                has_bias,
            ),
            mlp,
            norm,
            is_parallel=True,
        )
        for window in windows
    }
    _check_constants(reader)
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(layers[window] for window in windows),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, True),
        logit_multiplier=reader.take("logit_scale", float, 0.0625, positive=True),
    )
    reader.finish()
    return spec


def _windows(reader: ConfigReader, num_layers: int) -> Windows:
    window = reader.take("sliding_window", int, 4096, positive=True)
    every = reader.take("sliding_window_pattern", int, 4, positive=True)
    reader.expect("layer_switch", [every])
    reader.expect("order_of_interleaved_layers", ["local_attn_first"])
    listed = windows_by_type(reader, num_layers, window)
    return listed or tuple(None if (layer + 1) % every == 0 else window for layer in range(num_layers))


def _check_constants(reader: ConfigReader) -> None:
    """Refuse what the authors' own configs could say, and their published graph does not do."""
    reader.expect("position_embedding_type", ["rope_gptj"])
    reader.expect("rotary_pct", [1.0])
    for key in ("use_embedding_sharing", "use_gated_activation", "use_parallel_block"):
        reader.expect(key, [True])
    reader.expect("use_qk_norm", [False])
    # How the embedding was spread over devices.
    reader.ignore("use_parallel_embedding")


def rename_shared_norm(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors; one norm stands before both halves."""
    inner = {**ATTENTION, **MLP, "input_layernorm": _NORM}
    return rename(weights, OUTER, inner, stack="layers.", prefix="model.")


BRANDS: tuple[Brand, ...] = (
    Brand(
        "Cohere2ForCausalLM",
        ModelKind.DECODER,
        parse,
        Decoder,
        rename_shared_norm,
        ("*.rotary_emb.inv_freq",),
    ),
)
