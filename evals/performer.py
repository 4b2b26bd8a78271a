"""Measure how far FAVOR+ is from softmax attention, by the number of features; prints a table.

    python -m evals.performer [--write]

One head of 32 channels over 256 random tokens, causal. The truth is softmax attention in float64. An error is
the length of the difference over the length of the truth, the mean of many draws of the features: orthogonal
in blocks, and independent. Channels of queries and keys have the deviation that a column names: the variance
of an estimate grows with the exponential of their squared lengths.
"""

from __future__ import annotations

import argparse
from statistics import fmean

import torch
from torch import Tensor

from cynosure.attention import AttentionPlan, AttentionSpec, DenseSource, Heads, attend
from cynosure.attention.mixers import Favor, MixerInputs, MixerSpec, draw_projection, mix
from cynosure.evaluate.results import write_result

NAME = "performer"
COMMAND = "python -m evals.performer --write"
LENGTH, DIM, DRAWS = 256, 32, 20
FEATURES = (16, 32, 64, 128, 256, 512, 1024)
DEVIATIONS = {"1/4": 0.25, "1/2": 0.5, "1": 1.0}


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The truth, `[tokens, dim]`."""
    spec = AttentionSpec(Heads.of(1, DIM))
    source, plan = DenseSource(k[:, None], v[:, None]), AttentionPlan.of_lengths([LENGTH])
    return attend(spec, q[:, None], [source], plan, backend="reference").out[:, 0]


def mean_error(q: Tensor, k: Tensor, v: Tensor, num_features: int, *, is_orthogonal: bool) -> float:
    """The mean over draws of the features."""
    exact = softmax(q, k, v)
    spec = MixerSpec(Favor(num_features), 1, DIM, DIM)
    generator, errors = torch.Generator().manual_seed(1), []
    for _ in range(DRAWS):
        drawn = draw_projection(num_features, DIM, generator, is_orthogonal=is_orthogonal)
        tokens = MixerInputs(v[None, :, None], q[None, :, None], k[None, :, None], projection=drawn)
        out, _ = mix(spec, tokens)
        errors.append(float((out[0, :, 0] - exact).norm() / exact.norm()))
    return fmean(errors)


def measure() -> dict[str, object]:
    """Rows by number of features; a column for each deviation and kind of features."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(LENGTH, DIM, dtype=torch.float64, generator=generator) for _ in range(3))
    rows: dict[str, dict[str, float]] = {}
    for num_features in FEATURES:
        row = rows[str(num_features)] = {}
        for name, deviation in DEVIATIONS.items():
            for kind in ("orthogonal", "independent"):
                is_orthogonal = kind == "orthogonal"
                row[f"{name}, {kind}"] = mean_error(
                    deviation * q, deviation * k, v, num_features, is_orthogonal=is_orthogonal
                )
        print(num_features, " ".join(f"{key}: {value:.3f}" for key, value in row.items()))
    return {"num_tokens": LENGTH, "head_dim": DIM, "draws": DRAWS, "error_by_features": rows}


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
