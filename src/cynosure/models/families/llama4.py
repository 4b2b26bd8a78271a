"""Read Llama 4 checkpoints for texts (model card, Meta 2025). Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Causal, Chunk, Mask
from cynosure.attention.positions import NoPosition, Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families.expert_stacks import stacked
from cynosure.models.families.llama import ATTENTION, NORMS, OUTER, read_heads
from cynosure.models.families.naming import Target, rename
from cynosure.models.families.smollm3 import roped_layers
from cynosure.models.families.text_half import texts_alone
from cynosure.models.mlp import ACTIVATIONS, MlpSpec
from cynosure.models.moe import MoeSpec, SigmoidRouterSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import read_rope
from cynosure.models.self_attention import QueryGrowth, SelfAttentionSpec

_PARTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
_OF_IMAGES = ("vision_config", "boi_token_index", "eoi_token_index", "image_token_index")
_CHUNKED, _FULL = "chunked_attention", "full_attention"


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `Llama4ForCausalLM`."""
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    heads = _heads(reader, hidden_size)
    rope = read_rope(reader, heads.head_dim, theta=500_000.0, share=None, is_interleaved=True)
    norm = NormSpec(NormKind.RMS, reader.take("rms_norm_eps", float, 1e-5, positive=True))
    qk_norm = _qk_norm(reader, rope, norm)
    growth = _growth(reader)
    has_bias = reader.take("attention_bias", bool, False)
    are_roped = roped_layers(reader, num_layers)
    masks = _masks(reader, are_roped)

    def attention(is_roped: bool, mask: Mask) -> SelfAttentionSpec:
        return SelfAttentionSpec(
            AttentionSpec(heads, mask, rope if is_roped else NoPosition()),
            has_bias,
            has_bias,
            qk_norm if is_roped else None,
            query_growth=None if is_roped else growth,
        )

    halves = _halves(reader, num_layers)
    reader.expect("for_llm_compressor", [False])
    spec = DecoderSpec(
        vocab_size=reader.take("vocab_size", int, positive=True),
        hidden_size=hidden_size,
        layers=tuple(
            LayerSpec(attention(is_roped, mask), half, norm)
            for is_roped, mask, half in zip(are_roped, masks, halves, strict=True)
        ),
        final_norm=norm,
        max_model_len=rope.max_model_len,
        is_head_tied=reader.take("tie_word_embeddings", bool, False),
    )
    reader.finish()
    return spec


def _heads(reader: ConfigReader, hidden_size: int) -> Heads:
    """Return the heads; the published defaults do not follow from the other numbers, so all are required."""
    reader.take("head_dim", int, positive=True)
    reader.take("num_key_value_heads", int, positive=True)
    return read_heads(reader, hidden_size)


def _qk_norm(reader: ConfigReader, rope: Rope, norm: NormSpec) -> NormSpec | None:
    """Return the norm of rotated queries and keys.

    It has no weights, and a rotation keeps lengths: normalised before it, they come out the same.
    """
    if not reader.take("use_qk_norm", bool, True):
        return None
    if rope.scaling.attention_scaling != 1.0:
        raise UnsupportedConfig(
            f"{reader.where} has use_qk_norm = True beside rotary positions that change lengths "
            f"({type(rope.scaling).__name__}), which is not served here. Report the checkpoint."
        )
    return NormSpec(NormKind.RMS, norm.eps, has_weight=False)


def _growth(reader: ConfigReader) -> QueryGrowth | None:
    every = reader.take("floor_scale", int, 8192, positive=True)
    strength = reader.take("attn_scale", float, 0.1)
    # Files of the first days write a number, which the graph of those days takes for yes.
    key = "attn_temperature_tuning"
    is_number = reader.holds(key, int) and not reader.holds(key, bool)
    is_on = bool(reader.take(key, int)) if is_number else reader.take(key, bool, True)
    return QueryGrowth(every, strength) if is_on else None


def _masks(reader: ConfigReader, are_roped: tuple[bool, ...]) -> tuple[Mask, ...]:
    """Return chunks for the layers that rotate, unless the layers' kinds are listed."""
    kinds = reader.take_list("layer_types", str)
    kinds = kinds or tuple(_CHUNKED if is_roped else _FULL for is_roped in are_roped)
    size = reader.take("attention_chunk_size", int, None, positive=True)
    unknown = set(kinds) - {_CHUNKED, _FULL}
    if len(kinds) != len(are_roped) or unknown or (_CHUNKED in kinds and size is None):
        raise UnsupportedConfig(
            f"{reader.where} lists {len(kinds)} layer_types ({', '.join(sorted(set(kinds)))}) for "
            f"{len(are_roped)} layers, with attention_chunk_size = {size}; {_CHUNKED} or {_FULL} a layer "
            "is supported, and chunks need a size. Correct the file."
        )
    if size is None:
        return (Causal(),) * len(kinds)
    return tuple(Causal() & Chunk(size) if kind == _CHUNKED else Causal() for kind in kinds)


def _halves(reader: ConfigReader, num_layers: int) -> tuple[MlpSpec | MoeSpec, ...]:
    activation = reader.expect("hidden_act", ACTIVATIONS.keys(), "silu")
    expert = MlpSpec(reader.take("intermediate_size", int, positive=True), activation)
    dense = MlpSpec(reader.take("intermediate_size_mlp", int, 16_384, positive=True), activation)
    num_experts = reader.take("num_local_experts", int, 16, positive=True)
    num_chosen = reader.take("num_experts_per_tok", int, 1, positive=True)
    if num_chosen > num_experts:
        raise UnsupportedConfig(
            f"{reader.where} chooses {num_chosen} of {num_experts} experts. Correct num_experts_per_tok."
        )
    moe = MoeSpec(num_experts, SigmoidRouterSpec(num_chosen), expert, expert, weighs_inputs=True)
    every = reader.take("interleave_moe_layer_step", int, 1, positive=True)
    listed = reader.take_list("moe_layers", int, tuple(range(every - 1, num_layers, every))) or ()
    return tuple(moe if layer in listed else dense for layer in range(num_layers))


def _parse_texts(reader: ConfigReader) -> DecoderSpec:
    return texts_alone(reader, parse, _OF_IMAGES)


def _rename(spec: DecoderSpec, weights: Weights, *, prefix: str = "model.") -> Mapping[str, TensorSource]:
    inner: dict[str, Target] = {
        **ATTENTION,
        **NORMS,
        "feed_forward.router": "mlp.router",
        **{f"feed_forward.{theirs}": f"mlp.{ours}" for theirs, ours in _PARTS.items()},
        **{f"feed_forward.shared_expert.{theirs}": f"mlp.shared.{ours}" for theirs, ours in _PARTS.items()},
    }
    mixtures = [layer.mlp for layer in spec.layers if isinstance(layer.mlp, MoeSpec)]
    if mixtures:
        stacks = ("feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj")
        inner |= stacked(mixtures[0], *stacks, is_input_first=True, leaf=".weight")
    return rename(weights, {**OUTER, "language_model.lm_head": "head"}, inner, stack="layers.", prefix=prefix)


BRANDS: tuple[Brand, ...] = (
    Brand("Llama4ForCausalLM", ModelKind.DECODER, parse, Decoder, _rename),
    # As Scout and Maverick are published; images are not read.
    Brand(
        "Llama4ForConditionalGeneration",
        ModelKind.DECODER,
        _parse_texts,
        Decoder,
        partial(_rename, prefix="language_model.model."),
        ("vision_model.*", "multi_modal_projector.*"),
    ),
)
