"""Break the later brands in the ways that are their own. Knows nothing of how faults are noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from cynosure.attention.positions import NoPosition, Rope
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.moe import MoeSpec, SoftmaxRouterSpec
from cynosure.models.self_attention import SelfAttentionSpec
from tests.models.decoder_mutants import SpecChange, layer_change


def _moe_change(change: Callable[[MoeSpec], MoeSpec]) -> SpecChange:
    def changed(layer: LayerSpec) -> LayerSpec:
        return replace(layer, mlp=change(layer.mlp)) if isinstance(layer.mlp, MoeSpec) else layer

    return layer_change(changed)


def _router_change(change: Callable[[SoftmaxRouterSpec], SoftmaxRouterSpec]) -> SpecChange:
    def changed(spec: MoeSpec) -> MoeSpec:
        assert isinstance(spec.router, SoftmaxRouterSpec)
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


SPEC_CHANGES: dict[str, SpecChange] = {
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
}
