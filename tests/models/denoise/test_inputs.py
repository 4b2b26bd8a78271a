"""What does not fit a denoiser is refused before it computes, with the limit and the remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.models.denoise.inputs import NOTHING, Condition, DenoiserInputs, check_inputs

LABELLED = DenoiserInputs(4, 8, side_multiple=2, num_labels=11)
READING = DenoiserInputs(4, 4, text_width=6, has_sizes=True)
LATENTS, STEPS = torch.zeros(2, 4, 6, 8), torch.zeros(2)
LABELS = Condition(labels=torch.tensor([0, 10]))
TEXT = Condition(
    text=torch.zeros(2, 3, 6),
    text_mask=torch.ones(2, 3, dtype=torch.bool),
    resolution=torch.ones(2, 2),
    aspect_ratio=torch.ones(2, 1),
)


def test_what_fits_passes() -> None:
    check_inputs(LABELLED, LATENTS, STEPS, LABELS)
    check_inputs(READING, LATENTS[..., :5], STEPS.long(), TEXT)
    check_inputs(READING, LATENTS, STEPS, replace(TEXT, text_mask=None))


@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (4, 6, 8), (0, 4, 6, 8), (2, 4, 5, 8), (2, 4, 6, 0)])
def test_latents_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"the model reads \[n, 4, height, width\].*multiples of 2"):
        check_inputs(LABELLED, torch.zeros(shape), torch.zeros(shape[0]), LABELS)


@pytest.mark.parametrize("steps", [torch.tensor(5), torch.zeros(1), torch.zeros(2, 1)])
def test_timesteps_of_another_shape(steps: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"\[2\] is needed"):
        check_inputs(LABELLED, LATENTS, steps, LABELS)


@pytest.mark.parametrize(
    ("inputs", "condition", "named"),
    [
        (LABELLED, NOTHING, "reads labels"),
        (LABELLED, replace(TEXT, labels=LABELS.labels, resolution=None, aspect_ratio=None), "reads no text"),
        (READING, NOTHING, "reads text"),
        (READING, replace(TEXT, resolution=None), "reads resolution"),
        (READING, replace(TEXT, labels=LABELS.labels), "reads no labels"),
        (replace(READING, has_sizes=False), TEXT, "reads no resolution"),
        (LABELLED, replace(LABELS, text_mask=TEXT.text_mask), "without its text"),
    ],
)
def test_conditions_that_are_missing_or_not_read(
    inputs: DenoiserInputs, condition: Condition, named: str
) -> None:
    with pytest.raises(InputError, match=named):
        check_inputs(inputs, LATENTS, STEPS, condition)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("text", torch.zeros(2, 3, 5), r"reads \[2, tokens, 6\]"),
        ("text", torch.zeros(2, 0, 6), r"reads \[2, tokens, 6\]"),
        ("text", torch.zeros(1, 3, 6), r"reads \[2, tokens, 6\]"),
        ("text", torch.zeros(3, 6), r"reads \[2, tokens, 6\]"),
        ("text_mask", torch.ones(2, 4, dtype=torch.bool), r"bool, \[2, 3\]"),
        ("text_mask", torch.ones(2, 3, dtype=torch.int64), "it must be bool"),
        ("text_mask", torch.tensor([[True] * 3, [False] * 3]), "true for a token"),
        ("resolution", torch.ones(3, 2), r"reads \[2, 2\]"),
        ("aspect_ratio", torch.ones(2), r"reads \[2, 1\]"),
    ],
)
def test_conditions_of_another_shape(name: str, value: torch.Tensor, named: str) -> None:
    forged = replace(TEXT)
    # Past the checks of shapes that only tests have.
    object.__setattr__(forged, name, value)
    with pytest.raises(InputError, match=named):
        check_inputs(READING, LATENTS, STEPS, forged)


@pytest.mark.parametrize("labels", [[0, 11], [-1, 3]])
def test_classes_that_are_not_there(labels: list[int]) -> None:
    with pytest.raises(InputError, match="0 to 10"):
        check_inputs(LABELLED, LATENTS, STEPS, Condition(labels=torch.tensor(labels)))
