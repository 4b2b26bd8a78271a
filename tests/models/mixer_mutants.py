"""Break decoders with states in one way at a time. Knows nothing of how faults are noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from cynosure.attention import AttentionSpec
from cynosure.attention.masks import And, Mask, Window
from cynosure.attention.positions import Rope
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.moe import MoeSpec
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.state_space import GatedGroupNorm, StateSpaceSpec

Fault = Callable[[Decoder], Decoder]


def _rebuilt(graph: Decoder, spec: DecoderSpec) -> Decoder:
    assert spec != graph.spec, "the fault changes nothing here"
    changed = Decoder(spec)
    missing, _ = changed.load_state_dict(graph.state_dict(), strict=False)
    assert not missing
    return changed


def _attention(change: Callable[[AttentionSpec], AttentionSpec]) -> Fault:
    def broken(graph: Decoder) -> Decoder:
        layers = [
            replace(layer, attention=replace(layer.attention, attention=change(layer.attention.attention)))
            if isinstance(layer.attention, SelfAttentionSpec)
            else layer
            for layer in graph.spec.layers
        ]
        return _rebuilt(graph, replace(graph.spec, layers=tuple(layers)))

    return broken


def _rope_base(spec: AttentionSpec) -> AttentionSpec:
    assert isinstance(spec.position, Rope)
    return replace(spec, position=replace(spec.position, theta=2 * spec.position.theta))


def _wider(mask: Mask) -> Mask:
    if isinstance(mask, And):
        return And(tuple(map(_wider, mask.masks)))
    return Window(mask.size + 1) if isinstance(mask, Window) else mask


def _scaled(part: str, factor: float) -> Fault:
    """Multiply every parameter whose name ends so."""

    def broken(graph: Decoder) -> Decoder:
        changed = copy.deepcopy(graph)
        found = [parameter for name, parameter in changed.named_parameters() if name.endswith(part)]
        assert found, f"no parameter ends in {part}"
        for parameter in found:
            parameter.mul_(factor)
        return changed

    return broken


def _no_past(graph: Decoder) -> Decoder:
    """Have convolutions see the present token alone."""
    changed = copy.deepcopy(graph)
    for name, parameter in changed.named_parameters():
        if name.endswith("conv.weight"):
            parameter[..., :-1] = 0
    return changed


def _one_norm_group(graph: Decoder) -> Decoder:
    changed = copy.deepcopy(graph)
    for module in changed.modules():
        if isinstance(module, GatedGroupNorm):
            module.num_groups = 1
    return changed


def _no_limits(graph: Decoder) -> Decoder:
    layers = [
        replace(layer, attention=replace(layer.attention, min_step=0.0, max_step=float("inf")))
        for layer in graph.spec.layers
        if isinstance(layer.attention, StateSpaceSpec)
    ]
    return _rebuilt(graph, replace(graph.spec, layers=tuple(layers)))


def _no_shared_gate(graph: Decoder) -> Decoder:
    layers = [
        replace(layer, mlp=replace(layer.mlp, is_shared_gated=False))
        if isinstance(layer.mlp, MoeSpec)
        else layer
        for layer in graph.spec.layers
    ]
    return _rebuilt(graph, replace(graph.spec, layers=tuple(layers)))


def _heads_swapped(graph: Decoder) -> Decoder:
    """Exchange what the first two heads decay by."""
    changed = copy.deepcopy(graph)
    for name, parameter in changed.named_parameters():
        if name.endswith(("log_rate", "attention.decay")):
            parameter[:2] = parameter[:2].flip(0).clone()
    return changed


FAULTS: dict[str, Fault] = {
    "rope base": _attention(_rope_base),
    "window + 1": _attention(lambda spec: replace(spec, mask=_wider(spec.mask))),
    "attention ungated": _attention(lambda spec: replace(spec, combination=None)),
    "shared gate dropped": _no_shared_gate,
    "skip dropped": _scaled(".skip", 0.0),
    "rate": _scaled(".log_rate", 0.5),
    "decay": _scaled("attention.decay", 0.9),
    "steps": _scaled(".step_offset", 0.5),
    "decay offset": _scaled(".decay_offset", 0.5),
    "gate on what is read": _scaled("attention.gate.weight", 0.9),
    "what writes": _scaled("attention.gates.weight", 0.9),
    "norm": _scaled("attention.norm.weight", 1.1),
    "groups of the norm": _one_norm_group,
    "limits dropped": _no_limits,
    "convolution": _no_past,
    "rates swapped": _heads_swapped,
    "softcap dropped": lambda graph: _rebuilt(graph, replace(graph.spec, logit_softcap=None)),
    "multiplier dropped": lambda graph: _rebuilt(graph, replace(graph.spec, embedding_multiplier=1.0)),
}

_STATE_SPACE = ("skip dropped", "rate", "rates swapped", "steps", "norm", "groups of the norm", "convolution")

#: What each case must notice; a second case of a brand tries only what is its own.
FAULTS_OF: dict[str, tuple[str, ...]] = {
    "mamba2": _STATE_SPACE,
    "mamba2-one-group": ("convolution", "rates swapped"),
    "mamba2-biases": ("convolution", "skip dropped"),
    "mamba2-limits": ("limits dropped",),
    "bamba": (*_STATE_SPACE, "rope base"),
    "bamba-biases": ("rope base", "convolution"),
    "qwen3-next": (
        *("rope base", "attention ungated", "shared gate dropped", "rate", "rates swapped", "decay offset"),
        *("gate on what is read", "what writes", "norm", "convolution"),
    ),
    "qwen3-next-dense": ("attention ungated", "rates swapped"),
    "recurrent-gemma": (
        *("rope base", "window + 1", "decay", "rates swapped", "gate on what is read", "convolution"),
        "multiplier dropped",
    ),
    "recurrent-gemma-biases": ("softcap dropped", "window + 1"),
}
assert set().union(*FAULTS_OF.values()) == FAULTS.keys()
