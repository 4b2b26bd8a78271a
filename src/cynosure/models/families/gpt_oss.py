"""Read GPT-OSS checkpoints (model card, arXiv 2508.10925), MXFP4 codes included. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cynosure.attention import AttentionSpec, Sink
from cynosure.attention.positions import Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.llama import ATTENTION, NORMS, OUTER, mask_of, read_heads, windows_by_type
from cynosure.models.families.naming import Target, rename
from cynosure.models.moe import ClampedMlpSpec, MoeSpec, TopRouterSpec
from cynosure.models.mxfp4 import dequantise
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import SelfAttentionSpec

_INNER: Mapping[str, Target] = {
    **ATTENTION,
    **NORMS,
    "self_attn.sinks": "attention.sinks",
    "mlp.router": "mlp.router",
    "mlp.experts.gate_up_proj": "mlp.experts.gate_up",
    "mlp.experts.gate_up_proj_bias": "mlp.experts.gate_up_bias",
    "mlp.experts.down_proj": "mlp.experts.down",
    "mlp.experts.down_proj_bias": "mlp.experts.down_bias",
}
_CODES, _SCALES = "_blocks", "_scales"


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `GptOssForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    heads = read_heads(reader, hidden_size)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    has_bias = reader.take("attention_bias", bool, True)
    position = _position(reader, heads.head_dim)
    window = reader.take("sliding_window", int, 128, positive=True)
    alternating = tuple(None if layer % 2 else window for layer in range(num_layers))
    windows = windows_by_type(reader, num_layers, window) or alternating
    reader.expect("hidden_act", ["silu"])
    _check_quantisation(reader)
    moe = _moe(reader)
    layers = {
        window: LayerSpec(
            SelfAttentionSpec(
                AttentionSpec(heads, mask_of(window), position, sink=Sink.LEARNED), has_bias, has_bias
            ),
            moe,
            norm,
        )
        for window in windows
    }
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(layers[window] for window in windows),
        final_norm=norm,
        max_model_len=position.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def names(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors; the codes of an MXFP4 checkpoint become numbers when they are asked for."""
    tensors = rename(weights, OUTER, _INNER, stack="layers.", prefix="model.")
    for name in weights.names():
        if not name.endswith(_CODES):
            continue
        owner = name.removesuffix(_CODES)
        layer, _, part = owner.removeprefix("model.").partition(".mlp.experts.")
        target = _INNER.get(f"mlp.experts.{part}")
        if isinstance(target, str) and owner + _SCALES in weights:
            tensors.pop(name)
            tensors.pop(owner + _SCALES)
            tensors[f"{layer}.{target}"] = _dequantised(weights, owner)
    return tensors


def _position(reader: ConfigReader, head_dim: int) -> Rope:
    """Read the rotary position, which must be stated: the authors' own default is a scaling."""
    # What the authors' own code calls the length of rope_scaling's original_max_position_embeddings.
    reader.ignore("initial_context_length")
    if not ("rope_parameters" in reader or "rope_scaling" in reader):
        raise UnsupportedConfig(
            f"{reader.where} has neither rope_parameters nor rope_scaling, which have no default here. Add "
            "the checkpoint's."
        )
    return read_rope(reader, head_dim, theta=150_000.0)


def _moe(reader: ConfigReader) -> MoeSpec:
    num_chosen = reader.take("num_experts_per_tok", int, 4, positive=True)
    reader.expect("experts_per_token", [num_chosen])
    num_experts = reader.take("num_local_experts", int, positive=True)
    if num_chosen > num_experts:
        raise UnsupportedConfig(
            f"{reader.where} chooses {num_chosen} of {num_experts} experts. Correct num_experts_per_tok."
        )
    expert = ClampedMlpSpec(
        reader.take("intermediate_size", int, positive=True),
        alpha=reader.take("swiglu_alpha", float, 1.702, positive=True),
        limit=reader.take("swiglu_limit", float, 7.0, positive=True),
    )
    return MoeSpec(num_experts, TopRouterSpec(num_chosen), expert)


def _check_quantisation(reader: ConfigReader) -> None:
    """Let MXFP4 pass, the code that these checkpoints come in; any other would be read wrongly."""
    quantisation = reader.sub("quantization_config")
    if quantisation is not None:
        quantisation.expect("quant_method", ["mxfp4"])
        quantisation.ignore("modules_to_not_convert", "dequantize")


def _dequantised(weights: Weights, owner: str) -> TensorSource:
    """Codes are stored output first, and a graph's stacks input first."""

    def make() -> torch.Tensor:
        codes, scales = weights.tensor(owner + _CODES), weights.tensor(owner + _SCALES)
        return dequantise(codes, scales, torch.bfloat16).transpose(1, 2)

    return make


BRANDS: tuple[Brand, ...] = (Brand("GptOssForCausalLM", ModelKind.DECODER, parse, Decoder, names),)
