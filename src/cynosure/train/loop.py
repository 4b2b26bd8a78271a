"""Take the steps of a training: rates, gradients, checkpoints, limits. Knows nothing of what is learned.

A run is a function of its seed and its steps: `loss_of` is told the step and gives the loss of its batch,
so that a run which goes on from a checkpoint ends with the weights of one that was never cut off. Only a
limit in minutes makes the end depend on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.core.errors import InputError
from cynosure.train.loop_checkpoint import Progress, read_checkpoint, write_checkpoint

#: Told a stage, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]

#: Gives the loss of a step's batch, from which gradients flow.
LossOf = Callable[[int], Float[Tensor, ""]]

#: Measures what is learned after a number of steps; the lower the better, or not: the loop only notes it.
Check = Callable[[int], float]


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Schedule:
    """How many steps, and the rate of each.

    The rate warms up over a fiftieth of the steps, then falls along a cosine to a tenth. With `max_minutes`
    the clock moves the run on as well as the steps do, so that the rate has fallen when the time is over.
    """

    num_steps: int
    peak_rate: float
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: no step, or no time.
        """
        if self.num_steps < 1:
            raise InputError(f"num_steps is {self.num_steps}; the limit is 1. Raise it.")
        if self.max_minutes is not None and self.max_minutes <= 0:
            raise InputError(f"max_minutes is {self.max_minutes:g}; it must be above 0. Raise it.")

    def position(self, step: int, seconds: float) -> float:
        """Return how far a run is, counted in steps: by its steps or by the clock, whichever is further."""
        by_clock = 0.0 if self.max_minutes is None else self.num_steps * seconds / (60 * self.max_minutes)
        return max(float(step), by_clock)

    def rate(self, position: float) -> float:
        """Return the learning rate of a step, counted from 0."""
        warm = max(1, self.num_steps // 50)
        if position < warm:
            return self.peak_rate * min(1.0, (position + 1) / warm)
        share = (position - warm) / max(1, self.num_steps - warm)
        return self.peak_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, share))))


@dataclass(frozen=True)
class Course:
    """How a run goes, beside what it learns.

    Attributes:
        schedule: Steps, rates and time.
        is_mixed: Whether products are in bfloat16, which matrix units compute several times faster.
        checkpoint: A file to keep the run in, and to go on from where it is there; `None` keeps nothing.
        every: Steps between checkpoints, and between checks.
        max_norm: Longer gradients are shortened to this.
    """

    schedule: Schedule
    is_mixed: bool = True
    checkpoint: Path | None = None
    every: int = 500
    max_norm: float = 1.0


@dataclass(frozen=True)
class Fitted:
    """The loss of each step, what the checks found (step, value), and how long all runs took together."""

    losses: tuple[float, ...]
    checks: tuple[tuple[int, float], ...]
    seconds: float

    @property
    def num_steps(self) -> int:
        """How many steps were taken."""
        return len(self.losses)

    @property
    def last_loss(self) -> float:
        """The mean loss of the last twentieth of the steps."""
        last = self.losses[-max(1, len(self.losses) // 20) :]
        return sum(last) / len(last)


def optimiser_of(module: nn.Module, rate: float, decay: float) -> torch.optim.AdamW:
    """Return AdamW over what is to be learned; matrices decay, vectors do not."""
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in learned if one.dim() > 1], "weight_decay": decay},
        {"params": [one for one in learned if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95))


def fit(
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss_of: LossOf,
    course: Course,
    report: Report = silent,
    check: Check | None = None,
) -> Fitted:
    """Take the steps that are left, until the schedule's steps or its minutes are over.

    Args:
        module: What learns; its parameters without a gradient stay as they are.
        optimiser: From `optimiser_of`, or one whose state has the same names.
        loss_of: The loss of a step's batch.
        course: How the run goes.
        report: Told after each step.
        check: Asked after every `course.every` steps and after the last one.

    Raises:
        CheckpointCorrupt: `course.checkpoint` is of another module, or damaged.
    """
    schedule, device = course.schedule, next(module.parameters()).device.type
    past = _resumed(course.checkpoint, module, optimiser)
    losses, checks, begun = list(past.losses), list(past.checks), perf_counter() - past.seconds
    total = schedule.num_steps
    while (position := schedule.position(len(losses), perf_counter() - begun)) < total:
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(position)
        with torch.autocast(device, torch.bfloat16, enabled=course.is_mixed):
            loss = loss_of(len(losses))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), course.max_norm)
        optimiser.step()
        losses.append(loss.item())
        seconds = perf_counter() - begun
        now = schedule.position(len(losses), seconds)
        report("Training", min(total, int(now)), total)
        if check is not None and (len(losses) % course.every == 0 or now >= total):
            checks.append((len(losses), check(len(losses))))
        if course.checkpoint is not None and (len(losses) % course.every == 0 or now >= total):
            progress = Progress(tuple(losses), tuple(checks), perf_counter() - begun)
            write_checkpoint(course.checkpoint, module, optimiser, progress)
    return Fitted(tuple(losses), tuple(checks), perf_counter() - begun)


def _resumed(path: Path | None, module: nn.Module, optimiser: torch.optim.Optimizer) -> Progress:
    if path is None or not path.is_file():
        return Progress((), (), 0.0)
    return read_checkpoint(path, module, optimiser)
