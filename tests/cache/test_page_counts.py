from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cynosure.cache import LayerShape, PageNeeds, bytes_per_block, page_counts

FULL, LOCAL = LayerShape(1, 8, 8), LayerShape(1, 8, 8, window=64)
NEEDS = PageNeeds(block_size=32, max_model_len=32768, max_num_seqs=8, max_step=256)
PAGE = bytes_per_block([FULL], torch.float32, 32)
MIX = [FULL, LOCAL, LOCAL, LOCAL]


def taken(layers: list[LayerShape], memory: int, needs: PageNeeds = NEEDS) -> int:
    counts = page_counts(memory, layers, torch.float32, needs)
    kept = sum(PAGE for layer in layers if layer.window not in counts.windows)
    return counts.num_blocks * kept + sum(
        PAGE * (1 + counts.windows[layer.window])
        for layer in layers
        if layer.window is not None and layer.window in counts.windows
    )


def test_without_windows_it_is_what_fits() -> None:
    counts = page_counts(10 * 2 * PAGE + 5, [FULL, FULL], torch.float32, NEEDS)
    assert (counts.num_blocks, counts.windows) == (10, {})
    assert page_counts(PAGE, [FULL, FULL], torch.float32, NEEDS).num_blocks == 0


def test_a_window_that_no_sequence_outgrows_is_kept_whole() -> None:
    """A window of 64 and chunks of 256 touch 11 pages."""
    assert NEEDS.max_held(64) == 11
    for length, windows in ((11 * 32, {}), (11 * 32 + 1, {64: 100})):
        counts = page_counts(400 * PAGE, MIX, torch.float32, replace(NEEDS, max_model_len=length))
        assert bool(counts.windows) == bool(windows)


@pytest.mark.parametrize("memory", [4, 44, 400, 4_000, 40_000, 400_000])
@pytest.mark.parametrize("layers", [MIX, [*MIX, LayerShape(1, 8, 8, window=600)]])
def test_there_are_never_fewer_blocks_and_the_memory_is_never_passed(
    memory: int, layers: list[LayerShape]
) -> None:
    num_zeros = sum(layer.window is not None for layer in layers)
    plain = (memory - num_zeros) // len(layers)
    counts = page_counts(memory * PAGE, layers, torch.float32, NEEDS)
    assert counts.num_blocks >= plain
    assert taken(layers, memory * PAGE) <= memory * PAGE
    assert all(min(plain // 2, 8 * 11) <= count <= max(1, plain) for count in counts.windows.values())


@pytest.mark.parametrize(
    ("num_layers", "room", "max_num_seqs", "num_pages", "num_blocks"),
    [
        # A window in half of the layers: half of the 400 pages stay with them.
        (1, 800, 64, 200, 600),
        # Two sequences hold 22 at most; every fourth of the blocks has one.
        (1, 800, 2, 160, 640),
        # Most layers have a window: every fourth block has more than half of the 100 pages.
        (7, 800, 64, 72, 296),
        # What one sequence holds, where half were less.
        (1, 36, 64, 11, 25),
    ],
)
def test_what_is_left_to_blocks(
    num_layers: int, room: int, max_num_seqs: int, num_pages: int, num_blocks: int
) -> None:
    layers, needs = [FULL] + [LOCAL] * num_layers, replace(NEEDS, max_num_seqs=max_num_seqs)
    counts = page_counts((num_layers + room) * PAGE, layers, torch.float32, needs)
    assert (counts.windows[64], counts.num_blocks) == (num_pages, num_blocks)


def test_blocks_of_windows_alone_cost_nothing() -> None:
    layers = [LOCAL, LOCAL]
    few = page_counts(2 * 31 * PAGE, layers, torch.float32, NEEDS)
    assert (few.windows, few.num_blocks) == ({64: 30}, 2 * 1024)
    many = page_counts(2 * 30_001 * PAGE, layers, torch.float32, NEEDS)
    assert (many.windows, many.num_blocks) == ({64: 30_000}, 120_000)
    endless = page_counts(2 * 31 * PAGE, layers, torch.float32, replace(NEEDS, max_model_len=None))
    assert endless.num_blocks == 120


def test_a_memory_that_holds_no_page_of_zeros_beside_a_block_has_no_windows() -> None:
    assert page_counts(6 * PAGE, MIX, torch.float32, NEEDS).windows == {}
    assert page_counts(6 * PAGE, MIX, torch.float32, NEEDS).num_blocks == 1
    assert page_counts(7 * PAGE, MIX, torch.float32, NEEDS).windows == {64: 1}
