"""Compare segment shares with the dense map of the reference on random layouts; prints a table.

    python evals/segments.py [--write]

Each layout is a batch of ragged sequences with its own heads, mask, position, sink, segments and storage
(dense or permuted pages). The dense map is softmax of the float64 scores, written out and summed by
segment: no code of the streamed statistics takes part. The check has a positive control: the same
comparison with segments shifted by one key must fail.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cynosure.attention import (
    AttentionPlan,
    AttentionSpec,
    AttentionWeights,
    DenseSource,
    Heads,
    PagedSource,
    Sink,
    Source,
    Watch,
    attend,
)
from cynosure.attention.attend import planned_calls
from cynosure.attention.backends.choice import BACKENDS
from cynosure.attention.backends.reference import dense_scores
from cynosure.attention.masks.parse import parse_mask
from cynosure.attention.positions import Alibi, NoPosition
from cynosure.evaluate.results import write_result

NUM_LAYOUTS = 500
MASKS = (
    "Causal()",
    "Full()",
    "Causal() & Window(40)",
    "Causal() & (Window(16) | Global(4))",
    "Causal() & Chunk(32)",
    "Causal() & (Blocks(16, 1) | Random(16, 2, 3) | Global(16))",
)


@dataclass(frozen=True)
class Layout:
    """One call, its tensors rounded to `dtype` already."""

    spec: AttentionSpec
    q: Tensor
    source: Source
    plan: AttentionPlan
    weights: AttentionWeights


def layouts(count: int, dtype: torch.dtype) -> Iterator[Layout]:
    """Yield `count` layouts, the same ones at every call."""
    for seed in range(count):
        yield _layout(random.Random(seed), torch.Generator().manual_seed(seed), dtype)


def _layout(choose: random.Random, generator: torch.Generator, dtype: torch.dtype) -> Layout:
    num_kv_heads, group_size = choose.choice([(1, 1), (1, 4), (2, 2), (4, 1), (2, 3)])
    num_heads, head_dim = num_kv_heads * group_size, choose.choice([16, 32, 64])
    spec = AttentionSpec(
        Heads.of(num_heads, head_dim, num_kv_heads),
        parse_mask(choose.choice(MASKS)),
        choose.choice([NoPosition(), Alibi(num_heads)]),
        sink=choose.choice(list(Sink)),
    )
    kv_lens = [choose.choice([1, 31, 32, 33, 100, 200]) for _ in range(choose.randint(1, 3))]
    q_lens = [choose.randint(1, length) for length in kv_lens]
    num_segments = choose.randint(1, 8)
    segments = [sorted(choose.choices(range(num_segments), k=length)) for length in kv_lens]
    plan = AttentionPlan.of_lengths(q_lens, kv_lens, segments=segments)

    def normal(*shape: int, spread: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * spread).to(dtype)

    k, v = normal(sum(kv_lens), num_kv_heads, head_dim), normal(sum(kv_lens), num_kv_heads, head_dim)
    q = normal(sum(q_lens), num_heads, head_dim, spread=2.0)
    sinks = normal(num_heads) if spec.sink is Sink.LEARNED else None
    source: Source = DenseSource(k, v)
    if choose.random() < 0.5:
        source, plan = _paged(k, v, plan, choose)
    return Layout(spec, q, source, plan, AttentionWeights(sinks=sinks))


def _paged(k: Tensor, v: Tensor, plan: AttentionPlan, choose: random.Random) -> tuple[Source, AttentionPlan]:
    keys, block = plan.keys[0], 32
    lengths = keys.cu_seqlens.diff().tolist()
    counts = [-(-length // block) for length in lengths]
    order = choose.sample(range(sum(counts)), sum(counts))
    k_pages = k.new_zeros(sum(counts), k.shape[1], block, k.shape[2])
    v_pages = torch.zeros_like(k_pages)
    table = torch.zeros(len(counts), max(counts), dtype=torch.int64)
    for seq, count in enumerate(counts):
        for page in range(count):
            table[seq, page] = place = order.pop()
            start = keys.offsets[seq] + page * block
            stop = min(start + block, keys.offsets[seq + 1])
            k_pages[place, :, : stop - start] = k[start:stop].transpose(0, 1)
            v_pages[place, :, : stop - start] = v[start:stop].transpose(0, 1)
    return PagedSource(k_pages, v_pages), plan.with_keys(replace(keys, block_table=table))


def dense_shares(layout: Layout, *, shift: int = 0) -> Tensor:
    """Return each segment's share, the sink's last, from the written-out map in float64."""
    wide = _wide(layout)
    call = planned_calls(wide.spec, wide.q, [wide.source], wide.plan, weights=wide.weights)[0]
    rows = []
    for seq, length in enumerate(wide.plan.keys[0].cu_seqlens.diff().tolist()):
        scores = dense_scores(call, seq)
        sink = {Sink.NONE: torch.tensor(float("-inf")), Sink.ZERO: torch.tensor(0.0)}.get(
            wide.spec.sink, wide.weights.sinks
        )
        assert sink is not None
        column = sink.double().expand(scores.shape[0])[:, None, None].expand(-1, scores.shape[1], 1)
        weights = torch.cat([scores, column], -1).softmax(-1)
        first = wide.plan.keys[0].offsets[seq]
        assert wide.plan.keys[0].segments is not None
        segments = wide.plan.keys[0].segments[first : first + length].roll(shift)
        one_hot = torch.nn.functional.one_hot(segments, wide.plan.num_segments).double()
        rows.append(torch.cat([weights[..., :-1] @ one_hot, weights[..., -1:]], -1).transpose(0, 1))
    return torch.cat(rows)


def _wide(layout: Layout) -> Layout:
    source = layout.source
    if isinstance(source, PagedSource):
        wide: Source = PagedSource(source.k_pages.double(), source.v_pages.double())
    else:
        assert isinstance(source, DenseSource)
        wide = DenseSource(source.k.double(), source.v.double())
    sinks = layout.weights.sinks
    weights = AttentionWeights(sinks=None if sinks is None else sinks.double())
    return Layout(layout.spec, layout.q.double(), wide, layout.plan, weights)


def measure(count: int, dtype: torch.dtype) -> tuple[float, bool]:
    """Return the largest error of any share by any backend, and whether observing changed an output bit."""
    worst, changed = 0.0, False
    for layout in layouts(count, dtype):
        expected = dense_shares(layout)
        for backend in ("reference", "tiled", "sdpa"):
            call = planned_calls(layout.spec, layout.q, [layout.source], layout.plan, weights=layout.weights)[
                0
            ]
            if BACKENDS[backend].refusals(call):
                continue
            run = (layout.spec, layout.q, [layout.source], layout.plan)
            seen = attend(*run, weights=layout.weights, watch=Watch(), backend=backend)
            plain = attend(*run, weights=layout.weights, backend=backend)
            changed |= not (torch.equal(seen.out, plain.out) and torch.equal(seen.lse, plain.lse))
            shares = torch.cat([seen.shares, seen.sink_share[..., None]], -1).double()
            worst = max(worst, float((shares - expected).abs().max()))
    return worst, changed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/segments.json")
    arguments = parser.parse_args()
    fp32, fp32_changed = measure(NUM_LAYOUTS, torch.float32)
    bf16, bf16_changed = measure(NUM_LAYOUTS, torch.bfloat16)
    control = max(
        float((dense_shares(layout) - dense_shares(layout, shift=1)).abs().max())
        for layout in layouts(20, torch.float32)
    )
    print(f"{'dtype':<10}{'largest error':>15}{'outputs changed':>18}")
    print(f"{'float32':<10}{fp32:>15.1e}{'yes' if fp32_changed else 'no':>18}")
    print(f"{'bfloat16':<10}{bf16:>15.1e}{'yes' if bf16_changed else 'no':>18}")
    print(f"control, segments shifted by one key: {control:.2f}")
    if arguments.write:
        metrics = {
            "num_layouts": NUM_LAYOUTS,
            "max_error_fp32": fp32,
            "max_error_bf16": bf16,
            "control_shifted_by_one": control,
            "outputs_changed": int(fp32_changed or bf16_changed),
        }
        write_result("segments", metrics, "python evals/segments.py --write")


if __name__ == "__main__":
    main()
