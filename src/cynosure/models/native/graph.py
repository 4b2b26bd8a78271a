"""Put native layers in the place of a graph's own, once, before it serves. Knows nothing of requests.

Weights are packed for the processor at hand and the plain ones are let go, so a graph is changed for good.
`auto` leaves plain float32 models to torch, whose float32 products are as fast; `native` takes them too, and
is an error where there are no kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from cynosure.core.errors import UnknownOption
from cynosure.kernels import kernels, why_none
from cynosure.kernels.linear import Way
from cynosure.kernels.memory import Arena, give_back
from cynosure.models.altup_layer import AltUpLayer
from cynosure.models.cross_layers import AmongCross
from cynosure.models.decoder import Decoder, DecoderLayer
from cynosure.models.encoder import Encoder, EncoderLayer
from cynosure.models.image_reader import ImageReader
from cynosure.models.mlp import Mlp, MlpSpec
from cynosure.models.native.encoder_program import EncoderProgram, refusal_of_encoder
from cynosure.models.native.feed_forward import NativeFeedForward, refusal_of_feed_forward
from cynosure.models.native.layer import native_layer
from cynosure.models.native_linear import FLOAT_TYPES, NativeEmbedding, NativeLinear, refusal
from cynosure.models.quantize import QuantEmbedding, QuantLinear

GIVEN_BACK_AFTER = 32 << 20  # bytes packed

AUTO, NATIVE, TORCH = CHOICES = ("auto", "native", "torch")


@dataclass(frozen=True)
class NativeReport:
    """What became native: the variant of the kernels (empty: nothing did), and why other parts did not.

    `refused` maps a module's name, `graph`, or `program` (an encoder as one call) to the reason.
    `packed_bytes` is what packed weights take.
    """

    variant: str
    num_native: int
    packed_bytes: int
    refused: Mapping[str, str]


def use_kernels(
    graph: nn.Module, dtype: torch.dtype, choice: str = AUTO, arena: Arena | None = None
) -> NativeReport:
    """Replace every layer that the kernels know; `dtype` is what the graph computes in.

    Weights are packed into `arena`, or into one of the graph's own; a filled one holds them already. A graph
    that was changed before stays as it is.

    Raises:
        UnknownOption: no such choice, or `native` where the kernels cannot serve this graph.
    """
    if choice not in CHOICES:
        raise UnknownOption(f"kernels is {choice!r}; choose one of {', '.join(CHOICES)}.")
    natives = [module for module in graph.modules() if isinstance(module, NativeLinear)]
    if natives:
        used = {id(native.packed.arena): native.packed.arena for native in natives}
        num_bytes = sum(one.num_bytes for one in used.values())
        return NativeReport(kernels().variant, len(natives), num_bytes, {})
    reason = refusal_of_graph(graph, dtype, choice)
    if reason and choice == NATIVE:
        raise UnknownOption(f"kernels is 'native', but {reason}. Take 'auto', or remove the cause.")
    if reason:
        return NativeReport("", 0, 0, {"graph": reason})
    arena = arena or Arena()
    refused: dict[str, str] = {}
    decoder = graph.text if isinstance(graph, ImageReader) else graph
    if isinstance(decoder, Decoder):
        replace_head(decoder, arena, refused)
        for index in range(len(decoder.layers)):
            replace_layer(decoder, index, arena, refused)
    return replace_rest(graph, arena, refused)


def replace_rest(graph: nn.Module, arena: Arena, refused: dict[str, str]) -> NativeReport:
    """Pack what is no decoder's head or layer, and tell what became of all; `refused` holds what was."""
    if isinstance(graph, Encoder):
        _replace_feed_forward(graph, arena, refused)
    _replace_linears(graph, arena, refused)
    if isinstance(graph, Encoder):
        _make_program(graph, refused)
    give_back()
    num_native = sum(isinstance(module, NativeLinear) for module in graph.modules())
    return NativeReport(kernels().variant, num_native, arena.num_bytes, refused)


def fix_way(graph: nn.Module, way: Way) -> None:
    """Have all native layers compute in one way from now on, however many rows they get.

    Layers whose bits are the same in every way keep the fastest.
    """
    for module in graph.modules():
        if isinstance(module, NativeLinear) and not module.has_one_way:
            module.way = way


def refusal_of_graph(graph: nn.Module, dtype: torch.dtype, choice: str) -> str:
    """Say why no layer becomes native; empty where some may."""
    if choice == TORCH:
        return "torch was asked for"
    if absent := why_none():
        return absent
    if dtype not in FLOAT_TYPES:
        return f"the model computes in {dtype}, the kernels in float32 and bfloat16"
    has_codes = any(isinstance(module, QuantLinear) for module in graph.modules())
    if choice == AUTO and dtype == torch.float32 and not has_codes:
        return "torch is as fast in float32"
    return ""


def replace_layer(graph: Decoder, index: int, arena: Arena, refused: dict[str, str]) -> None:
    """Pack one layer as far as the kernels know it."""
    layer, before = graph.layers[index], arena.num_bytes
    if isinstance(layer, AltUpLayer):
        refused[f"layers.{index}"] = "a token is several vectors; it is run as it is, on native projections"
        return
    if isinstance(layer, AmongCross):
        refused[f"layers.{index}"] = "layers beside it attend to images; it is run on native projections"
        return
    if not isinstance(layer, DecoderLayer):
        refused[f"layers.{index}"] = "it has no feed-forward half; it is run as it is, on native projections"
        return
    mlp = graph.spec.layers[index].mlp
    activation = mlp.activation if isinstance(mlp, MlpSpec) else None
    graph.layers[index], reasons = native_layer(layer, activation, arena)
    refused.update({f"layers.{index}.{half}": reason for half, reason in reasons.items()})
    # What layers were packed from is as large as what it became: at no time both are in memory whole.
    if arena.num_bytes // GIVEN_BACK_AFTER > before // GIVEN_BACK_AFTER:
        give_back()


def replace_head(graph: Decoder, arena: Arena, refused: dict[str, str]) -> None:
    """Pack the head; a table of embeddings that is the same is then read from it."""
    if reason := refusal(graph.head):
        refused["head"] = reason
        return
    head, table = graph.head, graph.embed
    if isinstance(head, QuantLinear):
        is_tied = isinstance(table, QuantEmbedding) and table.codes is head.codes
    else:
        is_tied = isinstance(table, nn.Embedding) and table.weight is head.weight
    dtype = graph.dtype
    native = NativeLinear([head], arena=arena)
    graph.set_submodule("head", native)
    if is_tied:
        graph.set_submodule("embed", NativeEmbedding(native, dtype))
    del head, table
    give_back()


def _replace_feed_forward(graph: Encoder, arena: Arena, refused: dict[str, str]) -> None:
    activation = graph.spec.mlp.activation
    for index, layer in enumerate(graph.layers):
        assert isinstance(layer, EncoderLayer)
        if reason := refusal_of_feed_forward(layer.mlp, activation):
            refused[f"layers.{index}.mlp"] = reason
            continue
        assert isinstance(layer.mlp, Mlp)
        layer.set_submodule("mlp", NativeFeedForward(layer.mlp, activation, arena))


def _make_program(graph: Encoder, refused: dict[str, str]) -> None:
    if reason := refusal_of_encoder(graph):
        refused["program"] = reason
    else:
        graph.program = EncoderProgram(graph)


def _replace_linears(graph: nn.Module, arena: Arena, refused: dict[str, str]) -> None:
    """Replace what no larger form took, such as the projections of latent attention and experts."""
    linears = [(name, m) for name, m in graph.named_modules() if isinstance(m, nn.Linear | QuantLinear)]
    shared = {id(m.weight) for m in graph.modules() if isinstance(m, nn.Embedding)}
    for name, linear in linears:
        if isinstance(linear, nn.Linear) and id(linear.weight) in shared:
            refused[name] = "its weight is also a table of embeddings"
        elif reason := refusal(linear):
            refused[name] = reason
        else:
            graph.set_submodule(name, NativeLinear([linear], arena=arena))
