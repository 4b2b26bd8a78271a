"""Compare a mixture of experts in one native call with the loop over its experts; prints a table.

    python -m benchmarks.experts [--write] [--repeats 9] [--threads N]

One layer of OLMoE-1B-7B's shape (64 experts, 8 of them for a token, widths 2,048 and 1,024) on random weights
and rows: those of a repeat choose other experts than those before, so that weights come from memory as a
model's do. Medians of interleaved repeats, by rows of a pass:

- `call_us`: router and experts in one native call;
- `loop_ratio`: how many times as long the plain loop takes whose products are native, each a call of its own;
- `torch_ratio`: the same loop in torch, in bfloat16, whatever the codes of the others.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from cynosure.evaluate.results import write_result
from cynosure.kernels import kernels
from cynosure.kernels.memory import Arena
from cynosure.models.mlp import MlpSpec
from cynosure.models.moe import Moe, MoeSpec, SoftmaxRouterSpec
from cynosure.models.native.experts import NativeMoe
from cynosure.models.native.graph import use_kernels
from cynosure.models.norm import Norm, NormKind, NormSpec
from cynosure.models.quantize import quantise_graph, scheme_of

HIDDEN = 2048
SPEC = MoeSpec(64, SoftmaxRouterSpec(8, is_normalised=False), MlpSpec(1024, "silu"))
ROWS = (1, 16, 512)
SCHEMES = ("bf16", "int8", "int4")


def mixture(scheme: str) -> Moe:
    """Random weights; which codes they are makes no difference to the time."""
    with torch.device("meta"):
        moe = Moe(SPEC, HIDDEN)
    if scheme != "bf16":
        quantise_graph(moe, scheme_of(scheme), torch.bfloat16)
    moe.to_empty(device="cpu")
    for name, tensor in moe.state_dict().items():
        if tensor.dtype in (torch.int8, torch.uint8):
            tensor.random_(0, 120)
        elif name.endswith("scale"):
            tensor.fill_(1e-3)
    for module in moe.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = parameter.data.to(torch.bfloat16).normal_(std=0.02)
    return moe.requires_grad_(False)


def medians(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Microseconds of each, interleaved; the first round warms up and is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e6)
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


@torch.inference_mode()
def measure(scheme: str, norm: Norm, in_torch: Moe, repeats: int) -> dict[str, dict[str, float]]:
    """The rows of one code."""
    looped = mixture(scheme)
    native = NativeMoe(looped, norm, Arena())
    use_kernels(looped, torch.bfloat16, "native")
    found = {}
    for num_rows in ROWS:

        def rows(num_rows: int = num_rows) -> Tensor:
            return torch.randn(num_rows, HIDDEN).bfloat16()

        def plain(moe: nn.Module, x: Tensor) -> Tensor:
            return x + moe(norm(x))

        calls = {
            "call": lambda: native(rows()),
            "loop": lambda: plain(looped, rows()),
            "torch": lambda: plain(in_torch, rows()),
        }
        taken = medians(calls, repeats)
        ours = taken["call"]
        ratios = {f"{name}_ratio": taken[name] / ours for name in ("loop", "torch")}
        found[f"rows_{num_rows}"] = {"call_us": ours, **ratios}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/experts.json")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        kernels().set_num_threads(arguments.threads)
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    norm = Norm(NormSpec(NormKind.RMS, 1e-5), HIDDEN).bfloat16()
    nn.init.ones_(norm.weight)
    in_torch = mixture("bf16")
    metrics: dict[str, object] = {"variant": kernels().variant, "threads": kernels().num_threads}
    for scheme in SCHEMES:
        metrics[scheme] = found = measure(scheme, norm, in_torch, arguments.repeats)
        for name, row in found.items():
            told = "  ".join(f"{key} {value:.2f}" for key, value in row.items())
            print(f"{scheme:<6}{name:<10}{told}", flush=True)
    if arguments.write:
        write_result("experts", metrics, "python -m benchmarks.experts --write")


if __name__ == "__main__":
    main()
