"""Pairs are added to the rows of those who asked, in plain graphs and in native ones, and to no others."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import EngineFault
from cynosure.kernels import why_none
from cynosure.kernels.linear import Way
from cynosure.models.adapters.adapter import Adapter
from cynosure.models.adapters.applying import Adapting
from cynosure.models.adapters.places import Places
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.load import load
from cynosure.models.native.graph import fix_way, use_kernels
from cynosure.models.native.layer import NativeLayer
from tests.models import brand_oracle, decoder_oracle
from tests.models.adapters.random_adapters import random_adapter

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

#: Layers of native calls, gated or not, with norms of both kinds; one that is run as modules; experts.
SHAPES = ["llama", "gpt2", "gemma2", "qwen3", "gpt-neox", "qwen2-moe"]
IDS = [7, 3, 150, 42, 42, 9, 18, 77, 5]


def pair_of(name: str) -> decoder_oracle.Pair:
    return (brand_oracle if name in ("gpt-neox", "qwen2-moe") else decoder_oracle).pair_of(name)


@lru_cache
def graph_of(name: str, dtype: str, quantize: str | None = None, *, is_native: bool = True) -> Decoder:
    graph = load(pair_of(name).folder, dtype=dtype, quantize=quantize).graph
    assert isinstance(graph, Decoder)
    if is_native:
        use_kernels(graph, graph.dtype, "native")
    return graph


def adapter_of(name: str, seed: int, strength: float = 0.2) -> Adapter:
    return random_adapter(pair_of(name).model, seed, strength)


@torch.inference_mode()
def logits(graph: Decoder, adapters: list[Adapter | None], lens: list[int]) -> Float[Tensor, "n vocab"]:
    sequences = [IDS[:length] for length in lens]
    with Adapting(graph).rows(adapters, lens):
        return graph.logits(graph(Batch.pack(sequences)).hidden)


def gap(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.std())


@pytest.mark.parametrize("name", SHAPES)
def test_native_float32_equals_the_plain_graph(name: str) -> None:
    adapter = adapter_of(name, 1)
    native = graph_of(name, "float32")
    assert isinstance(native.layers[0], NativeLayer) == (name != "gpt-neox")
    plain = graph_of(name, "float32", is_native=False)
    for length in (1, 2, len(IDS)):
        expected = logits(plain, [adapter], [length])
        assert gap(logits(native, [adapter], [length]), expected) < 1e-4
        assert gap(logits(native, [None], [length]), expected) > 1e-2


@pytest.mark.parametrize("quantize", ["int8", "int4"])
@pytest.mark.parametrize("is_native", [True, False])
def test_codes_with_an_adapter_are_as_near_as_codes_without(quantize: str, is_native: bool) -> None:
    """What is added is exact: only the codes of the base differ from the float32 graph."""
    exact, coded = (
        graph_of("llama-tied", "float32", is_native=False),
        graph_of("llama-tied", "float32", quantize, is_native=is_native),
    )
    lens, adapters = [len(IDS)], [adapter_of("llama-tied", 2)]
    error = (logits(coded, adapters, lens) - logits(exact, adapters, lens)).norm()
    assert error < 2 * (logits(coded, [None], lens) - logits(exact, [None], lens)).norm()
    assert error < 0.5 * (logits(coded, adapters, lens) - logits(coded, [None], lens)).norm()


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2"])
def test_bfloat16_is_as_near_to_float32_as_the_plain_graph_is(name: str) -> None:
    lens, adapters = [len(IDS)], [adapter_of(name, 1, 0.1)]
    exact = logits(graph_of(name, "float32", is_native=False), adapters, lens)
    native = logits(graph_of(name, "bfloat16"), adapters, lens).float()
    plain = logits(graph_of(name, "bfloat16", is_native=False), adapters, lens).float()
    assert (native - exact).norm() < 1.3 * (plain - exact).norm()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_native", [True, False])
def test_three_adapters_and_none_in_one_batch_give_what_each_gives_alone(dtype: str, is_native: bool) -> None:
    graph = graph_of("llama", dtype, is_native=is_native)
    adapters = [adapter_of("llama", 1), None, adapter_of("llama", 2), adapter_of("llama", 3)]
    adapters.append(adapters[0])
    lens = [4, 1, 9, 2, 5]
    fix_way(graph, Way.TILES)
    together = logits(graph, adapters, lens).split(lens)
    alone = [logits(graph, [adapter], [length]) for adapter, length in zip(adapters, lens, strict=True)]
    fix_way(graph, Way.AUTO)
    for row, expected in zip(together, alone, strict=True):
        assert gap(row.float(), expected.float()) < (1e-5 if dtype == "float32" else 0.06)
    assert gap(together[0][:2].float(), together[3].float()) > 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_native", [True, False])
def test_rows_of_nobody_keep_their_bits(dtype: str, is_native: bool) -> None:
    graph, lens = graph_of("llama", dtype, is_native=is_native), [4, 3, 5]
    bare = logits(graph, [None] * 3, lens).split(lens)
    mixed = logits(graph, [None, adapter_of("llama", 1), None], lens).split(lens)
    assert torch.equal(mixed[0], bare[0])
    assert torch.equal(mixed[2], bare[2])
    assert not torch.equal(mixed[1], bare[1])


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "form", [("float32", None), ("bfloat16", None), ("float32", "int8"), ("float32", "int4")]
)
def test_products_are_what_a_layer_with_an_activation_computes(
    name: str, form: tuple[str, str | None]
) -> None:
    if name == "gpt2" and form[1] is not None:
        form = (form[0], "int8")
    layer = graph_of(name, *form).layers[0]
    assert isinstance(layer, NativeLayer)
    assert layer.mlp is not None
    inner = layer.mlp.inner
    for num_rows in (0, 1, 2, 3, 17):
        x = torch.randn(num_rows, inner.in_features)
        made = inner.activated(inner.products(x))
        assert made.shape == (num_rows, inner.out_features)
        torch.testing.assert_close(made, inner(x), atol=2e-5, rtol=2e-5)


def test_a_module_that_is_gone_around_is_noticed() -> None:
    graph = graph_of("llama", "float32", is_native=False)
    with pytest.raises(EngineFault, match="in part"), Adapting(graph).rows([adapter_of("llama", 1)], [3]):
        graph.layers[0](torch.randn(3, 64), ForwardPass(Batch.pack([IDS[:3]])))
    # Hooks are gone, also where a pass broke.
    with pytest.raises(ZeroDivisionError), Adapting(graph).rows([adapter_of("llama", 1)], [3]):
        raise ZeroDivisionError
    assert not any(module._forward_hooks for module in graph.modules())


def test_places_of_fused_projections() -> None:
    graph = graph_of("llama", "float32")
    layer = graph.layers[1]
    assert isinstance(layer, NativeLayer)
    assert layer.attention is not None
    assert layer.mlp is not None
    places = Places(graph)
    assert places.of("layers.1.attention.q") == (layer.attention.qkv, 0)
    assert places.of("layers.1.attention.k") == (layer.attention.qkv, 96)
    assert places.of("layers.1.attention.v") == (layer.attention.qkv, 144)
    assert places.of("layers.1.attention.o") == (layer.attention.o, 0)
    assert places.of("layers.1.mlp.gate") == (layer.mlp.inner, 0)
    assert places.of("layers.1.mlp.up") == (layer.mlp.inner, 96)
    assert places.of("layers.1.mlp.down") == (layer.mlp.down, 0)
    assert (
        graph_of("gpt2", "float32").layers[0].mlp.inner
        is Places(graph_of("gpt2", "float32")).of("layers.0.mlp.up").module
    )
