"""Measure what searches of an external memory find, beside scoring every key; prints a table.

    python -m evals.memory [--write]

One head of 64 channels, 20,000 keys, the 32 best for each of 256 queries. Keys are spread evenly, or gathered
around 200 centres; a query points somewhere near one key. A search's recall is the share of the best keys
that it finds, and the share of their attention that falls on those.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import torch
from torch import Tensor

from cynosure.attention import AttentionSpec, Heads, MemorySource
from cynosure.attention.memory import recall_of
from cynosure.attention.memory_search import FaissSearch
from cynosure.evaluate.results import write_result

NAME = "memory"
COMMAND = "python -m evals.memory --write"
NUM_KEYS, NUM_QUERIES, DIM, NUM_BEST, NUM_CENTRES = 20_000, 256, 64, 32, 200
#: How near a query is to a key: the deviation of what stands between them.
DISTANCE = 0.7
SEARCHES = (
    ("Flat", ""),
    ("IVF128,Flat", "nprobe=1"),
    ("IVF128,Flat", "nprobe=4"),
    ("IVF128,Flat", "nprobe=16"),
    ("IVF128,Flat", "nprobe=64"),
    ("HNSW32", "efSearch=32"),
    ("HNSW32", "efSearch=128"),
    ("HNSW32", "efSearch=512"),
)


def drawn(is_gathered: bool) -> tuple[Tensor, Tensor]:
    """Queries and keys, `[n, 1, dim]`."""
    dice = torch.Generator().manual_seed(0)
    keys = torch.randn(NUM_KEYS, DIM, generator=dice)
    if is_gathered:
        centres = torch.randn(NUM_CENTRES, DIM, generator=dice)
        keys = 0.5 * keys + centres[torch.randint(NUM_CENTRES, (NUM_KEYS,), generator=dice)]
    near = keys[torch.randint(NUM_KEYS, (NUM_QUERIES,), generator=dice)]
    return (near + DISTANCE * torch.randn(near.shape, generator=dice))[:, None], keys[:, None]


def measure() -> dict[str, object]:
    """Rows by search; columns by kind of keys and of recall."""
    spec, rows = AttentionSpec(Heads.of(1, DIM)), {}
    draws = {"even": drawn(False), "gathered": drawn(True)}
    for kind, parameters in SEARCHES:
        row = rows[f"{kind} {parameters}".strip()] = {}
        for name, (q, keys) in draws.items():
            memory = MemorySource(keys, keys, NUM_BEST)
            recall = recall_of(spec, q, replace(memory, search=FaissSearch(keys, kind, parameters)))
            row |= {f"{name}, keys": recall.keys, f"{name}, attention": recall.attention}
        print(f"{kind} {parameters}: {', '.join(f'{key} {value:.3f}' for key, value in row.items())}")
    return {"num_keys": NUM_KEYS, "num_queries": NUM_QUERIES, "num_best": NUM_BEST, "recall": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write results/{NAME}.json")
    arguments = parser.parse_args()
    metrics = measure()
    if arguments.write:
        print(write_result(NAME, metrics, COMMAND))


if __name__ == "__main__":
    main()
