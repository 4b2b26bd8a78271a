"""Hold every variant of the attention kernels against the scalar twin, on whatever a call may hold."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionWeights,
    DenseSource,
    Heads,
    LogN,
    PagedSource,
    PageScales,
    Score,
    Source,
    Watch,
)
from cynosure.attention.attend import planned_calls
from cynosure.attention.backends import native
from cynosure.attention.backends.call import AttentionCall
from cynosure.attention.backends.choice import BACKENDS
from cynosure.attention.masks import Causal, Global, Window
from cynosure.attention.masks.parse import parse_mask
from cynosure.attention.positions import Alibi, NoPosition, T5Bias
from cynosure.attention.state import AttentionState
from cynosure.kernels import attention, kernels, why_none

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

EDGES = (0, 1, 15, 16, 17, 31, 32, 33, 127, 128, 129, 160)
MASKS = ("Causal()", "Full()", "Causal() & Window(40)", "Causal() & Chunk(50)", "Blocks(32, 1)")
MAPPED = ("Causal() & (Window(40) | Global(2))", "~Causal()", "Causal() & Dilated(20, 3)")
BLOCK = 32


@dataclass(frozen=True)
class Drawn:
    """One call, drawn from a seed."""

    spec: AttentionSpec
    q: Tensor
    source: Source
    plan: AttentionPlan
    weights: AttentionWeights

    def call(self, watch: Watch | None = None) -> AttentionCall:
        """Return what the backend gets."""
        return planned_calls(self.spec, self.q, [self.source], self.plan, weights=self.weights, watch=watch)[
            0
        ]

    def run(self, watch: Watch | None = None) -> AttentionState:
        """Attend on the kernels."""
        call = self.call(watch)
        assert not BACKENDS["native"].refusals(call)
        return BACKENDS["native"].run(call)


def draw(seed: int, kind: str = "float32") -> Drawn:
    """Draw ragged lengths, widths, terms and masks; `kind` is the type of keys, `int8` for codes."""
    random = torch.Generator().manual_seed(seed)

    def pick(*options):  # noqa: ANN002, ANN202
        return options[int(torch.randint(len(options), (), generator=random))]

    num_kv_heads, group = pick((1, 1), (2, 7), (3, 1), (1, 20), (2, 2))
    num_heads, width = num_kv_heads * group, pick(8, 20, 64, 96)
    v_width = pick(width, width, 12, 33)
    position = pick(NoPosition(), NoPosition(), Alibi(num_heads), T5Bias(8, 16, True))
    score = Score(pick(None, 0.3, -0.2), pick(None, None, 3.0), pick(None, None, LogN(4)))
    mask = parse_mask(pick(*MASKS, *MASKS, *MAPPED))
    spec = AttentionSpec(Heads(num_heads, num_kv_heads, width, v_width), mask, position, score)
    kv_lens = [pick(*EDGES) for _ in range(pick(1, 2, 3))]
    q_lens = [pick(length, min(1, length), min(5, length)) for length in kv_lens]
    segments = [sorted(pick(0, 1, 2, 3) for _ in range(length)) for length in kv_lens]
    plan = replace(AttentionPlan.of_lengths(q_lens, kv_lens, segments=segments), num_segments=4)
    bias = torch.randn(sum(kv_lens), generator=random) if pick(True, False, False) else None
    dtype = {"int8": pick(torch.bfloat16, torch.float32)}.get(kind) or getattr(torch, kind)
    source, keys = pages(plan.keys[0], num_kv_heads, (width, v_width), kind, dtype, random)
    table = torch.randn(8, num_heads, generator=random)
    dense = (
        torch.randn(num_heads, max(q_lens), max(kv_lens), generator=random)
        if pick(True, False, False)
        else None
    )
    return Drawn(
        spec,
        torch.randn(sum(q_lens), num_heads, width, generator=random).to(dtype),
        source,
        plan.with_keys(replace(keys, bias=bias)),
        AttentionWeights(position_table=table if isinstance(position, T5Bias) else None, bias=dense),
    )


def pages(keys, num_heads: int, widths: tuple[int, int], kind: str, dtype: torch.dtype, random):  # noqa: ANN001, ANN201
    """Return pages in a random order, or rows for every other call, and the plan that finds them."""
    lens = [stop - start for start, stop in zip(keys.offsets, keys.offsets[1:], strict=False)]
    if kind != "int8" and int(torch.randint(2, (), generator=random)):
        k, v = (torch.randn(sum(lens), num_heads, width, generator=random).to(dtype) for width in widths)
        return DenseSource(k, v), keys
    counts = [-(-length // BLOCK) for length in lens]
    order = torch.randperm(sum(counts) + 1, generator=random).tolist()
    longest = max([*counts, 1])
    rows = [[order.pop() for _ in range(count)] for count in counts]
    table = torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows])
    numbers = [torch.randn(sum(counts) + 1, num_heads, BLOCK, width, generator=random) for width in widths]
    keys = replace(keys, block_table=table)
    if kind == "int8":
        codes = [(number * 40).round().clamp(-127, 127).to(torch.int8) for number in numbers]
        scales = [torch.rand(number.shape[:3], generator=random) / 40 for number in numbers]
        return PagedSource(*codes, PageScales(*scales), dtype), keys
    for number, row, length in ((n, r, c) for n in numbers for r, c in zip(rows, lens, strict=True)):
        # What no sequence has written may be anything.
        if length % BLOCK:
            number[row[-1], :, length % BLOCK :] = math.nan
    return PagedSource(*(number.to(dtype) for number in numbers)), keys


def by_twin(drawn: Drawn, watch: Watch | None = None) -> AttentionState:
    """Attend by the scalar twin, through the same lowering."""
    before = native.attend
    native.attend = attention.attend_plain
    try:
        return drawn.run(watch)
    finally:
        native.attend = before


def test_the_struct_is_the_librarys_own() -> None:
    assert ctypes.sizeof(attention.CAttentionCall) == attention.struct_size()


WATCH = Watch(entropy=True, max_logit=True)
TOLERANCE = {"float32": 3e-5, "float16": 3e-5, "bfloat16": 3e-2, "int8": 3e-2}


@lru_cache(maxsize=256)
def drawn_and_exact(seed: int, kind: str) -> tuple[Drawn, AttentionState]:
    """Draw a call and let the twin compute it, once for all variants."""
    drawn = draw(seed, kind)
    return drawn, by_twin(drawn, WATCH)


@pytest.mark.parametrize("kind", list(TOLERANCE))
def test_ragged_calls_equal_the_scalar_twin(variant: str, kind: str) -> None:
    assert variant
    for seed in range(16):
        drawn, exact = drawn_and_exact(seed, kind)
        ours = drawn.run(WATCH)
        note = f"seed {seed}: {drawn.spec}"
        limit = TOLERANCE[kind]
        near(ours.out, exact.out, limit, note)
        near(ours.lse, exact.lse, limit, note)
        near(ours.shares, exact.shares, limit, note)
        assert ours.stats is not None
        assert exact.stats is not None
        near(ours.stats.max_logit, exact.stats.max_logit, limit, note)
        near(ours.entropy, exact.entropy, 40 * limit, note)


def near(ours: Tensor | None, exact: Tensor | None, limit: float, note: str) -> None:
    assert ours is not None
    torch.testing.assert_close(ours, exact, atol=limit, rtol=limit, msg=lambda text: f"{note}\n{text}")


def test_the_twin_would_notice_a_window_that_is_off_by_one() -> None:
    spec = AttentionSpec(Heads.of(2, 8), Causal() & Window(40))
    drawn = replace(draw(0), spec=spec, plan=AttentionPlan.of_lengths([129]), weights=AttentionWeights())
    drawn = replace(drawn, q=torch.randn(129, 2, 8), source=DenseSource(*torch.randn(2, 129, 2, 8)))
    wrong = replace(drawn, spec=replace(spec, mask=Causal() & Window(41)))
    assert float((wrong.run().out - by_twin(drawn).out).abs().max()) > 1e-2


def long_call(dtype: torch.dtype, q_lens: list[int], kv_lens: list[int]) -> Drawn:
    """Return a call whose keys are split among threads."""
    plan = AttentionPlan.of_lengths(q_lens, kv_lens, segments=[[i // 200 for i in range(n)] for n in kv_lens])
    q, k = torch.randn(sum(q_lens), 6, 32), torch.randn(2, sum(kv_lens), 2, 32)
    spec = AttentionSpec(Heads.of(6, 32, 2), Causal())
    return Drawn(spec, q.to(dtype), DenseSource(*k.to(dtype)), plan, AttentionWeights())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("threads")
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    drawn = long_call(dtype, [1, 70], [1500, 700])
    kernels().set_num_threads(1)
    alone = drawn.run(WATCH)
    for num_threads in range(2, 9):
        kernels().set_num_threads(num_threads)
        for _ in range(3):
            assert_same_bits(drawn.run(WATCH), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_company_in_the_batch_changes_no_bit(variant: str, dtype: torch.dtype) -> None:
    assert variant
    drawn = long_call(dtype, [1, 70, 3], [900, 300, 33])
    whole = drawn.run()
    for seq, (num_q, num_keys) in enumerate(zip([1, 70, 3], [900, 300, 33], strict=True)):
        first, start = drawn.plan.queries.offsets[seq], drawn.plan.keys[0].offsets[seq]
        plan = AttentionPlan.of_lengths([num_q], [num_keys], starts=[start])
        alone = replace(drawn, q=drawn.q[first : first + num_q], plan=plan).run()
        assert_same_bits(
            alone, AttentionState(whole.out[first : first + num_q], whole.lse[first : first + num_q])
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", ["Causal()", "Causal() & (Window(300) | Global(2))"])
def test_watching_changes_no_bit(variant: str, dtype: torch.dtype, mask: str) -> None:
    assert variant
    drawn = long_call(dtype, [1, 70], [1500, 300])
    drawn = replace(drawn, spec=replace(drawn.spec, mask=parse_mask(mask)))
    plain = drawn.run()
    for watch in (Watch(), WATCH, Watch(heads=(4, 1)), Watch(top_k=3)):
        seen = drawn.run(watch)
        assert_same_bits(AttentionState(seen.out, seen.lse), plain)
        torch.testing.assert_close(seen.shares.sum(-1), torch.ones(seen.shares.shape[:2]), atol=1e-5, rtol=0)


def assert_same_bits(a: AttentionState, b: AttentionState) -> None:
    assert torch.equal(a.out, b.out)
    assert torch.equal(a.lse, b.lse)
    if a.stats is not None and b.stats is not None:
        assert torch.equal(a.shares, b.shares)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "change",
    [
        lambda q, k, v: k.mul_(1e-42),
        lambda q, k, v: q.mul_(1e20),
        lambda q, k, v: v.fill_(1e36),
        lambda q, k, v: k[0, 0].fill_(-math.inf),
    ],
    ids=["denormal keys", "large scores", "large values", "an infinite key"],
)
def test_strange_numbers_are_treated_as_plain_torch_does(
    variant: str, dtype: torch.dtype, change: Callable[[Tensor, Tensor, Tensor], object]
) -> None:
    assert variant
    q, k, v = (torch.rand(n, 2, 16).to(dtype) for n in (3, 40, 40))
    change(q, k, v)
    plan = AttentionPlan.of_lengths([3], [40])
    drawn = Drawn(AttentionSpec(Heads.of(2, 16)), q, DenseSource(k, v), plan, AttentionWeights())
    expected = BACKENDS["reference"].run(drawn.call())
    torch.testing.assert_close(drawn.run().out, expected.out, atol=1e-2, rtol=1e-2, equal_nan=True)


def test_nan_stays_with_the_rows_that_see_it(variant: str) -> None:
    assert variant
    for dtype in (torch.float32, torch.bfloat16):
        q, k, v = torch.randn(3, 50, 2, 16).to(dtype)
        k[30, 1] = math.nan
        plan = AttentionPlan.of_lengths([50])
        out = Drawn(AttentionSpec(Heads.of(2, 16)), q, DenseSource(k, v), plan, AttentionWeights()).run().out
        assert out[30:, 1].isnan().all()
        assert out[:30].isfinite().all()
        assert out[:, 0].isfinite().all()


def test_the_widths_of_latent_attention(variant: str) -> None:
    """Absorbed MLA: one K/V head of 576 channels whose first 512 are the values."""
    assert variant
    for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        rows = torch.randn(6, 1, BLOCK, 576).to(dtype)
        plan = AttentionPlan.of_lengths([1, 2], [130, 20])
        table = torch.tensor([[3, 0, 5, 1, 2], [4, -1, -1, -1, -1]])
        plan = plan.with_keys(replace(plan.keys[0], block_table=table))
        source = PagedSource(rows, rows[..., :512])
        q = torch.randn(3, 16, 576).to(dtype)
        drawn = Drawn(AttentionSpec(Heads(16, 1, 576, 512)), q, source, plan, AttentionWeights())
        near(drawn.run().out, by_twin(drawn).out, limit, "latent rows")


def test_a_map_spans_several_blocks_of_rows_and_keys(variant: str) -> None:
    assert variant
    drawn = long_call(torch.float32, [150], [700])
    for mask in (Causal() & (Window(100) | Global(3)), Causal() & Window(100)):
        call = replace(drawn, spec=replace(drawn.spec, mask=mask))
        near(call.run(WATCH).out, by_twin(call, WATCH).out, 1e-5, repr(mask))


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_rows_are_watched_alone(variant: str, kind: str) -> None:
    """Some rows of a call, in any order, tell what they tell among all; the outputs are the same bits."""
    assert variant
    for seed in range(12):
        drawn = draw(seed, kind)
        num_rows = drawn.q.shape[0]
        whole = drawn.run(WATCH)
        table = torch.full((num_rows,), attention.NOT_WATCHED, dtype=torch.int64)
        rows = torch.arange(num_rows)[seed % 2 :: 3].flip(0)
        table[rows] = torch.arange(rows.numel())
        for run in (attention.attend, attention.attend_plain):
            some = with_rows(drawn, table, run)
            assert whole.stats is not None
            assert some.stats is not None
            for name in ("mass_lse", "mean_score"):
                ours, all_rows = vars(some.stats)[name], vars(whole.stats)[name]
                near(ours[: rows.numel()], all_rows[rows], 10 * TOLERANCE[kind], f"seed {seed}: {name}")
            if run is attention.attend:
                assert_same_bits(AttentionState(some.out, some.lse), AttentionState(whole.out, whole.lse))


def with_rows(drawn: Drawn, table: Tensor, run: Callable[[attention.CAttentionCall], None]) -> AttentionState:
    def attend(struct: attention.CAttentionCall) -> None:
        struct.watched_rows = table.data_ptr()
        run(struct)

    before = native.attend
    native.attend = attend
    try:
        return drawn.run(WATCH)
    finally:
        native.attend = before
