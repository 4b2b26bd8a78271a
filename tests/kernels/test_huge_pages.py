"""Ask the system which memory it was told to put on huge pages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cynosure.cache import LayerShape, PagedCache
from cynosure.kernels import why_none
from cynosure.kernels.memory import prefer_huge_pages

SMAPS = Path("/proc/self/smaps")
HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")

pytestmark = [
    pytest.mark.skipif(bool(why_none()), reason=why_none()),
    pytest.mark.skipif(
        not (SMAPS.exists() and HUGE.exists()), reason="this system tells nothing of huge pages"
    ),
]


def is_wished_for(address: int) -> bool:
    """Whether huge pages are wished for at an address."""
    is_here = False
    for line in SMAPS.read_text().splitlines():
        if "-" in line.split(" ", 1)[0] and ":" not in line.split(" ", 1)[0]:
            first, last = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
            is_here = first <= address < last
        elif is_here and line.startswith("VmFlags:"):
            return " hg" in line
    return False


def test_a_cache_lies_on_huge_pages() -> None:
    cache = PagedCache([LayerShape(2, 64, 64)], 2048, torch.bfloat16)
    for pages in cache.pages(0):
        assert is_wished_for(pages.data_ptr() + pages.nbytes // 2)
    plain = torch.empty(16 << 20, dtype=torch.uint8)
    assert not is_wished_for(plain.data_ptr() + plain.nbytes // 2)


@pytest.mark.parametrize("num_bytes", [0, 1, 4096, (2 << 20) - 1])
def test_little_memory_is_left_as_it_is(num_bytes: int) -> None:
    memory = torch.zeros(max(1, num_bytes), dtype=torch.uint8)
    prefer_huge_pages(memory.data_ptr(), num_bytes)
    assert not memory.any()
