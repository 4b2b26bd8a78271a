"""A pass as one program of kernel calls gives what the modules give, in every family and format."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import PagedCache
from cynosure.engine.runner import Runner, Work
from cynosure.kernels import why_none
from cynosure.kernels.linear import Type, has_tiles
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.native.graph import use_kernels
from cynosure.models.native.passes import FIRST_CAPACITY, NativePasses, refusal_of_passes
from tests.models import decoder_cases, decoder_oracle, moe_oracle

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

BLOCK = 8
#: Families that differ in what a layer is made of; the others differ in positions alone.
SHAPES = ["gpt2", "llama", "llama-tied", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "bloom"]


def native(name: str, dtype: str, quantize: str | None = None) -> Decoder:
    graph = load(decoder_oracle.pair_of(name).folder, dtype=dtype, quantize=quantize).graph
    assert isinstance(graph, Decoder)
    use_kernels(graph, graph.dtype, "native")
    return graph


def runners(graph: Decoder, kv_dtype: str = "auto") -> tuple[Runner, Runner]:
    """One that runs programs, and one that runs modules."""
    program, modules = (Runner(graph, graph.new_paged_cache(64, BLOCK, kv_dtype)) for _ in range(2))
    assert not program.refusal
    modules._passes = None
    return program, modules


def ids(length: int, seed: int) -> tuple[int, ...]:
    dice = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, decoder_cases.VOCAB, (length,), generator=dice).tolist())


def pages(number: int) -> tuple[int, ...]:
    return tuple(range(16 * number, 16 * number + 16))


def steps(runner: Runner, lengths: tuple[int, ...] = (BLOCK - 1, BLOCK, BLOCK + 1)) -> list[Tensor]:
    """Logits of a prefill, of a step that decodes, and of one that does both."""
    prompts = [ids(length, seed) for seed, length in enumerate(lengths)]
    works = [
        [Work(prompt, 0, pages(n), min(2, len(prompt))) for n, prompt in enumerate(prompts)],
        [Work((5 + n,), len(prompt), pages(n), 1) for n, prompt in enumerate(prompts)],
        [
            Work((9,), len(prompts[0]) + 1, pages(0), 1),
            Work(ids(3, 9), len(prompts[1]) + 1, pages(1), 0),
            Work(ids(2, 8), len(prompts[2]) + 1, pages(2), 2),
        ],
    ]
    return [row.clone() for work in works for row in runner.run(work)]


def gap(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The largest difference, in units of the logits' spread."""
    mine, others = torch.cat(ours), torch.cat(theirs)
    return float((mine - others).abs().max() / others.std())


@pytest.mark.parametrize("name", SHAPES)
def test_float32_equals_the_modules(name: str) -> None:
    program, modules = runners(native(name, "float32"))
    assert gap(steps(program), steps(modules)) < 1e-4


@pytest.mark.parametrize("lengths", [(1, 1, 1), (1, 2, 2 * BLOCK), (BLOCK, 2 * BLOCK + 1, 60)])
def test_all_lengths(lengths: tuple[int, ...]) -> None:
    """The last holds more tokens than the first buffers."""
    assert sum((BLOCK, 2 * BLOCK + 1, 60)) > FIRST_CAPACITY
    program, modules = runners(native("gemma3", "float32"))
    assert gap(steps(program, lengths), steps(modules, lengths)) < 1e-4
    assert gap(steps(program), steps(modules)) < 1e-4


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt2"])
def test_bfloat16_is_as_near_to_float32_as_the_modules_are(name: str) -> None:
    exact = torch.cat(steps(runners(native(name, "float32"))[1]))
    ours, theirs = (torch.cat(steps(runner)) for runner in runners(native(name, "bfloat16")))
    assert float((ours - exact).norm()) < 1.1 * float((theirs - exact).norm())


@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_codes(quantize: str, kv_dtype: str) -> None:
    """Rounding activations and pages to eight bits turns a last bit of difference into a code's."""
    program, modules = runners(native("llama-tied", "float32", quantize), kv_dtype)
    ours, theirs = torch.cat(steps(program)), torch.cat(steps(modules))
    assert float((ours - theirs).norm()) < 0.02 * float(theirs.norm())


def test_a_wrong_page_is_seen() -> None:
    """The positive control of the comparisons."""

    class Careless(PagedCache):
        def slots(self, *args: object) -> Tensor:
            return super().slots(*args).flip(0)  # type: ignore[arg-type]

    graph = native("llama", "float32")
    program, modules = runners(graph)
    program.cache.__class__ = Careless
    assert gap(steps(program), steps(modules)) > 1e-2


@pytest.mark.parametrize(
    ("name", "reason"), [("gpt-oss", "layer 0 is not native"), ("deepseek-yarn", "layer 0")]
)
def test_what_is_no_program_runs_as_modules(name: str, reason: str) -> None:
    graph = load(moe_oracle.pair_of(name).folder, dtype="float32").graph
    assert isinstance(graph, Decoder)
    use_kernels(graph, torch.float32, "native")
    runner = Runner(graph, graph.new_paged_cache(8, BLOCK))
    assert reason in runner.refusal
    assert torch.isfinite(runner.run([Work(ids(5, 1), 0, (3,), 1)])[0]).all()


def test_a_graph_in_torch_is_no_program() -> None:
    graph = load(decoder_oracle.pair_of("llama").folder, dtype="float32").graph
    assert isinstance(graph, Decoder)
    assert "head is not native" in refusal_of_passes(graph, graph.new_paged_cache(8, BLOCK))


def test_another_backend_runs_as_modules() -> None:
    graph = native("llama", "float32")
    cache = graph.new_paged_cache(8, BLOCK)
    passes = NativePasses(graph, cache, "tiled")
    batch = Batch.pack([ids(5, 1)], block_tables=[(0,)])
    assert passes.run(batch, torch.tensor([4])) is None
    work = [Work(ids(5, 1), 0, (0,), 1)]
    tiled = Runner(graph, cache, "tiled").run(work)
    assert gap(tiled, Runner(graph, cache).run(work)) < 1e-4


def test_parts_are_timed_where_that_is_asked_for() -> None:
    graph = native("qwen3", "float32")
    runner = Runner(graph, graph.new_paged_cache(8, BLOCK))
    runner.run([Work((3,), 0, (0,), 1)])
    assert runner.times == ()
    runner.time_passes()
    runner.run([Work((3,), 0, (0,), 1)])
    calls = {time.part: time.num_calls for time in runner.times}
    num_layers = len(graph.layers)
    assert calls["attention"] == calls["qkv"] == num_layers
    assert calls["head norm"] == 2 * num_layers
    assert calls["head"] == 1
    assert all(time.nanoseconds > 0 for time in runner.times)


def decoded(graph: Decoder, num_others: int, *, is_reproducible: bool) -> Float[Tensor, " vocab"]:
    """Logits of one sequence's next token, computed beside those of others."""
    runner = Runner(graph, graph.new_paged_cache(16 * (num_others + 1), BLOCK))
    work = [Work(ids(30, seed), 0, pages(seed), 1, is_reproducible) for seed in range(num_others + 1)]
    for one in work:
        runner.run([one])
    steps = [replace(one, token_ids=(5,), past_len=30) for one in work]
    return runner.run(steps)[0][-1].clone()


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_a_fixed_way_gives_a_row_the_same_bits_in_company(quantize: str | None) -> None:
    graph = native("llama", "bfloat16", quantize)
    alone = decoded(graph, 0, is_reproducible=True)
    for num_others in (1, 2, 3):
        assert torch.equal(decoded(graph, num_others, is_reproducible=True), alone)


@pytest.mark.skipif(bool(why_none()) or not has_tiles(Type.BFLOAT16), reason="this variant has one way")
def test_the_way_that_is_fastest_gives_other_bits() -> None:
    """The positive control: products of many rows with int4 are computed in tiles of bfloat16."""
    graph = native("llama", "bfloat16", "int4")
    alone, crowd = (decoded(graph, num_others, is_reproducible=False) for num_others in (0, 47))
    assert not torch.equal(crowd, alone)
