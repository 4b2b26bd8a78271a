"""Break the later brands in the ways that are their own. Knows nothing of how faults are noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cynosure.attention.masks import And, Chunk, Full, Mask
from cynosure.attention.positions import NoPosition, Rope
from cynosure.models.altup import AltUpSpec
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.indexer import IndexerSpec
from cynosure.models.mla_attention import MlaSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.moe import (
    GroupRouterSpec,
    MoeSpec,
    SigmoidRouterSpec,
    SoftmaxGroupRouterSpec,
    SoftmaxRouterSpec,
)
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.shared_attention import SharedAttentionSpec
from tests.models.decoder_mutants import SpecChange, attention_change, layer_change

Router = SoftmaxRouterSpec | SoftmaxGroupRouterSpec | GroupRouterSpec | SigmoidRouterSpec


def _moe_change(change: Callable[[MoeSpec], MoeSpec]) -> SpecChange:
    def changed(layer: LayerSpec) -> LayerSpec:
        return replace(layer, mlp=change(layer.mlp)) if isinstance(layer.mlp, MoeSpec) else layer

    return layer_change(changed)


def _router_change(change: Callable[[Router], Router]) -> SpecChange:
    def changed(spec: MoeSpec) -> MoeSpec:
        assert isinstance(spec.router, Router)
        return replace(spec, router=change(spec.router))

    return _moe_change(changed)


def _position_everywhere(spec: DecoderSpec) -> DecoderSpec:
    """Rotate in the layers that do not."""
    blocks = [layer.attention for layer in spec.layers]
    ropes = [
        block.attention.position
        for block in blocks
        if isinstance(block, SelfAttentionSpec) and isinstance(block.attention.position, Rope)
    ]

    def changed(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, SelfAttentionSpec)
        attention = layer.attention.attention
        if not isinstance(attention.position, NoPosition):
            return layer
        return replace(
            layer, attention=replace(layer.attention, attention=replace(attention, position=ropes[0]))
        )

    return replace(spec, layers=tuple(map(changed, spec.layers)))


def _unclipped(layer: LayerSpec) -> LayerSpec:
    assert isinstance(layer.attention, SelfAttentionSpec)
    return replace(layer, attention=replace(layer.attention, qkv_clip=None))


def _latent_change(change: Callable[[MlaSpec], MlaSpec]) -> SpecChange:
    def changed(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, MlaSpec)
        return replace(layer, attention=change(layer.attention))

    return layer_change(changed)


def _other_rope(**changes: object) -> SpecChange:
    return _latent_change(lambda spec: replace(spec, position=replace(spec.position, **changes)))


def _other_index(change: Callable[[IndexerSpec], IndexerSpec]) -> SpecChange:
    def changed(spec: MlaSpec) -> MlaSpec:
        assert spec.indexer is not None
        return replace(spec, indexer=change(spec.indexer))

    return _latent_change(changed)


def _longer_chunks(by: int) -> SpecChange:
    def longer(mask: Mask) -> Mask:
        if isinstance(mask, And):
            return And(tuple(map(longer, mask.masks)))
        return Chunk(mask.size + by) if isinstance(mask, Chunk) else mask

    return attention_change(lambda spec: replace(spec, mask=longer(spec.mask)))


def _groups_change(change: Callable[[SoftmaxGroupRouterSpec], SoftmaxGroupRouterSpec]) -> SpecChange:
    def changed(spec: Router) -> Router:
        assert isinstance(spec, SoftmaxGroupRouterSpec)
        return change(spec)

    return _router_change(changed)


def _norms_first(layer: LayerSpec) -> LayerSpec:
    assert isinstance(layer.attention, SelfAttentionSpec)
    return replace(layer, attention=replace(layer.attention, is_qk_norm_last=False))


def _sooner(layer: LayerSpec) -> LayerSpec:
    block = layer.attention
    assert isinstance(block, SelfAttentionSpec)
    if block.query_growth is None:
        return layer
    growth = replace(block.query_growth, shift=block.query_growth.shift + 1)
    return replace(layer, attention=replace(block, query_growth=growth))


def _ungrown(layer: LayerSpec) -> LayerSpec:
    assert isinstance(layer.attention, SelfAttentionSpec)
    return replace(layer, attention=replace(layer.attention, query_growth=None))


def _plain(norm: NormSpec) -> NormSpec:
    return replace(norm, kind=NormKind.LAYER)


def _other_source(layer: LayerSpec) -> LayerSpec:
    """Read the keys and values of the layer of this kind before."""
    block = layer.attention
    if isinstance(block, SelfAttentionSpec):
        return replace(layer, attention=replace(block, is_read_again=True))
    if not isinstance(block, SharedAttentionSpec) or block.source < 2:
        return layer
    return replace(layer, attention=replace(block, source=block.source - 2))


def _plain_values(layer: LayerSpec) -> LayerSpec:
    block = layer.attention
    return (
        replace(layer, attention=replace(block, v_norm=None))
        if isinstance(block, SelfAttentionSpec)
        else layer
    )


def _uncut(layer: LayerSpec) -> LayerSpec:
    assert isinstance(layer.mlp, MlpSpec)
    return replace(layer, mlp=replace(layer.mlp, sparsity=0.0))


def _altup_change(change: Callable[[AltUpSpec], AltUpSpec]) -> SpecChange:
    def changed(layer: LayerSpec) -> LayerSpec:
        assert layer.altup is not None
        return replace(layer, altup=change(layer.altup))

    return layer_change(changed)


SPEC_CHANGES: dict[str, SpecChange] = {
    "latent rope base": _other_rope(theta=490.0),
    "latent rope of neighbours": _other_rope(is_interleaved=True),
    "latent mask dropped": _latent_change(lambda spec: replace(spec, mask=Full())),
    "latent score scale": _latent_change(lambda spec: replace(spec, scale=1.1 * spec.scale)),
    "a token more chosen": _other_index(lambda spec: replace(spec, num_chosen=spec.num_chosen + 1)),
    "a token fewer chosen": _other_index(lambda spec: replace(spec, num_chosen=spec.num_chosen - 1)),
    "all tokens chosen": _other_index(lambda spec: replace(spec, num_chosen=1000)),
    "index of neighbours": _other_index(
        lambda spec: replace(spec, position=replace(spec.position, is_interleaved=True))
    ),
    "chunk + 1": _longer_chunks(1),
    "chunk - 1": _longer_chunks(-1),
    "a group more": _groups_change(lambda spec: replace(spec, num_chosen_groups=spec.num_chosen_groups + 1)),
    "weights unscaled": _groups_change(lambda spec: replace(spec, scale=1.0)),
    "norms before the rotation": layer_change(_norms_first),
    "growth a token sooner": layer_change(_sooner),
    "growth dropped": layer_change(_ungrown),
    "weights on what experts give": _moe_change(lambda spec: replace(spec, weighs_inputs=False)),
    "another source": layer_change(_other_source),
    "values as they are": layer_change(_plain_values),
    "gates uncut": layer_change(_uncut),
    "another vector active": _altup_change(lambda spec: replace(spec, active=(spec.active + 1) % 3)),
    "corrections scaled": _altup_change(lambda spec: replace(spec, is_scaled=not spec.is_scaled)),
    "norm offset dropped": layer_change(lambda layer: replace(layer, norm=_plain(layer.norm))),
    "an expert fewer": _router_change(lambda spec: replace(spec, num_chosen=spec.num_chosen - 1)),
    "shares as they are": _router_change(lambda spec: replace(spec, is_normalised=not spec.is_normalised)),
    "shared gate dropped": _moe_change(lambda spec: replace(spec, is_shared_gated=False)),
    "pre norms dropped": layer_change(lambda layer: replace(layer, has_pre_norms=False)),
    "halves in turn": layer_change(lambda layer: replace(layer, is_parallel=not layer.is_parallel)),
    "residual multiplier dropped": layer_change(lambda layer: replace(layer, residual_multiplier=1.0)),
    "logit multiplier dropped": lambda spec: replace(spec, logit_multiplier=1.0),
    "head bias dropped": lambda spec: replace(spec, has_head_bias=False),
    "position everywhere": _position_everywhere,
    "clip dropped": layer_change(_unclipped),
}

_ALL = ("heads swapped", "mask dropped", "score scale", "halves in turn")
_ROPED = (*_ALL, "rope base", "rope of neighbours", "position dropped")
_WINDOWED = (*_ROPED, "window + 1", "window - 1")
_EXPERTS = ("an expert fewer", "shares as they are")
_LATENT = (
    *("latent heads swapped", "latent mask dropped", "latent score scale"),
    *("latent rope base", "latent rope of neighbours"),
)
_CHOSEN = (
    *("latent heads swapped", "latent mask dropped", "latent score scale", "latent rope base"),
    *("a token more chosen", "a token fewer chosen", "all tokens chosen", "index of neighbours"),
)
_MULTIPLIERS = ("multiplier dropped", "residual multiplier dropped", "logit multiplier dropped")

#: What each case must notice; a second case of a brand tries only what is its own.
FAULTS: dict[str, tuple[str, ...]] = {
    "mixtral": (*_WINDOWED, *_EXPERTS, "pre norms dropped"),
    "qwen2-moe": (*_WINDOWED, *_EXPERTS, "shared gate dropped"),
    "qwen3-moe": (*_ROPED, *_EXPERTS, "q and k norms dropped"),
    "qwen3-moe-window": ("window + 1", "window - 1", "shares as they are"),
    "olmoe": (*_ROPED, *_EXPERTS, "q and k norms dropped"),
    "olmoe-normalised": ("shares as they are",),
    "olmo2": (*_ROPED, "post norms dropped", "q and k norms dropped"),
    "olmo3": (*_WINDOWED, "rope scaling dropped", "post norms dropped", "q and k norms dropped"),
    "smollm3": (*_WINDOWED, "position everywhere"),
    "smollm3-nope": ("position everywhere",),
    "granite": (*_ROPED, "multiplier dropped", "residual multiplier dropped", "logit multiplier dropped"),
    "starcoder2": _WINDOWED,
    "gpt-neox": _ROPED,
    "gpt-neox-in-turn": ("halves in turn",),
    "falcon-7b": _ROPED,
    "falcon-40b": _ROPED,
    "falcon-11b": ("heads swapped", "halves in turn"),
    "falcon-in-turn": ("heads swapped", "halves in turn"),
    "cohere2": (*_WINDOWED, "position everywhere", "logit multiplier dropped"),
    "glm": _ROPED,
    "glm4": (*_ROPED, "post norms dropped"),
    "gpt-bigcode": (*_ALL, "positions + 1"),
    "gpt-bigcode-many": ("heads swapped",),
    "mpt": (*_ALL, "position dropped"),
    "mpt-clipped": ("clip dropped", "score scale"),
    "exaone4": (*_WINDOWED, "position everywhere", "post norms dropped", "q and k norms dropped"),
    "exaone4-no-windows": _ROPED,
    "ernie": _ROPED,
    "ernie-biases": ("rope of neighbours",),
    "helium": _ROPED,
    "helium-biases": ("rope of neighbours",),
    "seed-oss": _ROPED,
    "seed-oss-biases": ("rope of neighbours",),
    "stablelm": _ROPED,
    "stablelm-parallel": ("halves in turn", "rope base"),
    "gptj": (*_ROPED, "head bias dropped"),
    "opt": (*_ALL, "positions + 1"),
    "opt-no-biases": ("heads swapped", "positions + 1"),
    "phi": (*_ROPED, "head bias dropped"),
    "llama4": (
        *(
            *_ROPED,
            "chunk + 1",
            "chunk - 1",
            "q and k norms dropped",
            "growth dropped",
            "position everywhere",
        ),
        *("an expert fewer", "weights on what experts give"),
    ),
    "llama4-no-norms": ("chunk + 1", "chunk - 1", "position everywhere"),
    "minicpm3": (*_LATENT, *_MULTIPLIERS, "pre norms dropped"),
    "minicpm3-dense-queries": _LATENT,
    "deepseek-v32": (*_CHOSEN, *_EXPERTS),
    "deepseek-v32-yarn": (*_CHOSEN, *_EXPERTS),
    "deepseek-v2": (*_LATENT[:-1], "an expert fewer", "a group more", "weights unscaled"),
    "deepseek-v2-lite": (*_LATENT[:-1], "an expert fewer"),
    "gemma": (*_ROPED, "multiplier dropped"),
    "olmo": _ROPED,
    "olmo-clipped": ("clip dropped", "score scale"),
    "hunyuan": (*_ROPED, "norms before the rotation", "q and k norms dropped"),
    "hunyuan-biases": ("norms before the rotation", "rope base"),
    "llama4-dense": ("chunk + 1", "chunk - 1", "q and k norms dropped"),
    "ministral": _WINDOWED,
    "ministral3": (*_ROPED, "rope scaling dropped", "growth dropped", "growth a token sooner"),
    "ministral3-window": ("window + 1", "window - 1", "growth dropped"),
    "diffllama": (*_ROPED, "coefficients changed"),
    "diffllama-biases": (*_ROPED, "coefficients changed"),
    "gemma3n": (
        *("heads swapped", "mask dropped", "score scale", "rope base", "rope of neighbours"),
        *("position dropped", "window + 1", "window - 1", "rope scaling dropped"),
        *("multiplier dropped", "logit softcap dropped"),
        *("another source", "values as they are", "gates uncut", "another vector active"),
        *("corrections scaled", "layer embeddings forgotten", "laurel forgotten"),
    ),
    "gemma3n-second-active": ("another vector active", "corrections scaled"),
    "arcee": _ROPED,
    "nemotron": (*_ROPED, "norm offset dropped"),
    "nemotron-biases": ("norm offset dropped",),
    "cohere": (*_ROPED, "logit multiplier dropped"),
    "glm4-moe": (*_ROPED, *_EXPERTS, "q and k norms dropped"),
    "glm4-moe-air": _EXPERTS,
    "granite-moe": (*_ROPED, *_EXPERTS, *_MULTIPLIERS),
}
