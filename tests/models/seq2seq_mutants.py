"""Break an encoder-decoder in one way at a time, so that a comparison can show that it would notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from cynosure.attention import AttentionSpec, Score
from cynosure.attention.masks import Chunk, Full, Mask, Or, Window
from cynosure.attention.positions import NoPosition
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.encoder_decoder_spec import (
    BlockSums,
    EncoderDecoderSpec,
    GlobalTokens,
    StackSpec,
    TokenInputSpec,
)

SpecChange = Callable[[EncoderDecoderSpec], EncoderDecoderSpec]
WeightChange = Callable[[EncoderDecoder], None]


def _encoder(change: Callable[[StackSpec], StackSpec]) -> SpecChange:
    return lambda spec: replace(spec, encoder=change(spec.encoder))


def _decoder(change: Callable[[StackSpec], StackSpec]) -> SpecChange:
    def changed(spec: EncoderDecoderSpec) -> EncoderDecoderSpec:
        assert spec.decoder is not None
        return replace(spec, decoder=change(spec.decoder))

    return changed


def _attention(**changes: object) -> Callable[[StackSpec], StackSpec]:
    def changed(layer: AttentionSpec) -> AttentionSpec:
        return replace(layer, **changes)  # type: ignore[arg-type]

    return lambda stack: replace(stack, layers=tuple(map(changed, stack.layers)))


def _input(change: Callable[[TokenInputSpec], TokenInputSpec]) -> Callable[[StackSpec], StackSpec]:
    def changed(stack: StackSpec) -> StackSpec:
        assert isinstance(stack.inputs, TokenInputSpec)
        return replace(stack, inputs=change(stack.inputs))

    return changed


def _shifted(spec: TokenInputSpec) -> TokenInputSpec:
    assert spec.num_positions is not None
    return replace(spec, position_offset=spec.position_offset - 1, num_positions=spec.num_positions + 1)


def _cross_scale(stack: StackSpec) -> StackSpec:
    assert stack.cross_attention is not None
    return replace(stack, cross_attention=replace(stack.cross_attention, score=Score(scale=0.4)))


def _other_activation(stack: StackSpec) -> StackSpec:
    other = "relu" if stack.mlp.activation != "relu" else "gelu"
    return replace(stack, mlp=replace(stack.mlp, activation=other))


def _resized(mask: Mask, by: int) -> Mask:
    match mask:
        case Window():
            return Window(mask.size + by)
        case Chunk():
            return Chunk(mask.size + by)
        case Or():
            return Or(tuple(_resized(part, by) for part in mask.masks))
    return mask


def _neighbourhood(by: int) -> SpecChange:
    def changed(stack: StackSpec) -> StackSpec:
        return replace(
            stack, layers=tuple(replace(layer, mask=_resized(layer.mask, by)) for layer in stack.layers)
        )

    return _encoder(changed)


def _larger_blocks(stack: StackSpec) -> StackSpec:
    assert isinstance(stack.far, BlockSums)
    return replace(stack, far=replace(stack.far, block_size=stack.far.block_size + 1))


def _sums_without_positions(stack: StackSpec) -> StackSpec:
    assert isinstance(stack.far, BlockSums)
    return replace(
        stack, far=replace(stack.far, attention=replace(stack.far.attention, position=NoPosition()))
    )


def _aligned(stack: StackSpec) -> StackSpec:
    assert isinstance(stack.far, GlobalTokens)
    return replace(stack, far=replace(stack.far, shift=0))


SPEC_CHANGES: dict[str, SpecChange] = {
    "causal mask dropped": _decoder(_attention(mask=Full())),
    "encoder with a window": _encoder(_attention(mask=Window(20))),
    "score scale": _encoder(_attention(score=Score(scale=0.4))),
    "cross score scale": _decoder(_cross_scale),
    "encoder activation": _encoder(_other_activation),
    "decoder activation": _decoder(_other_activation),
    "norms on the other side": lambda spec: replace(spec, is_pre_norm=not spec.is_pre_norm),
    "final norm dropped": _encoder(lambda stack: replace(stack, has_final_norm=False)),
    "positions shifted": _encoder(_input(_shifted)),
    "decoder positions shifted": _decoder(_input(_shifted)),
    "embedding norm dropped": _encoder(_input(lambda spec: replace(spec, norm=None))),
    "embedding scale dropped": _decoder(_input(lambda spec: replace(spec, scale=1.0))),
    "biases dropped": lambda spec: replace(spec, has_attention_bias=False),
    "logit bias dropped": lambda spec: replace(spec, has_logit_bias=False),
    "neighbourhood + 1": _neighbourhood(1),
    "neighbourhood - 1": _neighbourhood(-1),
    "far dropped": _encoder(lambda stack: replace(stack, far=None)),
    "larger blocks": _encoder(_larger_blocks),
    "sums without positions": _encoder(_sums_without_positions),
    "blocks aligned": _encoder(_aligned),
}


def _heads_swapped(graph: EncoderDecoder) -> None:
    attention = next(graph.decoder.blocks).cross
    assert attention is not None
    rows = attention.q.weight.unflatten(0, (attention.spec.heads.num_heads, -1))
    order = [1, 0, *range(2, rows.shape[0])]
    attention.q.weight = torch.nn.Parameter(rows[order].flatten(0, 1), requires_grad=False)


def _first_table_everywhere(graph: EncoderDecoder) -> None:
    tables = [layer.position_table for layer in graph.encoder.blocks]
    for table in tables[1:]:
        assert table is not None
        assert tables[0] is not None
        table.copy_(tables[0])


def _convolutions_backwards(graph: EncoderDecoder) -> None:
    first = graph.encoder.input.get_parameter("first.weight")
    first.copy_(first.flip(-1))


WEIGHT_CHANGES: dict[str, WeightChange] = {
    "heads swapped": _heads_swapped,
    "one table for all layers": _first_table_everywhere,
    "convolutions backwards": _convolutions_backwards,
}

_ALL = (
    "heads swapped",
    "causal mask dropped",
    "encoder with a window",
    "score scale",
    "cross score scale",
    "encoder activation",
    "decoder activation",
    "norms on the other side",
)
_NEAR = ("neighbourhood + 1", "neighbourhood - 1")
_BIASED = (*_ALL, "biases dropped", "logit bias dropped")

#: What each case must notice; a second case of a brand tries only what is its own.
FAULTS: dict[str, tuple[str, ...]] = {
    "whisper": (*_ALL, "biases dropped", "final norm dropped", "convolutions backwards"),
    "bart": (*_BIASED, "positions shifted", "decoder positions shifted", "embedding norm dropped"),
    "bart-scaled": ("embedding scale dropped",),
    "mbart": (*_BIASED, "positions shifted", "embedding norm dropped", "final norm dropped"),
    "marian": (*_BIASED, "embedding scale dropped"),
    "pegasus": (*_BIASED, "embedding scale dropped", "final norm dropped"),
    "umt5": (*_ALL, "one table for all layers"),
    "longt5-local": (*_ALL, *_NEAR),
    "longt5-global": (*_NEAR, "far dropped", "larger blocks", "sums without positions"),
    "led": (*_BIASED, *_NEAR, "far dropped"),
    "pegasus-x": (*_ALL, *_NEAR, "far dropped", "blocks aligned"),
    "pegasus-x-aligned": (*_NEAR, "far dropped"),
}


@torch.no_grad()
def mutant(graph: EncoderDecoder, fault: str) -> EncoderDecoder:
    """Return a graph with one fault, of the same weights."""
    change = SPEC_CHANGES.get(fault)
    changed = EncoderDecoder(graph.spec if change is None else change(graph.spec))
    changed.load_state_dict(graph.state_dict(), strict=False)
    if change is None:
        WEIGHT_CHANGES[fault](changed)
    return changed
