"""Read Llama and those that differ from it by a switch: Mistral, Qwen2, Qwen3, Phi-3 and more. Runs nothing.

Llama 2 (arXiv 2307.09288), Mistral (2310.06825), Qwen2 (2407.10671), Qwen3 (2505.09388), Phi-3 (2404.14219);
ERNIE 4.5 and Helium rotate neighbouring channels, and Seed-OSS says of each projection whether it has a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Causal, Mask, Window
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.naming import Target, rename, rows
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import LAYER_TYPES, read_rope
from cynosure.models.self_attention import SelfAttentionSpec

#: The window of each layer, `None` where it sees all.
Windows = tuple[int | None, ...]

OUTER: Mapping[str, Target] = {"embed_tokens": "embed", "norm": "norm", "lm_head": "head"}
ATTENTION: Mapping[str, Target] = {
    "self_attn.q_proj": "attention.q",
    "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v",
    "self_attn.o_proj": "attention.o",
    "self_attn.q_norm": "attention.q_norm",
    "self_attn.k_norm": "attention.k_norm",
}
MLP: Mapping[str, Target] = {
    "mlp.gate_proj": "mlp.gate",
    "mlp.up_proj": "mlp.up",
    "mlp.down_proj": "mlp.down",
}
NORMS: Mapping[str, Target] = {
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
}


@dataclass(frozen=True)
class _Biases:
    """Which projections add a bias."""

    qkv: bool
    out: bool
    mlp: bool = False


@dataclass(frozen=True)
class _Switches:
    """Where one brand differs from Llama; all from `theta` on but `is_gated` are what absent keys mean."""

    biases: Callable[[ConfigReader], _Biases]
    windows: Callable[[ConfigReader, int], Windows]
    has_qk_norm: bool = False
    is_interleaved: bool = False
    rotary_share: float | None = 1.0
    theta: float = 10_000.0
    eps: float = 1e-6
    is_head_tied: bool = False
    activation: str = "silu"
    is_gated: bool = True


def mask_of(window: int | None) -> Mask:
    """Return the causal mask, within `window` tokens where there is one."""
    return Causal() if window is None else Causal() & Window(window)


def read_heads(reader: ConfigReader, hidden_size: int) -> Heads:
    """Return the heads; `head_dim` and the number of K/V heads may be left to follow from the others."""
    num_heads = reader.take("num_attention_heads", int, positive=True)
    num_kv_heads = reader.take("num_key_value_heads", int, num_heads, positive=True)
    head_dim = reader.take("head_dim", int, None, positive=True)
    if head_dim is None and hidden_size % num_heads:
        raise UnsupportedConfig(
            f"{reader.where} has hidden_size = {hidden_size}, no multiple of num_attention_heads = "
            f"{num_heads}; head_dim can't be derived. Add it."
        )
    return Heads.of(num_heads, head_dim or hidden_size // num_heads, num_kv_heads)


def windows_by_type(reader: ConfigReader, num_layers: int, window: int | None) -> Windows | None:
    """Return each layer's window by `layer_types`, or `None` where the config does not list them."""
    kinds = reader.take_list("layer_types", str)
    if kinds is None:
        return None
    unknown = set(kinds) - set(LAYER_TYPES)
    if len(kinds) != num_layers or unknown or ("sliding_attention" in kinds and window is None):
        raise UnsupportedConfig(
            f"{reader.where} lists {len(kinds)} layer_types ({', '.join(sorted(set(kinds)))}) for "
            f"{num_layers} layers, with sliding_window = {window}; one of {', '.join(LAYER_TYPES)} a layer "
            "is supported. Correct the file."
        )
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _no_windows(reader: ConfigReader, num_layers: int) -> Windows:
    return (None,) * num_layers


def _same_window(reader: ConfigReader, num_layers: int) -> Windows:
    return (reader.take("sliding_window", int, None, positive=True),) * num_layers


def _listed_windows(reader: ConfigReader, num_layers: int) -> Windows:
    window = reader.take("sliding_window", int, None, positive=True)
    return windows_by_type(reader, num_layers, window) or (window,) * num_layers


def _upper_windows(reader: ConfigReader, num_layers: int) -> Windows:
    """Return windows from layer `max_window_layers` on, unless the layers' kinds are listed."""
    window = reader.take("sliding_window", int, None, positive=True)
    first = reader.take("max_window_layers", int, 28)
    if not reader.take("use_sliding_window", bool, False):
        window = None
    listed = windows_by_type(reader, num_layers, window)
    return listed or tuple(window if layer >= first else None for layer in range(num_layers))


def _no_biases(reader: ConfigReader) -> _Biases:
    return _Biases(qkv=False, out=False)


def _qkv_biases(reader: ConfigReader) -> _Biases:
    return _Biases(qkv=True, out=False)


def _stated_biases(reader: ConfigReader) -> _Biases:
    attention = reader.take("attention_bias", bool, False)
    return _Biases(attention, attention, reader.take("mlp_bias", bool, False))


def _attention_biases(reader: ConfigReader) -> _Biases:
    attention = reader.take("attention_bias", bool, False)
    return _Biases(attention, attention)


def _ernie_biases(reader: ConfigReader) -> _Biases:
    has_bias = reader.take("use_bias", bool, False)
    return _Biases(has_bias, has_bias, has_bias)


def _helium_biases(reader: ConfigReader) -> _Biases:
    has_mlp_bias = reader.take("mlp_bias", bool, False)
    return _Biases(reader.take("attention_bias", bool, False), out=False, mlp=has_mlp_bias)


def _seed_biases(reader: ConfigReader) -> _Biases:
    reader.ignore("residual_dropout")  # of training alone
    return _Biases(
        reader.take("attention_bias", bool, True),
        reader.take("attention_out_bias", bool, False),
        reader.take("mlp_bias", bool, False),
    )


def _parser(switches: _Switches) -> Callable[[ConfigReader], DecoderSpec]:
    def parse(reader: ConfigReader) -> DecoderSpec:
        hidden_size = reader.take("hidden_size", int, positive=True)
        num_layers = reader.take("num_hidden_layers", int, positive=True)
        heads = read_heads(reader, hidden_size)
        rope = read_rope(
            reader,
            heads.head_dim,
            theta=switches.theta,
            share=switches.rotary_share,
            is_interleaved=switches.is_interleaved,
        )
        norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, switches.eps, positive=True))
        biases = switches.biases(reader)
        mlp = MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            reader.expect("hidden_act", ACTIVATIONS.keys(), switches.activation),
            switches.is_gated,
            biases.mlp,
        )
        windows = switches.windows(reader, num_layers)
        layers = {
            window: LayerSpec(
                SelfAttentionSpec(
                    AttentionSpec(heads, mask_of(window), rope),
                    biases.qkv,
                    biases.out,
                    norm if switches.has_qk_norm else None,
                ),
                mlp,
                norm,
            )
            for window in windows
        }
        spec = DecoderSpec(
            vocab_size=reader.take("vocab_size", int, positive=True),
            hidden_size=hidden_size,
            layers=tuple(layers[window] for window in windows),
            final_norm=norm,
            max_model_len=rope.max_model_len,
            is_head_tied=reader.take("tie_word_embeddings", bool, switches.is_head_tied),
        )
        reader.finish()
        return spec

    return parse


def rename_llama(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors of a checkpoint with separate projections."""
    return rename(weights, OUTER, {**ATTENTION, **MLP, **NORMS}, stack="layers.", prefix="model.")


def _rename_phi3(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Split Phi-3's fused projections: q, k and v are stacked, then gate and up."""
    layer = spec.layers[0]
    assert isinstance(layer.attention, SelfAttentionSpec)
    assert isinstance(layer.mlp, MlpSpec)
    heads = layer.attention.attention.heads
    q = heads.num_heads * heads.head_dim
    kv = heads.num_kv_heads * heads.head_dim
    inter = layer.mlp.intermediate_size
    fused: dict[str, Target] = {
        "self_attn.qkv_proj": {
            "attention.q": rows(0, q),
            "attention.k": rows(q, q + kv),
            "attention.v": rows(q + kv, q + 2 * kv),
        },
        "self_attn.o_proj": "attention.o",
        "mlp.gate_up_proj": {"mlp.gate": rows(0, inter), "mlp.up": rows(inter, 2 * inter)},
        "mlp.down_proj": "mlp.down",
    }
    return rename(weights, OUTER, {**fused, **NORMS}, stack="layers.", prefix="model.")


def _brand(
    architecture: str,
    switches: _Switches,
    names: Callable[[DecoderSpec, Weights], Mapping[str, TensorSource]] = rename_llama,
) -> Brand:
    ignored = ("*.rotary_emb.inv_freq",)
    return Brand(architecture, ModelKind.DECODER, _parser(switches), Decoder, names, ignored)


BRANDS: tuple[Brand, ...] = (
    _brand("LlamaForCausalLM", _Switches(_stated_biases, _no_windows)),
    _brand(
        "ArceeForCausalLM",
        _Switches(_stated_biases, _no_windows, eps=1e-5, activation="relu2", is_gated=False),
    ),
    _brand("MistralForCausalLM", _Switches(_no_biases, _same_window)),
    _brand("MinistralForCausalLM", _Switches(_no_biases, _listed_windows)),
    _brand("Qwen2ForCausalLM", _Switches(_qkv_biases, _upper_windows)),
    _brand("Qwen3ForCausalLM", _Switches(_attention_biases, _upper_windows, has_qk_norm=True)),
    _brand("Phi3ForCausalLM", _Switches(_no_biases, _same_window, eps=1e-5), _rename_phi3),
    _brand(
        "Ernie4_5ForCausalLM",
        _Switches(
            _ernie_biases,
            _no_windows,
            is_interleaved=True,
            rotary_share=None,
            theta=500_000.0,
            eps=1e-5,
            is_head_tied=True,
        ),
    ),
    _brand(
        "HeliumForCausalLM",
        _Switches(
            _helium_biases, _no_windows, is_interleaved=True, rotary_share=None, theta=100_000.0, eps=1e-8
        ),
    ),
    _brand("SeedOssForCausalLM", _Switches(_seed_biases, _no_windows, rotary_share=None)),
)
