"""Keys that were chosen for each query are those that it attends to, wherever they lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    DenseSource,
    Heads,
    PagedSource,
    PageScales,
    attend,
)
from cynosure.attention.chosen_keys import NO_KEY, allowed_keys, best_keys, by_query
from cynosure.attention.masks import Causal
from cynosure.core.errors import AttentionError
from cynosure.kernels import why_none

BLOCK = 4
LENGTHS = (1, BLOCK - 1, BLOCK, BLOCK + 1, 11)
SPEC = AttentionSpec(Heads(3, 1, 6, 5))
DICE = torch.Generator().manual_seed(5)


def _rand(*shape: int) -> Float[Tensor, "..."]:
    return torch.randn(shape, generator=DICE)


def _scene(q_lens: tuple[int, ...]) -> tuple[AttentionPlan, DenseSource, Float[Tensor, "n 3 6"]]:
    plan = AttentionPlan.of_lengths(q_lens, LENGTHS)
    source = DenseSource(_rand(sum(LENGTHS), 1, 6), _rand(sum(LENGTHS), 1, 5))
    return plan, source, _rand(sum(q_lens), 3, 6)


def _chosen(plan: AttentionPlan, num_chosen: int) -> Int[Tensor, "n num_chosen"]:
    rows = []
    for seq, grid in enumerate(plan.grids[0]):
        scores = _rand(*grid.shape)
        rows.append(best_keys(allowed_keys(plan, Causal(), seq, scores), num_chosen))
    return torch.cat(rows)


def _paged(
    plan: AttentionPlan, rows: DenseSource, dtype: torch.dtype = torch.float32
) -> tuple[AttentionPlan, PagedSource]:
    """The same keys in pages that are not in order; in int8 as codes."""
    num_blocks = sum(-(-length // BLOCK) for length in LENGTHS)
    order = torch.randperm(num_blocks, generator=DICE).tolist()
    k, v = torch.full((num_blocks, 1, BLOCK, 6), torch.nan), torch.full((num_blocks, 1, BLOCK, 5), torch.nan)
    tables, first = [], 0
    for length in LENGTHS:
        table = [order.pop() for _ in range(-(-length // BLOCK))]
        for at in range(length):
            k[table[at // BLOCK], 0, at % BLOCK] = rows.k[first + at, 0]
            v[table[at // BLOCK], 0, at % BLOCK] = rows.v[first + at, 0]
        tables.append(table + [-1] * (3 - len(table)))
        first += length
    keys = replace(plan.keys[0], block_table=torch.tensor(tables), starts=None)
    if dtype != torch.int8:
        return plan.with_keys(keys), PagedSource(k, v)
    scales = PageScales(torch.full(k.shape[:3], 0.03), torch.full(v.shape[:3], 0.03))
    codes = [(pages.nan_to_num() / 0.03).round().clamp(-127, 127).to(torch.int8) for pages in (k, v)]
    return plan.with_keys(keys), PagedSource(*codes, scales, torch.float32)


def _masked(
    plan: AttentionPlan, chosen: Int[Tensor, "n num_chosen"], q: Tensor, k: Tensor, v: Tensor
) -> Float[Tensor, "n 3 5"]:
    """What a softmax over all keys gives where those that were not chosen are hidden."""
    out, first_row, first_key = [], 0, 0
    for grid in plan.grids[0]:
        num_rows, num_keys = grid.shape
        picked: Bool[Tensor, "q k"] = torch.zeros(num_rows, num_keys, dtype=torch.bool)
        for row, own in enumerate(chosen[first_row : first_row + num_rows]):
            picked[row, own[own != NO_KEY]] = True
        keys, values = k[first_key : first_key + num_keys, 0], v[first_key : first_key + num_keys, 0]
        scores = torch.einsum("qhd,kd->hqk", q[first_row : first_row + num_rows], keys) / 6**0.5
        if grid.k_bias is not None:
            scores = scores + grid.k_bias
        shares = scores.masked_fill(~picked, float("-inf")).softmax(-1).nan_to_num()
        out.append(torch.einsum("hqk,kd->qhd", shares, values))
        first_row, first_key = first_row + num_rows, first_key + num_keys
    return torch.cat(out)


@pytest.mark.parametrize("num_chosen", [1, 3, 4, 5, 20])
@pytest.mark.parametrize("q_lens", [LENGTHS, (1, 1, 1, 1, 1), (1, 2, 1, 3, 5)])
@pytest.mark.parametrize("backend", ["reference", "tiled", *([] if why_none() else ["native"])])
def test_equals_hiding_all_others(num_chosen: int, q_lens: tuple[int, ...], backend: str) -> None:
    plan, rows, q = _scene(q_lens)
    chosen = _chosen(plan, num_chosen)
    expected = _masked(plan, chosen, q, rows.k, rows.v)
    for own_plan, source in ((plan, rows), _paged(plan, rows)):
        single, by_row = by_query(own_plan, source, chosen)
        ours = attend(SPEC, q, [single], by_row, backend=backend).out
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_all_keys_chosen_are_all_keys() -> None:
    plan, rows, q = _scene(LENGTHS)
    single, by_row = by_query(plan, rows, _chosen(plan, max(LENGTHS)))
    torch.testing.assert_close(attend(SPEC, q, [single], by_row).out, attend(SPEC, q, [rows], plan).out)


def test_codes_are_read_by_their_scales() -> None:
    plan, rows, q = _scene(LENGTHS)
    chosen = _chosen(plan, 4)
    coded_plan, coded = _paged(plan, rows, torch.int8)
    single, by_row = by_query(coded_plan, coded, chosen)
    plain = [torch.round(part / 0.03).clamp(-127, 127) * 0.03 for part in (rows.k, rows.v)]
    expected = _masked(plan, chosen, q, *plain)
    torch.testing.assert_close(attend(SPEC, q, [single], by_row).out, expected, rtol=1e-5, atol=1e-5)


def test_biases_go_with_their_keys_and_denied_ones_are_never_chosen() -> None:
    plan, rows, q = _scene(LENGTHS)
    bias = _rand(sum(LENGTHS))
    bias[[5, 14, 20]] = float("-inf")
    plan = plan.with_keys(replace(plan.keys[0], bias=bias))
    chosen = _chosen(plan, 4)
    expected = _masked(plan, chosen, q, rows.k, rows.v)
    single, by_row = by_query(plan, rows, chosen)
    torch.testing.assert_close(attend(SPEC, q, [single], by_row).out, expected, rtol=1e-5, atol=1e-5)
    for denied in (5, 14, 20):
        assert (
            denied
            not in (
                plan.keys[0].cu_seqlens[:-1].repeat_interleave(plan.queries.cu_seqlens.diff())[:, None]
                + chosen.clamp(min=0)
            )[chosen != NO_KEY]
        )


def test_the_best_are_in_order_and_hidden_keys_are_none() -> None:
    hidden = float("-inf")
    scores = torch.tensor([[0.1, 0.9, hidden, 0.5], [hidden, hidden, 0.3, hidden], [hidden] * 4])
    assert best_keys(scores, 2).tolist() == [[1, 3], [2, NO_KEY], [NO_KEY, NO_KEY]]
    assert best_keys(scores, 5).tolist()[0] == [0, 1, 3, NO_KEY, NO_KEY]


def test_what_has_no_meaning_query_by_query_is_refused() -> None:
    plan, rows, _ = _scene(LENGTHS)
    chosen = _chosen(plan, 2)
    two = DenseSource(rows.k.expand(-1, 2, -1), rows.v.expand(-1, 2, -1))
    with pytest.raises(AttentionError, match="got 2 heads"):
        by_query(plan, two, chosen)
    documents = replace(plan.keys[0], documents=torch.zeros(sum(LENGTHS), dtype=torch.int64))
    with pytest.raises(AttentionError, match="documents"):
        by_query(plan.with_keys(documents), rows, chosen)
