"""Hold decoding steps of many sequences against the scalar twin: shares are short, and fetched one ahead."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cynosure.attention import AttentionPlan, AttentionSpec, Heads, PagedSource, PageScales, attend
from cynosure.attention.backends import native
from cynosure.attention.masks import Causal
from cynosure.attention.state import AttentionState
from cynosure.cache.paged import encode
from cynosure.kernels import attention, kernels, why_none

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

#: Around sixteens, which are read in place where they are whole, around pages and around tiles.
LENGTHS = (1, 15, 16, 17, 31, 32, 33, 97, 111, 112, 113, 127, 128, 129, 255, 257, 5, 600, 2, 48)
BLOCK = 32
LIMITS = {"float32": 2e-5, "bfloat16": 2e-2, "int8": 2e-2}


class Step:
    """One token of each sequence, over pages in a random order; beyond a sequence's end they hold NaN."""

    def __init__(self, kind: str, group: int, width: int, lengths: tuple[int, ...] = LENGTHS) -> None:
        torch.manual_seed(group + width)
        counts = [-(-length // BLOCK) for length in lengths]
        order = torch.randperm(sum(counts)).tolist()
        rows = [[order.pop() for _ in range(count)] for count in counts]
        numbers = [torch.randn(sum(counts), 2, BLOCK, width) for _ in "kv"]
        if kind == "int8":
            codes = [encode(x.reshape(-1, 2, width)) for x in numbers]
            k, v = (code.reshape(x.shape) for (code, _), x in zip(codes, numbers, strict=True))
            scales = PageScales(
                *(scale.reshape(x.shape[:3]) for (_, scale), x in zip(codes, numbers, strict=True))
            )
            self.source = PagedSource(k, v, scales, torch.bfloat16)
        else:
            for row, length in zip(rows, lengths, strict=True):
                for x in numbers:
                    x[row[-1], :, length - (len(row) - 1) * BLOCK :] = math.nan
            self.source = PagedSource(*(x.to(getattr(torch, kind)) for x in numbers))
        self.lengths, self.rows = lengths, rows
        self.spec = AttentionSpec(Heads(2 * group, 2, width, width), Causal())
        self.q = torch.randn(len(lengths), 2 * group, width).to(self.source.dtype)

    def run(self, seqs: range | None = None) -> AttentionState:
        """Attend for some of the sequences; all where none are named."""
        which = list(range(len(self.lengths)) if seqs is None else seqs)
        plan = AttentionPlan.of_lengths([1] * len(which), [self.lengths[seq] for seq in which])
        longest = max(len(self.rows[seq]) for seq in which)
        table = torch.tensor([self.rows[seq] + [0] * (longest - len(self.rows[seq])) for seq in which])
        plan = plan.with_keys(replace(plan.keys[0], block_table=table))
        return attend(self.spec, self.q[which], [self.source], plan, backend="native")

    def by_twin(self) -> Tensor:
        before = native.attend
        native.attend = attention.attend_plain
        try:
            return self.run().out
        finally:
            native.attend = before


@pytest.mark.parametrize("kind", list(LIMITS))
@pytest.mark.parametrize(("group", "width"), [(1, 64), (3, 64), (7, 64), (7, 128), (4, 80), (16, 64)])
def test_steps_equal_the_twin(variant: str, kind: str, group: int, width: int) -> None:
    assert variant
    step = Step(kind, group, width)
    torch.testing.assert_close(step.run().out, step.by_twin(), atol=LIMITS[kind], rtol=LIMITS[kind])


@pytest.mark.parametrize("kind", list(LIMITS))
@pytest.mark.parametrize("group", [1, 7])
@pytest.mark.usefixtures("threads")
def test_threads_and_company_change_no_bit(kind: str, group: int) -> None:
    step = Step(kind, group, 64)
    kernels().set_num_threads(1)
    alone = torch.cat([step.run(range(seq, seq + 1)).out for seq in range(len(LENGTHS))])
    for num_threads in range(1, 9):
        kernels().set_num_threads(num_threads)
        assert torch.equal(step.run().out, alone)
        assert torch.equal(step.run(range(3, 11)).out, alone[3:11])
