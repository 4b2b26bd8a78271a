"""See which share of attention each part of a prompt got, weigh one part, deny another.

    python examples/segment_shares.py

The layer is random; the arithmetic is that of any layer. No model is needed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from cynosure.attention import AttentionPlan, AttentionSpec, DenseSource, Heads, Watch, attend, explain
from cynosure.attention.masks import Causal, Global, Window

NAMES = ("system", "document", "question")
LENGTHS = (4, 40, 8)


def main() -> None:
    torch.manual_seed(0)
    spec = AttentionSpec(
        Heads.of(num_heads=8, num_kv_heads=2, head_dim=64), Causal() & (Window(32) | Global(4))
    )
    num_tokens = sum(LENGTHS)
    q, k, v = (torch.randn(num_tokens, heads, 64) for heads in (8, 2, 2))
    segments = [index for index, length in enumerate(LENGTHS) for _ in range(length)]
    plan = AttentionPlan.of_lengths([num_tokens], segments=[segments])
    keys = plan.keys[0]
    is_document = torch.tensor(segments) == NAMES.index("document")

    def show(title: str, bias: torch.Tensor | None) -> None:
        shown = plan.with_keys(replace(keys, bias=bias))
        state = attend(spec, q, [DenseSource(k, v)], shown, watch=Watch())
        shares = state.shares[-1].mean(0).tolist()
        print(
            f"{title:<26}"
            + "  ".join(f"{name} {share:.3f}" for name, share in zip(NAMES, shares, strict=True))
        )

    print("the last token attended to, mean over heads:")
    show("as it is", None)
    show("the document, five-fold", is_document * math.log(5.0))
    show("the document, denied", torch.zeros(num_tokens).masked_fill(is_document, -math.inf))
    print()
    print(explain(spec, q, [DenseSource(k, v)], plan))


if __name__ == "__main__":
    main()
