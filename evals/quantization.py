"""Measure what weights, keys and values in codes cost a model that learned a text; prints a table.

    cynosure train tiny --out build/tiny
    python evals/quantization.py [build/tiny] [--write] [--max-tokens N]

The model is the recipe's (`cynosure train tiny`), the text its held-out files. Perplexity changes are in
percent of the float32 model's. Beside them, by how much single weights are off, relative to their own size:
with the scales that are chosen here, and with plain rounding.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from cynosure.evaluate.results import RESULTS, read_result, write_result
from cynosure.evaluate.variants import Measured, Question, compare, variant_of
from cynosure.models.load import load
from cynosure.models.quantize import INT4, INT4_G128, INT8, CodeFormat, dequantise, quantise

NAME = "cpu_quality"
TINY = Path("build/tiny")
VARIANTS = ("int8", "int4", "int4-g128", "int4-pure", "kv-int8", "int8+kv-int8", "int4+kv-int8")
FORMS = {"int8": INT8, "int4": INT4, "int4-g128": INT4_G128}


def measure(folder: Path, max_tokens: int | None) -> list[Measured]:
    """Return the perplexity of every variant on the held-out text."""
    text = (folder / "held_out.txt").read_text(encoding="utf-8")
    question = Question(folder, text, dtype="float32", window=256, max_tokens=max_tokens)
    return compare(question, [variant_of(name) for name in VARIANTS])


def weight_errors(folder: Path) -> dict[str, dict[str, float]]:
    """Return the root mean square error of all projections, relative to their weights, by code."""
    graph = load(folder, dtype="float32").graph
    weights = [module.weight for module in graph.modules() if isinstance(module, torch.nn.Linear)]
    return {
        name: {
            "chosen": _relative([(dequantise(quantise(w, form), form, torch.float32), w) for w in weights]),
            "rounded": _relative([(rounded(w, form), w) for w in weights]),
        }
        for name, form in FORMS.items()
    }


def rounded(weight: torch.Tensor, form: CodeFormat) -> torch.Tensor:
    """Round each weight with the largest magnitude of its group at the largest code."""
    groups = weight.unflatten(-1, (-1, form.group_size or weight.shape[-1]))
    scale = groups.abs().amax(-1, keepdim=True) / (2 ** (form.bits - 1) - 1)
    return ((groups / scale).round() * scale).flatten(-2)


def _relative(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    error = sum(float((ours - weight).double().square().sum()) for ours, weight in pairs)
    return (error / sum(float(weight.double().square().sum()) for _, weight in pairs)) ** 0.5


def figures(measured: Sequence[Measured]) -> dict[str, float]:
    """Return the change of each variant, in percent, under names that a figure can address."""
    baseline = measured[0].perplexity
    names = [one.variant.name.replace("-", "_").replace("+", "_") for one in measured]
    changes = [one.perplexity.change_from(baseline) for one in measured]
    return {
        f"{name}_perplexity_change": change for name, change in list(zip(names, changes, strict=True))[1:]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=TINY, help=f"what `cynosure train tiny` wrote ({TINY})"
    )
    parser.add_argument("--max-tokens", type=int, help="the first tokens of the text only")
    parser.add_argument("--write", action="store_true", help=f"write results/{NAME}.json")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} does not exist. Run `cynosure train tiny --out {options.folder}`.")
    measured, errors = measure(options.folder, options.max_tokens), weight_errors(options.folder)
    baseline = measured[0].perplexity
    print(f"{'variant':<20}{'perplexity':>12}{'change':>10}   over {baseline.num_tokens} tokens")
    for one in measured:
        print(
            f"{one.variant.name:<20}{one.perplexity.value:>12.4f}{one.perplexity.change_from(baseline):>+9.3f}%"
        )
    for name, found in errors.items():
        print(f"{name:<20} weights off by {found['chosen']:.4f}, by plain rounding {found['rounded']:.4f}")
    if options.write:
        print(write_result(NAME, merged(measured, errors), "python evals/quantization.py build/tiny --write"))


def merged(measured: Sequence[Measured], errors: dict[str, dict[str, float]]) -> dict[str, object]:
    """Return our figures beside those that the file holds from the measurement of kernels."""
    known = read_result(NAME).metrics if (RESULTS / f"{NAME}.json").is_file() else {}
    theirs = {key: value for key, value in known.items() if key.startswith("kernel_")}
    return {
        **figures(measured),
        "baseline_perplexity": measured[0].perplexity.value,
        "tokens": measured[0].perplexity.num_tokens,
        "weight_error": errors,
        **theirs,
    }


if __name__ == "__main__":
    main()
