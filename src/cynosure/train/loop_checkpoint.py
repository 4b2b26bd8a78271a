"""Keep a run of training in one file, and go on from it. Knows nothing of rates or of batches.

The file is safetensors: learned weights, the optimiser's two moments, its count of steps, the losses so
far, and the state of torch's random numbers. It is written aside and renamed, so a reader meets a whole one
or none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cynosure.core.errors import CheckpointCorrupt
from cynosure.models.safetensor_writer import write_safetensors

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Progress:
    """How far a run came: a loss a step, what was checked (step, value), and seconds."""

    losses: tuple[float, ...]
    checks: tuple[tuple[int, float], ...]
    seconds: float


def write_checkpoint(
    path: Path, module: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write a run that `read_checkpoint` goes on with."""
    tensors = {
        "run.losses": torch.tensor(progress.losses, dtype=torch.float64),
        "run.checks": torch.tensor(progress.checks, dtype=torch.float64).reshape(-1, 2),
        "run.seconds": torch.tensor([progress.seconds], dtype=torch.float64),
        "run.dice": torch.get_rng_state(),
    }
    for name, parameter in _learned(module).items():
        tensors[f"weight.{name}"] = parameter.detach().cpu()
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimiser.state[parameter][moment].cpu()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write_safetensors(scratch, tensors, {"format": "pt"})
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def read_checkpoint(path: Path, module: nn.Module, optimiser: torch.optim.Optimizer) -> Progress:
    """Put a run back into its module and optimiser, and say how far it came.

    Raises:
        CheckpointCorrupt: the file is damaged, or was written by another module.
    """
    remedy = "Remove it to begin anew, or name the folder of the run that it belongs to."
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise CheckpointCorrupt(f"{path} can't be read: {error}. {remedy}") from error
    learned = _learned(module)
    wanted = {f"weight.{name}": parameter.shape for name, parameter in learned.items()}
    found = {name: tensor.shape for name, tensor in tensors.items() if name.startswith("weight.")}
    if found != wanted or "run.losses" not in tensors:
        raise CheckpointCorrupt(
            f"{path} holds {len(found)} weights of another model; {len(wanted)} are wanted. {remedy}"
        )
    with torch.no_grad():
        for name, parameter in learned.items():
            parameter.copy_(tensors[f"weight.{name}"])
            # The count of steps stays on the CPU, as AdamW keeps it; moments lie beside their parameter.
            optimiser.state[parameter] = {
                moment: _beside(parameter, tensors[f"{moment}.{name}"], moment) for moment in _MOMENTS
            }
    torch.set_rng_state(tensors["run.dice"])
    return Progress(
        tuple(tensors["run.losses"].tolist()),
        tuple((int(step), value) for step, value in tensors["run.checks"].tolist()),
        float(tensors["run.seconds"].item()),
    )


def _beside(parameter: Tensor, tensor: Tensor, moment: str) -> Tensor:
    return tensor.clone() if moment == "step" else tensor.to(parameter.device).clone()


def _learned(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
