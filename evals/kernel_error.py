"""Measure how far the native kernels are from float64, beside torch in the same dtype; prints a table.

    python -m evals.kernel_error [--write]

Products of every linear layer of all-MiniLM-L6-v2 and of random layers of Qwen2.5-0.5B's widths, in bfloat16,
int8 and int4, for one row and for many; and attention over random keys and values. An error is the largest
difference to float64 over the largest number that should come out. In codes it holds what quantising the
activations costs, which torch, computing in bfloat16, does not pay. `kernel_max_error` is the largest of all.
Figures stand in results/cpu_quality.json beside those of `evals/quantization.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cynosure.attention import AttentionPlan, AttentionSpec, DenseSource, Heads, attend
from cynosure.evaluate.results import RESULTS, read_result, write_result
from cynosure.models.minilm import load_minilm
from cynosure.models.native_linear import NativeLinear
from cynosure.models.quantize import INT4, INT8, CodeFormat, QuantLinear, dequantise, quantise

NAME = "cpu_quality"
COMMAND = "python -m evals.kernel_error --write"
FORMS: dict[str, CodeFormat | None] = {"bf16": None, "int8": INT8, "int4": INT4}
RANDOM = ((896, 1152), (896, 4864), (4864, 896))
ROWS = (1, 2, 5, 64)
LENGTHS = (1, 31, 32, 33, 300)


def layers() -> Iterator[nn.Linear]:
    """Trained layers, then random ones, in bfloat16."""
    for module in load_minilm("bfloat16").graph.modules():
        if isinstance(module, nn.Linear):
            yield module
    for width, height in RANDOM:
        yield nn.Linear(width, height, dtype=torch.bfloat16)


def coded(layer: nn.Linear, form: CodeFormat | None) -> tuple[nn.Linear | QuantLinear, Tensor]:
    """A layer in codes, and the weights that these stand for, in float64."""
    if form is None:
        return layer, layer.weight.double()
    found = quantise(layer.weight, form)
    made = QuantLinear(form, layer.in_features, layer.out_features, layer.bias)
    made.codes.copy_(found.codes)
    made.scale.copy_(found.scale)
    return made, dequantise(found, form, torch.float64)


def error(ours: Tensor, exact: Tensor) -> float:
    """The largest difference over the largest number."""
    return float((ours.double() - exact).abs().max() / exact.abs().max())


@torch.inference_mode()
def linear_errors() -> dict[str, dict[str, float]]:
    """The largest of all layers and numbers of rows, by code: natively, and in torch."""
    worst = {name: {"native": 0.0, "torch": 0.0} for name in FORMS}
    for layer in layers():
        for name, form in FORMS.items():
            made, weight = coded(layer, form)
            native = NativeLinear([made])
            for rows in ROWS:
                x = torch.randn(rows, layer.in_features, dtype=torch.bfloat16)
                exact = x.double() @ weight.T + (0 if layer.bias is None else layer.bias.double())
                for program, found in (("native", native(x)), ("torch", made(x))):
                    worst[name][program] = max(worst[name][program], error(found, exact))
    return worst


@torch.inference_mode()
def attention_error() -> dict[str, float]:
    """The largest of several lengths: one query of all keys, then all queries, causally."""
    spec, worst = AttentionSpec(Heads.of(14, 64, 2)), {"native": 0.0, "torch": 0.0}
    for length in LENGTHS:
        for queries in (1, length):
            q = torch.randn(queries, 14, 64).bfloat16()
            k, v = (torch.randn(length, 2, 64).bfloat16() for _ in range(2))
            plan = AttentionPlan.of_lengths([queries], [length])
            wide = DenseSource(k.double(), v.double())
            exact = attend(spec, q.double(), [wide], plan, backend="reference").out
            for program, backend in (("native", "native"), ("torch", "sdpa")):
                found = attend(spec, q, [DenseSource(k, v)], plan, backend=backend).out
                worst[program] = max(worst[program], error(found, exact))
    return worst


def merged(errors: dict[str, dict[str, float]]) -> dict[str, object]:
    """Our figures, beside those of others in the file."""
    known = read_result(NAME).metrics if (RESULTS / f"{NAME}.json").is_file() else {}
    theirs = {key: value for key, value in known.items() if not key.startswith("kernel_")}
    most = max(one["native"] for one in errors.values())
    return {**theirs, "kernel_max_error": most, "kernel_errors": errors}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write results/{NAME}.json")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    errors = {**linear_errors(), "attention": attention_error()}
    for name, found in errors.items():
        print(f"{name:<12} native {found['native']:.5f}, torch {found['torch']:.5f}")
    if arguments.write:
        print(write_result(NAME, merged(errors), COMMAND))


if __name__ == "__main__":
    main()
