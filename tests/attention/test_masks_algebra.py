"""Check the laws of `&`, `|` and `~` on masks. Knows nothing of what primitives look at."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cynosure.attention.grid import Grid
from cynosure.attention.masks import (
    And,
    Causal,
    Full,
    Global,
    Mask,
    Not,
    Or,
    Prefix,
    Random,
    Window,
    parse_mask,
)
from tests.attention.mask_cases import (
    Expression,
    built,
    expressions,
    grids,
    lies,
    naive,
    ordinary_grid,
    true_covers,
)

BLOCKS = st.integers(1, 9)


@given(expressions, grids())
@settings(max_examples=200)
def test_an_expression_allows_what_its_loop_allows(expression: Expression, grid: Grid) -> None:
    mask = built(expression)
    assert torch.equal(mask.allowed(grid), naive(mask, grid))


@given(expressions, grids(), BLOCKS, BLOCKS)
@settings(max_examples=300)
def test_the_block_map_of_an_expression_never_lies(
    expression: Expression, grid: Grid, q_block: int, kv_block: int
) -> None:
    mask = built(expression)
    covers = mask.block_map(grid, q_block, kv_block)
    assert lies(covers.tolist(), true_covers(mask.allowed(grid), q_block, kv_block)) == []


@given(expressions, expressions, grids())
@settings(max_examples=100)
def test_de_morgan(first: Expression, second: Expression, grid: Grid) -> None:
    a, b = built(first), built(second)
    for left, right in ((~(a & b), ~a | ~b), (~(a | b), ~a & ~b)):
        assert torch.equal(left.allowed(grid), right.allowed(grid))
        assert torch.equal(left.block_map(grid, 3, 4), right.block_map(grid, 3, 4))


@given(expressions, expressions, expressions, grids())
@settings(max_examples=100)
def test_distribution_and_identities(
    first: Expression, second: Expression, third: Expression, grid: Grid
) -> None:
    a, b, c = built(first), built(second), built(third)
    pairs = (
        (a & (b | c), (a & b) | (a & c)),
        (a | (b & c), (a | b) & (a | c)),
        (a & b, b & a),
        (a & Full(), a),
        (a | ~Full(), a),
        (a | ~a, Full()),
    )
    for left, right in pairs:
        assert torch.equal(left.allowed(grid), right.allowed(grid))


def test_nested_operators_are_flat() -> None:
    a, b, c, d = Causal(), Window(3), Global(2), Prefix()
    assert (a & b) & (c & d) == And((a, b, c, d))
    assert a | (b | (c | d)) == Or((a, b, c, d))
    assert (a & b) | c == Or((And((a, b)), c))
    assert ~~a == a
    assert ~(a & b) == Not(And((a, b)))


def test_an_expression_is_a_value() -> None:
    def mask() -> Mask:
        return Causal() & (Window(4096) | Global(4))

    assert {mask(): "layer"}[mask()] == "layer"
    assert mask() != Causal() & (Window(4095) | Global(4))
    assert Window(3) != Global(3)
    with pytest.raises(AttributeError):
        Window(3).size = 4  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "text",
    [
        "Causal() & (Window(4096) | Global(4))",
        "~(Causal() | Prefix())",
        "(Causal() & ~Document()) | Tree() | Pad()",
        "Random(64, 3, 7)",
        "Random(64, 3, 7, is_causal=False) & Blocks(64, 1) & Dilated(2, 3) & Chunk(5) & Full()",
    ],
)
def test_a_mask_prints_as_its_expression(text: str) -> None:
    assert repr(parse_mask(text)) == text


@given(expressions)
def test_what_a_mask_prints_as_it_is_read_as(expression: Expression) -> None:
    mask = built(expression)
    assert parse_mask(repr(mask)) == mask


def test_only_masks_compose() -> None:
    with pytest.raises(TypeError):
        Causal() & 3  # pyright: ignore[reportOperatorIssue]


def test_an_unsound_not_would_be_found() -> None:
    """The control: taking the block map of the mask for that of its opposite is a lie."""
    grid = ordinary_grid(20, 20)
    mask = Causal() & Random(2, 1, 5)
    assert lies(mask.block_map(grid, 3, 3).tolist(), true_covers((~mask).allowed(grid), 3, 3))
