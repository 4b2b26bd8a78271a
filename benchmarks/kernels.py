"""Compare the native linear layers with torch's and with what memory allows; prints a table.

    python -m benchmarks.kernels [--write] [--repeats 9] [--threads N]

The shapes are those of Qwen2.5-0.5B, a step through all 24 layers and the head, so that weights come from
memory and not from a cache. Every figure is the median of interleaved repeats:

- `memory_gb_per_s`: what all threads together read, by torch's sum of 1 GiB or by a step, the faster one;
- `rows_N`: tokens per second of a step of N rows through all products, and beside it the ratio to torch in
  bfloat16 and, for one row, the share of the limit that memory sets;
- `gemm`: multiplications and additions per second of 512 rows, in tera-operations, by layer.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cynosure.evaluate.results import write_result
from cynosure.kernels import kernels
from cynosure.models.native_linear import NativeLinear
from cynosure.models.quantize import INT4, INT8, CodeFormat, QuantLinear

HIDDEN, QKV, INTERMEDIATE, VOCAB, NUM_LAYERS = 896, 1152, 4864, 151936, 24
ROWS = (1, 2, 4, 8, 16, 32)
BESIDE_TORCH = (1, 8, 32)
PROMPT = 512
FORMATS: dict[str, CodeFormat | None] = {"bfloat16": None, "int8": INT8, "int4": INT4}


def linear(width: int, height: int) -> nn.Linear:
    layer = nn.Linear(width, height, bias=False, dtype=torch.bfloat16)
    return layer.requires_grad_(False)


def coded(layer: nn.Linear, form: CodeFormat | None) -> nn.Linear | QuantLinear:
    if form is None:
        return layer
    # Which codes they are makes no difference to the time.
    made = QuantLinear(form, layer.in_features, layer.out_features, None)
    made.codes.random_(0, 120)
    made.scale.fill_(0.001)
    return made


class Layer:
    """The four products of a layer: in torch, and in one native format."""

    def __init__(self, form: CodeFormat | None) -> None:
        self.plain = [
            linear(HIDDEN, QKV),
            linear(HIDDEN, HIDDEN),
            linear(HIDDEN, 2 * INTERMEDIATE),
            linear(INTERMEDIATE, HIDDEN),
        ]
        qkv, out, both, down = self.plain
        gate, up = linear(HIDDEN, INTERMEDIATE), linear(HIDDEN, INTERMEDIATE)
        gate.weight, up.weight = (nn.Parameter(part) for part in both.weight.chunk(2))
        self.native = [
            NativeLinear([coded(qkv, form)]),
            NativeLinear([coded(out, form)]),
            NativeLinear([coded(gate, form), coded(up, form)], is_gated=True, activation="silu"),
            NativeLinear([coded(down, form)]),
        ]


def in_torch(layers: list[Layer], head: nn.Linear, x: Tensor) -> None:
    for layer in layers:
        qkv, out, both, down = layer.plain
        qkv(x)
        out(x)
        gate, up = both(x).chunk(2, -1)
        down(nn.functional.silu(gate) * up)
    head(x)


def natively(layers: list[Layer], head: NativeLinear | None, x: Tensor) -> None:
    for layer in layers:
        qkv, out, both, down = layer.native
        qkv(x)
        out(x)
        down(both(x))
    if head is not None:
        head(x)


def medians(tasks: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each task; one round of all is followed by the next."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            times[name].append(time.perf_counter() - start)
    # The first round warms up and is not counted.
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def bytes_of(layers: list[Layer], head: NativeLinear) -> int:
    structs = [native.packed.struct for layer in layers for native in layer.native] + [head.packed.struct]
    return sum(struct.code_bytes + struct.scale_bytes for struct in structs)


def total(tensor: Tensor) -> None:
    tensor.sum()


def reading(repeats: int) -> float:
    """Return the gigabytes a second at which torch sums up a tensor too large for any cache."""
    tensor = torch.ones(1 << 28)
    seconds = medians({"sum": lambda: total(tensor)}, repeats)["sum"]
    return tensor.numel() * 4 / seconds / 1e9


@torch.inference_mode()
def measure(name: str, form: CodeFormat | None, repeats: int) -> dict[str, float]:
    layers, plain_head = [Layer(form) for _ in range(NUM_LAYERS)], linear(HIDDEN, VOCAB)
    head = NativeLinear([coded(plain_head, form)])
    weight_bytes = bytes_of(layers, head)
    inputs = {rows: torch.randn(rows, HIDDEN, dtype=torch.bfloat16) for rows in (*ROWS, PROMPT)}
    tasks: dict[str, Callable[[], None]] = {}
    for rows in ROWS:
        tasks[f"native_{rows}"] = lambda rows=rows: natively(layers, head, inputs[rows])
        if rows in BESIDE_TORCH:
            tasks[f"torch_{rows}"] = lambda rows=rows: in_torch(layers, plain_head, inputs[rows])
    tasks["gemm"] = lambda: natively(layers, None, inputs[PROMPT])
    found = medians(tasks, repeats)
    metrics = {"gb_per_s": weight_bytes / found["native_1"] / 1e9}
    for rows in ROWS:
        metrics[f"rows_{rows}_tokens_per_s"] = rows / found[f"native_{rows}"]
        if rows in BESIDE_TORCH:
            metrics[f"rows_{rows}_over_torch"] = found[f"torch_{rows}"] / found[f"native_{rows}"]
    operations = 2 * PROMPT * NUM_LAYERS * HIDDEN * (QKV + HIDDEN + 3 * INTERMEDIATE)
    metrics["gemm_tera_per_s"] = operations / found["gemm"] / 1e12
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/kernels.json")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        kernels().set_num_threads(arguments.threads)
        torch.set_num_threads(arguments.threads)
    metrics: dict[str, object] = {"variant": kernels().variant, "threads": kernels().num_threads}
    found = {name: measure(name, form, arguments.repeats) for name, form in FORMATS.items()}
    limit = max(reading(arguments.repeats), *(values["gb_per_s"] for values in found.values()))
    metrics["memory_gb_per_s"] = limit
    for name, values in found.items():
        values["memory_limit_share"] = values.pop("gb_per_s") / limit
        for key, value in values.items():
            print(f"{name:<10}{key:<26}{value:>12.3f}")
        metrics[name] = values
    print(f"read at best: {limit:.1f} GB/s")
    if arguments.write:
        write_result("kernels", metrics, "python -m benchmarks.kernels --write")


if __name__ == "__main__":
    main()
