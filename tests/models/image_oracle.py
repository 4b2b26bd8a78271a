"""Write random checkpoints of models that read images, load them back, measure. Knows nothing of any family.

The oracles of encoders of images and of decoders behind them are made of this.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
import transformers
from torch import nn

from cynosure.models.load import LanguageModel, load
from tests.models.vision_cases import Case

TOLERANCE = 1e-4

#: Factors on random weights: those of queries and keys make attention peaked, so that a wrong score shows.
GAINS = dict.fromkeys(("query", "key", "q_proj", "k_proj", "in_proj_weight"), 2.0)


@dataclass(frozen=True, eq=False)
class Written:
    """The oracle, and our model of the same files."""

    case: Case
    oracle: transformers.PreTrainedModel
    model: LanguageModel

    @property
    def graph(self) -> nn.Module:
        return self.model.graph

    @property
    def folder(self) -> Path:
        return self.model.folder


W = TypeVar("W", bound=Written)


@torch.no_grad()
def write(case: Case, kind: type[W]) -> W:
    """Write a random checkpoint to disk, and load it back."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, case.architecture)
    config = model_class.config_class(**deepcopy(case.settings), attn_implementation="eager")
    oracle = model_class(config).eval()
    randomise(oracle, case.seed)
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    weakref.finalize(oracle, shutil.rmtree, folder, ignore_errors=True)
    oracle.save_pretrained(folder)
    return kind(case, oracle, load(folder, dtype="float32"))


def randomise(oracle: transformers.PreTrainedModel, seed: int) -> None:
    """Give every parameter values that matter: initial zeros, ones and tiny weights hide errors."""
    dice = torch.Generator().manual_seed(seed)
    for name, parameter in oracle.named_parameters():
        noise = torch.randn(parameter.shape, generator=dice)
        if "norm" in name.lower():
            value = 0.3 * noise if name.endswith("bias") else 1.0 + 0.3 * noise
        elif "position" in name or "token_embedding" in name or "class" in name or "probe" in name:
            value = noise
        elif parameter.dim() < 2:
            value = 0.3 * noise
        else:
            value = noise / parameter[0].numel() ** 0.5
        parameter.copy_(value * next((gain for part, gain in GAINS.items() if part in name), 1.0))


@torch.no_grad()
def errors_of(pair: W, checks: Mapping[str, Callable[[W], float]]) -> dict[str, float]:
    """Run every check."""
    return {name: check(pair) for name, check in checks.items()}


def by_architecture(
    cases: Mapping[str, Case], errors: Callable[[str], Mapping[str, float]]
) -> dict[str, Callable[[], float]]:
    """What measures the largest error over all cases and checks of each architecture."""
    names: dict[str, list[str]] = {}
    for name, case in cases.items():
        names.setdefault(case.architecture, []).append(name)
    return {architecture: partial(_largest, of_it, errors) for architecture, of_it in names.items()}


def _largest(names: list[str], errors: Callable[[str], Mapping[str, float]]) -> float:
    return max(max(errors(name).values()) for name in names)
