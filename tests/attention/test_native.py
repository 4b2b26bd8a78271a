"""What the native backend lowers to, what it refuses by name, and that `auto` takes it where it serves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    DenseSource,
    Heads,
    PagedSource,
    TopK,
    attend,
)
from cynosure.attention.attend import planned_calls
from cynosure.attention.backends import native
from cynosure.attention.backends.call import AttentionCall
from cynosure.attention.backends.choice import BACKENDS, choose
from cynosure.attention.backends.native_lowering import layout_of, lowered_for
from cynosure.attention.backends.native_masks import CellMap, interval_of, map_of
from cynosure.attention.masks import Causal, Pad, Window
from cynosure.attention.masks.parse import parse_mask
from cynosure.attention.mla import ExpandedSource
from cynosure.core.errors import UnsupportedByBackend
from cynosure.kernels import why_none
from cynosure.kernels.attention import FIRST_PARTIAL, FULL, MAX_APART, TILE_KEYS
from tests.attention.attend_cases import Case, make_case, plain_spec

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

INTERVALS = (
    "Full()",
    "Causal()",
    "Window(7)",
    "Chunk(5)",
    "Blocks(4, 1)",
    "Causal() & Window(3) & Chunk(9)",
    "Causal() & Blocks(8, 0)",
)
MAPS = (
    "~Causal()",
    "Causal() & (Window(6) | Global(2))",
    "Dilated(3, 2)",
    "Random(4, 2, 5)",
    "Window(3) | Causal()",
)


def case_of(mask: str = "Causal()", lengths: tuple[int, ...] = (9,)) -> Case:
    return make_case(plain_spec(mask), lengths, lengths, num_segments=0).to(torch.float32)


def call_of(case: Case) -> AttentionCall:
    return planned_calls(case.spec, case.q, case.sources, case.plan, weights=case.weights)[0]


def refused(case: Case) -> str:
    return "; ".join(BACKENDS["native"].refusals(call_of(case)))


@pytest.mark.parametrize("text", INTERVALS)
@given(positions=st.lists(st.integers(-40, 60), min_size=1, max_size=12))
@settings(max_examples=20)
def test_an_interval_allows_what_the_mask_allows(text: str, positions: list[int]) -> None:
    case = case_of(lengths=(12,))
    grid = case.plan.grids[0][0]
    queries = torch.tensor(positions)
    grid = replace(grid, q_positions=queries)
    interval = interval_of(parse_mask(text), queries, is_pad_told=False)
    assert interval is not None
    allowed = torch.ones(grid.shape, dtype=torch.bool)
    if interval.low is not None:
        allowed &= grid.k_positions[None] >= interval.low[:, None]
    if interval.high is not None:
        allowed &= grid.k_positions[None] <= interval.high[:, None]
    assert torch.equal(allowed, parse_mask(text).allowed(grid))


@pytest.mark.parametrize("text", MAPS)
def test_other_masks_are_no_intervals(text: str) -> None:
    assert interval_of(parse_mask(text), torch.arange(5), is_pad_told=False) is None


def test_padding_is_an_interval_only_where_its_keys_are_told() -> None:
    assert interval_of(Causal() & Pad(), torch.arange(5), is_pad_told=True) is not None
    assert interval_of(Causal() & Pad(), torch.arange(5), is_pad_told=False) is None


@pytest.mark.parametrize("text", [*INTERVALS, *MAPS])
@pytest.mark.parametrize("lengths", [(1,), (130, 0, 260), (63, 64, 65)])
def test_a_map_spells_the_mask_out(text: str, lengths: tuple[int, ...]) -> None:
    grids = case_of(lengths=lengths).plan.grids[0]
    mask = parse_mask(text)
    cells = map_of(mask, grids)
    assert isinstance(cells, CellMap)
    for grid, offset in zip(grids, cells.offsets.tolist(), strict=True):
        num_rows, num_keys = grid.shape
        columns = -(-num_keys // TILE_KEYS)
        spelt = torch.zeros(num_rows, num_keys, dtype=torch.bool)
        for row in range(num_rows):
            for column in range(columns):
                cover = int(cells.blocks[offset + row // cells.rows * columns + column])
                part = spelt[row, column * TILE_KEYS : (column + 1) * TILE_KEYS]
                if cover >= FIRST_PARTIAL:
                    part[:] = cells.cells[cover - FIRST_PARTIAL, row % cells.rows, : part.numel()].bool()
                else:
                    part[:] = cover == FULL
        assert torch.equal(spelt, mask.allowed(grid))


def test_it_refuses_by_name() -> None:
    case = case_of()
    assert refused(case) == ""
    assert "float64" in refused(case.to(torch.float64))
    assert "selection" in refused(replace(case, spec=replace(case.spec, selection=TopK(2))))
    apart = replace(case.plan.keys[0], positions=torch.arange(9) * MAX_APART)
    assert "apart" in refused(replace(case, plan=case.plan.with_keys(apart)))
    turned = replace(case, k=case.k.transpose(1, 2).contiguous().transpose(1, 2))
    assert "side by side" in refused(turned)
    with pytest.raises(UnsupportedByBackend, match="native can't do this: a selection"):
        replace(case, spec=replace(case.spec, selection=TopK(2))).attend("native")


def test_a_mask_with_too_many_cells_is_left_to_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cynosure.attention.backends.native_masks.MAX_CELLS", 1000)
    case = case_of("~Causal()", (300,))
    assert "would have to be spelt out" in refused(case)
    assert choose(call_of(case_of("~Causal()", (300,)))).name == "sdpa"
    assert refused(case_of("Causal() & Window(5)", (300,))) == ""


def test_keys_that_are_made_when_read_are_refused() -> None:
    rows = DenseSource(torch.randn(5, 1, 12), torch.randn(5, 1, 0))
    source = ExpandedSource(rows, torch.randn(3, 4, 8), torch.randn(3, 6, 8))
    spec, q = AttentionSpec(Heads(3, 3, 8, 6)), torch.randn(5, 3, 8)
    call = planned_calls(spec, q, [source], AttentionPlan.of_lengths([5]))[0]
    assert "ExpandedSource" in "; ".join(BACKENDS["native"].refusals(call))


def test_no_kernels_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "why_none", lambda: "nothing was compiled")
    assert refused(case_of()) == "nothing was compiled"


def test_auto_takes_it_where_it_serves() -> None:
    for text in (*INTERVALS, *MAPS):
        assert choose(call_of(case_of(text))).name == "native"
    assert choose(call_of(case_of().to(torch.float64))).name == "sdpa"


def test_layers_of_a_pass_share_the_choice_and_the_lowering() -> None:
    case = case_of()
    first, second = call_of(case), call_of(replace(case, q=case.q + 1))
    assert choose(first) is choose(second)
    assert lowered_for(first) is lowered_for(second)
    assert layout_of(first) is layout_of(second)
    other = call_of(replace(case, spec=replace(case.spec, mask=Window(3))))
    assert lowered_for(other) is not lowered_for(first)
    turned = replace(case, k=case.k.transpose(1, 2).contiguous().transpose(1, 2))
    assert choose(call_of(turned)).name == "sdpa"


def test_queries_may_be_a_part_of_wider_rows() -> None:
    case = case_of()
    wide = torch.randn(9, 6, 8)
    part = replace(case, q=wide[:, 1:5])
    whole = replace(case, q=wide[:, 1:5].contiguous())
    assert torch.equal(part.attend("native").out, whole.attend("native").out)
    turned = replace(case, q=case.q.transpose(1, 2).contiguous().transpose(1, 2))
    assert torch.equal(turned.attend("native").out, case.attend("native").out)


def test_what_no_sequence_has_written_is_not_read() -> None:
    pages = torch.full((4, 2, 32, 8), float("nan"), dtype=torch.bfloat16)
    pages[2] = 1.0
    pages[1, :, :3] = 1.0
    plan = AttentionPlan.of_lengths([2], [35])
    plan = plan.with_keys(replace(plan.keys[0], block_table=torch.tensor([[2, 1, -1]])))
    q = torch.randn(2, 4, 8).bfloat16()
    out = attend(plain_spec(), q, [PagedSource(pages, pages)], plan, backend="native").out
    torch.testing.assert_close(out, torch.ones_like(out))
