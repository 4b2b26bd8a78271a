"""Break a decoder in one way at a time, so that a comparison can show that it would notice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import torch

from cynosure.attention import AttentionSpec
from cynosure.attention.masks import And, Full, Mask, Window
from cynosure.attention.positions import NoPosition, NoScaling, Rope
from cynosure.models.altup import Laurel
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.differential_attention import DifferentialAttention, DifferentialSpec
from cynosure.models.mla_attention import MlaAttention
from cynosure.models.self_attention import SelfAttention, SelfAttentionSpec
from cynosure.models.shared_attention import SharedAttention, SharedAttentionSpec

SpecChange = Callable[[DecoderSpec], DecoderSpec]
WeightChange = Callable[[Decoder], None]


def attention_change(change: Callable[[AttentionSpec], AttentionSpec]) -> SpecChange:
    def changed(layer: LayerSpec) -> LayerSpec:
        assert isinstance(layer.attention, SelfAttentionSpec | SharedAttentionSpec | DifferentialSpec)
        return replace(layer, attention=replace(layer.attention, attention=change(layer.attention.attention)))

    return lambda spec: replace(spec, layers=tuple(map(changed, spec.layers)))


def layer_change(change: Callable[[LayerSpec], LayerSpec]) -> SpecChange:
    return lambda spec: replace(spec, layers=tuple(map(change, spec.layers)))


def rope_change(change: Callable[[Rope], Rope]) -> SpecChange:
    def changed(spec: AttentionSpec) -> AttentionSpec:
        # Some layers of a model may have no position.
        return replace(spec, position=change(spec.position)) if isinstance(spec.position, Rope) else spec

    return attention_change(changed)


def _wider(mask: Mask, by: int) -> Mask:
    if isinstance(mask, And):
        return And(tuple(_wider(part, by) for part in mask.masks))
    return Window(mask.size + by) if isinstance(mask, Window) else mask


def _without_qk_norm(layer: LayerSpec) -> LayerSpec:
    assert isinstance(layer.attention, SelfAttentionSpec)
    return replace(layer, attention=replace(layer.attention, qk_norm=None))


SPEC_CHANGES: dict[str, SpecChange] = {
    "rope base": rope_change(lambda rope: replace(rope, theta=rope.theta * 1.5)),
    "rope scaling dropped": rope_change(lambda rope: replace(rope, scaling=NoScaling())),
    "rope of neighbours": rope_change(lambda rope: replace(rope, is_interleaved=not rope.is_interleaved)),
    "position dropped": attention_change(lambda spec: replace(spec, position=NoPosition())),
    "window + 1": attention_change(lambda spec: replace(spec, mask=_wider(spec.mask, 1))),
    "window - 1": attention_change(lambda spec: replace(spec, mask=_wider(spec.mask, -1))),
    "mask dropped": attention_change(lambda spec: replace(spec, mask=Full())),
    "score scale": attention_change(
        lambda spec: replace(
            spec, score=replace(spec.score, scale=1.1 * spec.score.scale_for(spec.heads.head_dim))
        )
    ),
    "softcap dropped": attention_change(lambda spec: replace(spec, score=replace(spec.score, softcap=None))),
    "q and k norms dropped": layer_change(_without_qk_norm),
    "post norms dropped": layer_change(lambda layer: replace(layer, has_post_norms=False)),
    "logit softcap dropped": lambda spec: replace(spec, logit_softcap=None),
    "multiplier dropped": lambda spec: replace(spec, embedding_multiplier=1.0),
    "embedding norm dropped": lambda spec: replace(spec, embedding_norm=None),
}


def _swap_heads(graph: Decoder) -> None:
    """Exchange the queries of the first and the last head, which belong to different groups."""
    for block in graph.modules():
        if isinstance(block, SelfAttention | SharedAttention | DifferentialAttention):
            heads = block.spec.attention.heads
            rows = torch.arange(heads.num_heads * heads.head_dim).unflatten(0, (heads.num_heads, -1))
            rows = rows[[heads.num_heads - 1, *range(1, heads.num_heads - 1), 0]].flatten()
            block.q.weight = torch.nn.Parameter(block.q.weight[rows], requires_grad=False)


def _shift_positions(graph: Decoder) -> None:
    assert graph.positions is not None
    graph.positions.weight = torch.nn.Parameter(graph.positions.weight.roll(1, 0), requires_grad=False)


def _change_coefficients(graph: Decoder) -> None:
    for block in graph.modules():
        if isinstance(block, DifferentialAttention):
            block.first_q = torch.nn.Parameter(torch.zeros_like(block.first_q), requires_grad=False)


def _swap_latent_heads(graph: Decoder) -> None:
    """Exchange the keys of two heads."""
    for block in graph.modules():
        if isinstance(block, MlaAttention):
            order = [1, 0, *range(2, block.w_k.shape[0])]
            block.w_k = torch.nn.Parameter(block.w_k[order], requires_grad=False)


def _forget_layer_embeddings(graph: Decoder) -> None:
    assert graph.altup is not None
    table = graph.altup.embed
    table.weight = torch.nn.Parameter(torch.zeros_like(table.weight), requires_grad=False)


def _forget_laurel(graph: Decoder) -> None:
    for block in graph.modules():
        if isinstance(block, Laurel):
            block.norm.weight = torch.nn.Parameter(torch.zeros_like(block.norm.weight), requires_grad=False)


WEIGHT_CHANGES: dict[str, WeightChange] = {
    "heads swapped": _swap_heads,
    "positions + 1": _shift_positions,
}
#: Of the later brands alone.
LATER_WEIGHT_CHANGES: dict[str, WeightChange] = {
    "latent heads swapped": _swap_latent_heads,
    "coefficients changed": _change_coefficients,
    "layer embeddings forgotten": _forget_layer_embeddings,
    "laurel forgotten": _forget_laurel,
}


def mutant(graph: Decoder, name: str, more: Mapping[str, SpecChange] = MappingProxyType({})) -> Decoder:
    """Return the same weights in a graph with one fault, of those here or of `more`."""
    changes, weights = {**SPEC_CHANGES, **more}, {**WEIGHT_CHANGES, **LATER_WEIGHT_CHANGES}
    spec = changes[name](graph.spec) if name in changes else graph.spec
    assert name in weights or spec != graph.spec, f"{name} changes nothing here"
    with torch.device("meta"):
        copy = Decoder(spec)
    missing, _ = copy.load_state_dict(graph.state_dict(), strict=False, assign=True)
    assert not missing
    if name in weights:
        weights[name](copy)
    return copy


_ALL = ("heads swapped", "mask dropped", "score scale")
_ROPED = (*_ALL, "rope base", "rope of neighbours", "position dropped")
_WINDOWED = (*_ROPED, "window + 1", "window - 1")
_GEMMA = ("post norms dropped", "multiplier dropped")

#: What each case must notice.
FAULTS: dict[str, tuple[str, ...]] = {
    "gpt2": (*_ALL, "positions + 1"),
    "llama": _ROPED,
    "llama-tied": _ROPED,
    **dict.fromkeys(
        ("llama-linear", "llama-dynamic", "llama-yarn", "llama-llama3", "llama-longrope"),
        (*_ROPED, "rope scaling dropped"),
    ),
    "mistral": _WINDOWED,
    "qwen2": _WINDOWED,
    "qwen3": (*_WINDOWED, "q and k norms dropped"),
    "gemma2": (*_WINDOWED, *_GEMMA, "softcap dropped", "logit softcap dropped"),
    "gemma3": (*_WINDOWED, *_GEMMA, "rope scaling dropped", "q and k norms dropped"),
    "phi3": _WINDOWED,
    "phi3-long": (*_ROPED, "rope scaling dropped"),
    "phi3-short": (*_ROPED, "rope scaling dropped"),
    "bloom": (*_ALL, "position dropped", "embedding norm dropped"),
}
