"""The kernels find the largest logit as torch does, also among equals, infinities and NaN."""

from __future__ import annotations

import math

import pytest
import torch

from cynosure.engine.largest import largest, stacked

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("vocab_size", [1, 2, 15, 16, 17, 33, 4095, 4096, 4097, 150_001])
@pytest.mark.parametrize("num_rows", [0, 1, 5])
def test_it_is_what_torch_finds(vocab_size: int, num_rows: int) -> None:
    torch.manual_seed(vocab_size)
    logits = torch.randn(num_rows, vocab_size)
    ids, highest = largest(logits)
    assert ids == logits.argmax(-1).tolist()
    assert highest == logits.amax(-1).tolist()


@pytest.mark.parametrize("vocab_size", [40, 9000])
def test_the_first_of_equals_is_taken(vocab_size: int) -> None:
    logits = torch.zeros(3, vocab_size)
    logits[1, [7, 20, vocab_size - 1]] = 1.0
    logits[2, vocab_size - 1] = 1.0
    assert largest(logits) == ([0, 7, vocab_size - 1], [0.0, 1.0, 1.0])


@pytest.mark.parametrize("place", [0, 16, 31, 5000, 8999])
def test_nan_and_infinities(place: int) -> None:
    logits = torch.randn(4, 9000)
    logits[0, place] = NAN
    logits[1, place] = INF
    logits[2, place] = -INF
    logits[3] = -INF
    ids, highest = largest(logits)
    assert math.isnan(highest[0])
    assert (ids[1], highest[1]) == (place, INF)
    assert (ids[2], highest[2]) == (int(logits[2].argmax()), float(logits[2].max()))
    assert highest[3] == -INF


def test_rows_apart_are_read_where_they_lie() -> None:
    wide = torch.randn(3, 200)
    assert largest(wide[:, 50:150])[0] == wide[:, 50:150].argmax(-1).tolist()
    assert largest(wide.double())[0] == wide.argmax(-1).tolist()


def test_neighbours_are_not_copied() -> None:
    logits = torch.randn(5, 30)
    whole = stacked(list(logits[1:4]))
    assert whole.data_ptr() == logits[1].data_ptr()
    assert torch.equal(whole, logits[1:4])


@pytest.mark.parametrize("places", [[0, 2], [2, 1], [3, 3], [4]])
def test_any_rows_are_stacked(places: list[int]) -> None:
    logits = torch.randn(5, 30)
    assert torch.equal(stacked([logits[place] for place in places]), logits[places])
    strided = torch.randn(30, 5).T
    assert torch.equal(stacked([strided[place] for place in places]), strided[places])
    strange = [torch.randn(30), torch.randn(30)]
    assert torch.equal(stacked(strange), torch.stack(strange))
