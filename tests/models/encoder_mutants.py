"""Break an encoder in one way at a time, so that a comparison can show that it would notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from cynosure.attention import AttentionSpec, Score
from cynosure.attention.masks import Blocks, Causal, Full, Or, Window
from cynosure.attention.positions import Disentangled, NoPosition, Rope, T5Bias
from cynosure.models.encoder import Encoder, EncoderAttention
from cynosure.models.encoder_spec import ConvolutionSpec, EncoderLayerSpec, EncoderSpec, Pooling

SpecChange = Callable[[EncoderSpec], EncoderSpec]
WeightChange = Callable[[Encoder], None]


def attention_change(change: Callable[[AttentionSpec], AttentionSpec]) -> SpecChange:
    def changed(layer: EncoderLayerSpec) -> EncoderLayerSpec:
        return replace(layer, attention=change(layer.attention))

    return lambda spec: replace(spec, layers=tuple(map(changed, spec.layers)))


def window_change(by: int) -> SpecChange:
    def changed(spec: AttentionSpec) -> AttentionSpec:
        return replace(spec, mask=Window(spec.mask.size + by)) if isinstance(spec.mask, Window) else spec

    return attention_change(changed)


def rope_change(of_local: bool) -> SpecChange:
    def changed(spec: AttentionSpec) -> AttentionSpec:
        assert isinstance(spec.position, Rope)
        if isinstance(spec.mask, Window) is not of_local:
            return spec
        return replace(spec, position=replace(spec.position, theta=spec.position.theta * 1.5))

    return attention_change(changed)


def _other_pooling(spec: EncoderSpec) -> EncoderSpec:
    assert spec.head is not None
    other = Pooling.MEAN if spec.head.pooling is Pooling.CLS else Pooling.CLS
    return replace(spec, head=replace(spec.head, pooling=other))


def _other_activation(spec: EncoderSpec) -> EncoderSpec:
    """Approximate GELU, or do not where the checkpoint does."""
    other = "gelu_new" if spec.mlp.activation == "gelu" else "quick_gelu"
    return replace(spec, mlp=replace(spec.mlp, activation=other))


def _layers_shifted(spec: EncoderSpec) -> EncoderSpec:
    kinds = [layer.attention for layer in spec.layers]
    layers = zip(spec.layers, kinds[1:] + kinds[:1], strict=True)
    return replace(spec, layers=tuple(replace(layer, attention=kind) for layer, kind in layers))


def _position_of_padding(spec: EncoderSpec) -> EncoderSpec:
    """Count positions from the row of padding."""
    table = spec.embeddings
    moved = replace(table, position_offset=table.position_offset - 1, num_positions=table.num_positions + 1)
    return replace(spec, embeddings=moved)


def _distances_doubled(spec: AttentionSpec) -> AttentionSpec:
    assert isinstance(spec.position, T5Bias)
    return replace(spec, position=replace(spec.position, max_distance=2 * spec.position.max_distance))


def _position_change(change: Callable[[Disentangled], Disentangled]) -> SpecChange:
    def changed(spec: AttentionSpec) -> AttentionSpec:
        assert isinstance(spec.position, Disentangled)
        return replace(spec, position=change(spec.position))

    return attention_change(changed)


def _mirror_vectors(graph: Encoder) -> None:
    """Read the vector of a distance before a token for the same behind it."""
    assert graph.distances is not None
    _assign(graph.distances.table.weight, graph.distances.table.weight.flip(0))


def _wider_blocks(spec: AttentionSpec) -> AttentionSpec:
    """Let tokens see two blocks on either side."""
    assert isinstance(spec.mask, Or)
    masks = [
        replace(mask, num_neighbours=2) if isinstance(mask, Blocks) else mask for mask in spec.mask.masks
    ]
    return replace(spec, mask=Or(tuple(masks)))


def _without_global(spec: AttentionSpec) -> AttentionSpec:
    """Let tokens see the first one only where their window reaches it."""
    assert isinstance(spec.mask, Or)
    return replace(spec, mask=spec.mask.masks[0])


def _swap_neighbours(graph: Encoder) -> None:
    """Read what stands before a token as what stands behind it."""
    assert graph.convolution is not None
    weight = graph.convolution.mix.weight
    _assign(weight, weight.unflatten(1, (graph.convolution.width, -1)).flip(1).flatten(1))


def _project_alike(graph: Encoder) -> None:
    """Project the tokens that attend to all as others are."""
    for layer in graph.layers:
        _assign(layer.attention.far.qkv.weight, layer.attention.qkv.weight)


def _swap_heads(graph: Encoder) -> None:
    """Exchange the queries of the first and the last head."""
    for block in graph.modules():
        if isinstance(block, EncoderAttention):
            heads = block.spec.heads
            width = heads.num_heads * heads.head_dim
            rows = torch.arange(width).unflatten(0, (heads.num_heads, -1))
            rows = rows[[heads.num_heads - 1, *range(1, heads.num_heads - 1), 0]].flatten()
            rows = torch.cat([rows, torch.arange(width, 3 * width)])
            _assign(block.qkv.weight, block.qkv.weight[rows])


def _swap_keys_and_values(graph: Encoder) -> None:
    for block in graph.modules():
        if isinstance(block, EncoderAttention):
            q, k, v = block.qkv.weight.chunk(3)
            _assign(block.qkv.weight, torch.cat([q, v, k]))


def _swap_gate(graph: Encoder) -> None:
    for layer in graph.layers:
        gate, up = layer.mlp.gate.weight, layer.mlp.up.weight
        layer.mlp.gate.weight, layer.mlp.up.weight = up, gate


def _shift_positions(graph: Encoder) -> None:
    table = graph.embeddings.position
    assert table is not None
    _assign(table.weight, table.weight.roll(1, 0))


def _forget_types(graph: Encoder) -> None:
    table = graph.embeddings.token_type
    assert table is not None
    _assign(table.weight, table.weight[:1].expand(2, -1))


def _mirror_distances(graph: Encoder) -> None:
    """Read what stands before a token as what stands behind it."""
    table = graph.position_table
    assert table is not None
    _assign(table.weight, table.weight.roll(table.num_embeddings // 2, 0))


def _assign(parameter: torch.nn.Parameter, value: torch.Tensor) -> None:
    parameter.data = value.clone()


SPEC_CHANGES: dict[str, SpecChange] = {
    "global rope base": rope_change(of_local=False),
    "local rope base": rope_change(of_local=True),
    "window + 1": window_change(1),
    "window - 1": window_change(-1),
    "window dropped": attention_change(lambda spec: replace(spec, mask=Full())),
    "causal": attention_change(lambda spec: replace(spec, mask=Causal())),
    "global layers shifted": _layers_shifted,
    "other pooling": _other_pooling,
    "padding's position": _position_of_padding,
    "distances doubled": attention_change(_distances_doubled),
    "all seen": attention_change(lambda spec: replace(spec, mask=Full())),
    "other activation": _other_activation,
    "wider buckets": _position_change(lambda position: replace(position, max_distance=64)),
    "one term": _position_change(lambda position: replace(position, has_position_to_content=False)),
    "other term": _position_change(lambda position: replace(position, has_content_to_position=False)),
    "first token forgotten": attention_change(_without_global),
    "start counted once": attention_change(lambda spec: replace(spec, position=NoPosition())),
    "last block forgotten": attention_change(lambda spec: replace(spec, mask=Or(spec.mask.masks[:-1]))),
    "wider blocks": attention_change(_wider_blocks),
    "convolution bent otherwise": lambda spec: replace(spec, convolution=ConvolutionSpec(5, "relu")),
    "scale of two": attention_change(lambda spec: replace(spec, score=Score())),
}
WEIGHT_CHANGES: dict[str, WeightChange] = {
    "heads swapped": _swap_heads,
    "keys and values swapped": _swap_keys_and_values,
    "gate swapped": _swap_gate,
    "positions shifted": _shift_positions,
    "types forgotten": _forget_types,
    "far side as near": _mirror_distances,
    "vectors mirrored": _mirror_vectors,
    "global tokens as others": _project_alike,
    "neighbours swapped": _swap_neighbours,
}

_BERT = ("causal", "heads swapped", "keys and values swapped", "positions shifted", "types forgotten")
_ONE_TEXT = ("causal", "heads swapped", "keys and values swapped", "positions shifted")
_MODERN = ("global rope base", "local rope base", "window + 1", "window - 1", "window dropped", "causal")
_MODERN = (*_MODERN, "global layers shifted", "heads swapped", "keys and values swapped", "gate swapped")

_DEBERTA = ("causal", "heads swapped", "keys and values swapped", "vectors mirrored")

#: What is broken in which case; the heads share their encoder's faults, so few are tried again.
FAULTS: dict[str, tuple[str, ...]] = {
    "big-bird": (*_BERT, "start counted once", "last block forgotten", "wider blocks", "all seen"),
    "big-bird-wide": ("start counted once", "last block forgotten", "wider blocks"),
    "big-bird-full": ("heads swapped",),
    "big-bird-masked-lm": ("start counted once",),
    "big-bird-sequence": ("start counted once", "other pooling"),
    "big-bird-token": ("last block forgotten",),
    "clip-text": ("all seen", "heads swapped", "keys and values swapped", "positions shifted"),
    "siglip-text": (*_ONE_TEXT, "other activation"),
    "bert": (*_BERT, "other activation"),
    "bert-masked-lm": ("heads swapped", "positions shifted"),
    "bert-sequence": ("heads swapped", "types forgotten", "other pooling"),
    "bert-cross-encoder": ("heads swapped", "types forgotten", "other pooling"),
    "bert-token": ("heads swapped",),
    "bert-span": ("heads swapped", "types forgotten"),
    "modernbert": (*_MODERN, "other activation"),
    "modernbert-biased": ("window + 1", "window - 1"),
    "modernbert-masked-lm": ("window + 1", "heads swapped"),
    "modernbert-sequence-cls": ("heads swapped", "other pooling"),
    "modernbert-sequence-mean": ("heads swapped", "other pooling"),
    "modernbert-token": ("window - 1",),
    "modernbert-span": ("window - 1",),
    "roberta": (*_ONE_TEXT, "padding's position"),
    "roberta-masked-lm": ("heads swapped",),
    "roberta-sequence": ("heads swapped", "other pooling"),
    "roberta-token": ("positions shifted",),
    "roberta-span": ("positions shifted",),
    "xlm-roberta": (*_ONE_TEXT, "padding's position"),
    "xlm-roberta-masked-lm": ("heads swapped",),
    "xlm-roberta-sequence": ("heads swapped", "other pooling"),
    "xlm-roberta-token": ("heads swapped",),
    "xlm-roberta-span": ("heads swapped",),
    "deberta": (*_DEBERTA, "wider buckets", "one term", "other term", "scale of two"),
    "deberta-plain": (*_DEBERTA, "types forgotten", "positions shifted"),
    "deberta-convolved": ("convolution bent otherwise", "neighbours swapped", "types forgotten"),
    "deberta-masked-lm": ("vectors mirrored",),
    "deberta-sequence": ("wider buckets", "other pooling"),
    "deberta-cross-encoder": ("heads swapped", "other pooling"),
    "deberta-token": ("heads swapped",),
    "deberta-span": ("heads swapped",),
    "distilbert": (*_ONE_TEXT, "other activation"),
    "distilbert-masked-lm": ("heads swapped",),
    "distilbert-sequence": ("heads swapped", "other pooling"),
    "distilbert-token": ("heads swapped",),
    "distilbert-span": ("heads swapped",),
    "longformer": (*_ONE_TEXT, "window + 1", "window - 1", "window dropped", "global layers shifted"),
    "longformer-masked-lm": ("window + 1",),
    "longformer-sequence": ("first token forgotten", "global tokens as others", "window dropped"),
    "longformer-cross-encoder": ("first token forgotten", "global tokens as others", "heads swapped"),
    "longformer-token": ("window - 1",),
    "mpnet": (*_ONE_TEXT, "padding's position", "distances doubled", "far side as near"),
    "mpnet-masked-lm": ("distances doubled",),
    "mpnet-sequence": ("heads swapped", "other pooling"),
    "mpnet-token": ("heads swapped",),
    "mpnet-span": ("heads swapped",),
}


def mutant(graph: Encoder, fault: str) -> Encoder:
    """A copy of the graph with one fault."""
    with torch.device("meta"):
        broken = Encoder(SPEC_CHANGES.get(fault, lambda spec: spec)(graph.spec))
    weights = {name: tensor.clone() for name, tensor in graph.state_dict().items()}
    broken.load_state_dict(weights, assign=True)
    WEIGHT_CHANGES.get(fault, lambda graph: None)(broken)
    return broken.eval()
