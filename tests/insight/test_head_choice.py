"""Heads that are watched unasked: whole layers of the right depth, and never more than the limit."""

from __future__ import annotations

import pytest

from cynosure.insight.head_choice import HeadChoice, coverage_of, default_heads


@pytest.mark.parametrize(
    ("num_heads", "full_layers", "layers", "count"),
    [
        ([4], [0], {0}, 4),
        ([4, 4], [0, 1], {1}, 4),
        ([14] * 24, range(24), {15, 16}, 28),
        ([32] * 16, range(16), {10}, 32),
        ([64] * 12, range(12), {7}, 32),
        # One layer in six sees everything, as in Gemma 3.
        ([8] * 18, [5, 11, 17], {11}, 8),
        ([8] * 6, [], {3, 4}, 16),
        # Layers without heads keep a state instead.
        ([0, 0, 0, 8], [0, 1, 2, 3], {3}, 8),
    ],
)
def test_layers_around_two_thirds(
    num_heads: list[int], full_layers: range | list[int], layers: set[int], count: int
) -> None:
    choice = default_heads(num_heads, list(full_layers))
    assert {layer for layer, _ in choice.heads} == layers
    assert len(choice.heads) == count == len(set(choice.heads))
    assert list(choice.heads) == sorted(choice.heads)
    assert all(head < num_heads[layer] for layer, head in choice.heads)
    assert f"{count} heads" in choice.reason


def test_a_wide_layer_is_sampled_evenly() -> None:
    assert default_heads([64], [0], limit=4).heads == ((0, 0), (0, 16), (0, 32), (0, 48))


def test_coverage_admits_what_was_not_watched() -> None:
    coverage = coverage_of(HeadChoice(((1, 0), (1, 1), (2, 0)), "so"), [4, 4, 4], 5, 20)
    assert (coverage.heads, coverage.layers, coverage.tokens) == (0.25, pytest.approx(2 / 3), 0.25)
    assert coverage_of(HeadChoice(((0, 0),), "so"), [1], 0, 0).tokens == 0.0
