"""The kernels fold watched heads as numpy does: ragged rows, folds of some rows, heads that see nothing."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from cynosure.kernels import why_none
from cynosure.kernels.watch_fold import CWatchFold, struct_size
from cynosure.models.native.seen import SeenInRoom
from cynosure.models.watching import PassWatch, WatchedRows, any_shares_of, shares_of

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

HEADS = ((0, (1, 2)), (2, (0,)), (5, (0, 1, 3)))
FOLDS = ((0.5, -1.0, 2.0, 0.0, 0.25, 1.0), (0.0,) * 6)


def seen_by(watch: PassWatch, seed: int = 0) -> SeenInRoom:
    num_heads = sum(len(heads) for _, heads in watch.heads)
    num_masses = len(watch.rows) * num_heads * watch.num_segments
    dice = np.random.default_rng(seed)
    room = dice.normal(scale=4, size=num_masses + len(watch.rows) * num_heads).astype(np.float32)
    # Segments that nothing was seen of, as of what is not generated yet.
    room[:num_masses][dice.random(num_masses) < 0.2] = -np.inf
    room[:num_masses].reshape(-1, watch.num_segments)[:, 0] = 1.0
    return SeenInRoom(watch, room)


def watch_of(*parts: WatchedRows) -> PassWatch:
    return PassWatch(parts)


ALONE = watch_of(WatchedRows(0, (4,), ((0, 0, 5),), 1, HEADS))
SEVERAL = watch_of(
    WatchedRows(0, (0, 3), ((0, 0, 5),), 17, HEADS, FOLDS),
    WatchedRows(2, (7,), ((0, 0, 5),), 2, ((2, (0,)), (5, (1,))), ((1.0, -3.0),)),
    WatchedRows(3, (9,), ((0, 0, 5),), 3, HEADS),
)


@pytest.mark.parametrize("watch", [ALONE, SEVERAL], ids=["alone", "several"])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_numpy_gives(watch: PassWatch, seed: int) -> None:
    seen = seen_by(watch, seed)
    assert seen.folded(watch) is not None
    told, expected = shares_of(watch, seen), any_shares_of(watch, dict(seen))
    np.testing.assert_allclose(told.mass, expected.mass, atol=1e-6)
    np.testing.assert_allclose(told.entropy_bits, expected.entropy_bits, atol=1e-5)
    np.testing.assert_array_equal(told.sink, 0)
    assert len(told.folds) == len(expected.folds)
    for ours, theirs in zip(told.folds, expected.folds, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # The control: other numbers give others.
    assert np.abs(shares_of(watch, seen_by(watch, seed + 9)).mass - told.mass).max() > 1e-3 or watch is ALONE


def test_a_head_that_sees_nothing_is_left_to_numpy() -> None:
    seen = seen_by(SEVERAL)
    next(iter(seen.values())).mass_lse[1, 0] = -np.inf
    assert seen.folded(SEVERAL) is None
    told, expected = shares_of(SEVERAL, seen), any_shares_of(SEVERAL, dict(seen))
    np.testing.assert_array_equal(told.mass, expected.mass)


def test_the_struct_is_the_library_s() -> None:
    assert struct_size() == ctypes.sizeof(CWatchFold)
