"""A graph on native kernels gives what it gives in torch, in every family and format."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.core.errors import UnknownOption
from cynosure.kernels import why_none
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.native.graph import use_kernels
from cynosure.models.native.layer import NativeLayer
from cynosure.models.native_linear import NativeEmbedding, NativeLinear
from tests.models import decoder_cases, decoder_oracle, moe_oracle
from tests.models.decoder_oracle import Pair

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

CASES = {**decoder_cases.CASES, **moe_oracle.CASES}
#: Families that differ in what a layer is made of; the others differ in positions alone.
SHAPES = ["gpt2", "llama", "llama-tied", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "bloom"]


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


def pair_of(name: str) -> Pair:
    return (moe_oracle if name in moe_oracle.CASES else decoder_oracle).pair_of(name)


def native(graph: nn.Module, dtype: torch.dtype) -> Decoder:
    twin = copy.deepcopy(graph)
    assert isinstance(twin, Decoder)
    assert use_kernels(twin, dtype, "native").num_native > 0
    return twin


def logits_of(graph: Decoder, prompts: list[list[int]]) -> list[Float[Tensor, "n vocab"]]:
    """Return all logits of a padded batch, then those of a decoding step behind it."""
    cache = graph.new_cache(len(prompts), 64)
    first = graph(Batch.pack(prompts, max_len=64), cache, backend="tiled").hidden
    past = [len(prompt) for prompt in prompts]
    step = Batch.pack([[3]] * len(prompts), past_lens=past, max_len=64)
    return [graph.logits(first).float(), graph.logits(graph(step, cache, backend="tiled").hidden).float()]


def gap(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """Return the largest difference, in units of the logits' spread."""
    return max(float((a - b).abs().max() / b.std()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("name", [*SHAPES, *moe_oracle.CASES])
def test_float32_equals_torch(name: str) -> None:
    pair = pair_of(name)
    twin = native(pair.graph, torch.float32)
    assert gap(logits_of(twin, pair.prompts), logits_of(pair.graph, pair.prompts)) < 1e-4


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2"])
def test_bfloat16_is_as_near_to_float32_as_torch_is(name: str) -> None:
    pair = pair_of(name)
    exact = logits_of(pair.graph, pair.prompts)
    plain = load(pair.folder, dtype="bfloat16").graph
    assert isinstance(plain, Decoder)
    ours, theirs = logits_of(native(plain, torch.bfloat16), pair.prompts), logits_of(plain, pair.prompts)
    for mine, other, right in zip(ours, theirs, exact, strict=True):
        assert float((mine - right).norm()) < 1.2 * float((other - right).norm())


@pytest.mark.parametrize("scheme", ["int8", "int4", "int4-pure"])
@pytest.mark.parametrize("name", ["llama-tied", "qwen2"])
def test_codes_give_what_their_weights_give(name: str, scheme: str) -> None:
    """What activations in eight bits add is no more than weights in eight bits cost, within a half."""
    pair = pair_of(name)
    exact = logits_of(pair.graph, pair.prompts)
    plain = load(pair.folder, dtype="float32", quantize=scheme).graph
    assert isinstance(plain, Decoder)
    ours, theirs = logits_of(native(plain, torch.float32), pair.prompts), logits_of(plain, pair.prompts)
    for mine, other, right in zip(ours, theirs, exact, strict=True):
        assert float((mine - other).norm()) < 1.5 * float((other - right).norm())


def test_a_tied_table_is_kept_once() -> None:
    pair = pair_of("llama-tied")
    twin = native(pair.graph, torch.float32)
    assert isinstance(twin.embed, NativeEmbedding)
    ids = torch.tensor([0, 5, decoder_cases.VOCAB - 1])
    assert torch.equal(twin.embed(ids), pair.graph.embed(ids))
    assert not [m for m in twin.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    with pytest.raises(IndexError, match="199 rows"):
        twin.embed(torch.tensor([decoder_cases.VOCAB]))


def test_halves_that_the_kernels_do_not_know_stay_and_say_why() -> None:
    graph = copy.deepcopy(moe_oracle.pair_of("deepseek-yarn").graph)
    report = use_kernels(graph, torch.float32, "native")
    assert "MlaAttention" in report.refused["layers.0.attention"]
    assert report.packed_bytes > 0
    assert any(isinstance(module, NativeLinear) for module in graph.layers[0].modules())


def test_auto_leaves_float32_to_torch_and_takes_bfloat16() -> None:
    graph = copy.deepcopy(pair_of("llama").graph)
    assert use_kernels(graph, torch.float32).refused == {"graph": "torch is as fast in float32"}
    assert not any(isinstance(layer, NativeLayer) for layer in graph.layers)
    half = load(pair_of("llama").folder, dtype="bfloat16").graph
    report = use_kernels(half, torch.bfloat16)
    assert report.num_native == 4 * len(half.layers) + 1
    assert not report.refused


def test_a_choice_by_name_is_kept_or_an_error() -> None:
    graph = copy.deepcopy(pair_of("llama").graph)
    assert use_kernels(graph, torch.bfloat16, "torch").num_native == 0
    with pytest.raises(UnknownOption, match="float16"):
        use_kernels(graph, torch.float16, "native")
    with pytest.raises(UnknownOption, match="'fast'"):
        use_kernels(graph, torch.float32, "fast")


def test_a_wrong_weight_is_seen() -> None:
    """The positive control of the comparison."""
    pair = pair_of("llama")
    twin = copy.deepcopy(pair.graph)
    twin.layers[1].mlp.gate.weight[3] += 0.3
    assert (
        gap(logits_of(native(twin, torch.float32), pair.prompts), logits_of(pair.graph, pair.prompts)) > 1e-3
    )
