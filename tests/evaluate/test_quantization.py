"""What `evals/quantization.py` writes stands beside what others measured for the same file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from cynosure.evaluate.perplexity import Perplexity
from cynosure.evaluate.results import read_result, write_result
from cynosure.evaluate.variants import Measured, Variant
from cynosure.models.quantize import INT4, INT8
from evals import quantization


def test_figures_of_others_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "RESULTS", tmp_path)
    monkeypatch.setattr(quantization, "read_result", lambda name: read_result(name, tmp_path))
    measured = [
        Measured(Variant("baseline"), Perplexity(10 * math.log(20.0), 10)),
        Measured(Variant("int4+kv-int8"), Perplexity(10 * math.log(20.5), 10)),
    ]
    assert "kernel_max_error" not in quantization.merged(measured, {})
    write_result("cpu_quality", {"kernel_max_error": 1e-6, "old": 9.0}, "x", tmp_path)
    merged = quantization.merged(measured, {})
    assert merged["int4_kv_int8_perplexity_change"] == pytest.approx(2.5)
    assert merged["kernel_max_error"] == 1e-6
    assert "old" not in merged


def test_plain_rounding_reaches_the_largest_weight() -> None:
    weight = torch.randn(3, 64)
    for form, codes in ((INT8, 127), (INT4, 7)):
        rounded = quantization.rounded(weight, form).unflatten(-1, (-1, form.group_size or 64))
        groups = weight.unflatten(-1, (-1, form.group_size or 64))
        torch.testing.assert_close(rounded.abs().amax(-1), groups.abs().amax(-1))
        step = groups.abs().amax(-1, keepdim=True) / codes
        assert bool(((rounded - groups).abs() <= step / 2 * 1.001).all())
