"""The quick way to average shares gives what the plain one does, at the edges too."""

from __future__ import annotations

import numpy as np
import pytest

from cynosure.models.watching import LayerSeen, PassWatch, WatchedRows, any_shares_of, shares_of

HEADS = ((0, (1, 2)), (2, (0,)))
FOLDS = ((0.5, -1.0, 2.0), (0.0, 0.0, 1.0))


def part(sequence: int, rows: tuple[int, ...], num_segments: int, **options: object) -> WatchedRows:
    given = {"heads": HEADS, "folds": (), **options}
    return WatchedRows(sequence, rows, ((0, 0, 9),), num_segments, **given)  # type: ignore[arg-type]


CASES = {
    "one row": [part(0, (3,), 5)],
    "one row and its folds": [part(0, (3,), 5, folds=FOLDS)],
    "several rows": [part(0, (3, 4, 7), 5, folds=FOLDS)],
    "sequences of other heads": [
        part(0, (3,), 5, folds=FOLDS),
        part(1, (4, 5), 2),
        part(3, (8,), 4, heads=((2, (0,)),), folds=((3.0,),)),
    ],
}


def seen_of(
    watch: PassWatch, seed: int = 0, scale: float = 3.0, *, has_sinks: bool = False
) -> dict[int, LayerSeen]:
    dice = np.random.default_rng(seed)
    rows, segments = len(watch.rows), watch.num_segments
    seen = {}
    for layer, heads in watch.heads:
        mass = dice.normal(0, scale, (rows, len(heads), segments)).astype(np.float32)
        # A segment without keys, and those that a sequence does not have.
        mass[..., 1] = -np.inf
        row = 0
        for one in watch.parts:
            mass[row : row + len(one.rows), :, one.num_segments :] = -np.inf
            row += len(one.rows)
        mean = dice.normal(size=(rows, len(heads))).astype(np.float32)
        sink = dice.normal(size=(rows, len(heads))).astype(np.float32) if has_sinks else None
        seen[layer] = LayerSeen(mass, mean, sink)
    return seen


@pytest.mark.parametrize("scale", [0.0, 3.0, 300.0])
@pytest.mark.parametrize("name", CASES)
def test_the_quick_way_gives_what_the_plain_one_does(name: str, scale: float) -> None:
    watch = PassWatch(tuple(CASES[name]))
    seen = seen_of(watch, scale=scale)
    quick, plain = shares_of(watch, seen), any_shares_of(watch, seen)
    np.testing.assert_allclose(quick.mass, plain.mass, atol=1e-6)
    np.testing.assert_allclose(quick.entropy_bits, plain.entropy_bits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(quick.sink, plain.sink)
    assert [one.shape for one in quick.folds] == [one.shape for one in plain.folds]
    for one, other in zip(quick.folds, plain.folds, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(quick.mass.sum(-1), 1, atol=1e-5)


def test_sinks_and_heads_that_see_nothing_go_the_plain_way() -> None:
    watch = PassWatch((part(0, (3,), 5, folds=FOLDS),))
    with_sinks = seen_of(watch, has_sinks=True)
    told = shares_of(watch, with_sinks)
    assert 0 < told.sink[0] < 1
    assert told.mass.sum() + told.sink[0] == pytest.approx(1, abs=1e-5)
    blind = seen_of(watch)
    blind[0].mass_lse[:, 0] = -np.inf
    assert shares_of(watch, blind).mass.sum() == pytest.approx(2 / 3, abs=1e-5)
