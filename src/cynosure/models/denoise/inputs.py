"""Say what a denoiser is given, and check it. Knows nothing of any network, nor of how steps are chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from cynosure.core.errors import InputError


@dataclass(frozen=True)
class DenoiserInputs:
    """What a denoiser reads, and how many channels it gives.

    - `side_multiple`: what both sides of latents are a multiple of.
    - `num_labels`: classes, the one that stands for none included; `None` reads no labels.
    - `text_width`: channels of a text's states; `None` reads no text.
    - `has_sizes`: the sizes of images are read, as PixArt's largest models do.
    """

    in_channels: int
    out_channels: int
    side_multiple: int = 1
    num_labels: int | None = None
    text_width: int | None = None
    has_sizes: bool = False


@dataclass(frozen=True, eq=False)
class Condition:
    """What latents are to become; a denoiser reads what its `inputs` name, and all of that.

    All are for the same `n` images, which `check_inputs` sees to.

    - `labels`: a class an image; the last one stands for none, where guidance needs it.
    - `text`: states of an encoder of texts, a row a token.
    - `text_mask`: which of these are tokens and no padding, `[n, tokens]`; `None` is all.
    - `resolution`, `aspect_ratio`: height and width in pixels, and one over the other.
    """

    labels: Int[Tensor, " _n"] | None = None
    text: Float[Tensor, "_n tokens width"] | None = None
    text_mask: Bool[Tensor, "_n _tokens"] | None = None
    resolution: Float[Tensor, "_n 2"] | None = None
    aspect_ratio: Float[Tensor, "_n 1"] | None = None


NOTHING = Condition()


def check_inputs(
    inputs: DenoiserInputs, latents: Tensor, timesteps: Num[Tensor, "*steps"], condition: Condition
) -> None:
    """Check that everything fits the denoiser.

    Raises:
        InputError: a shape is another than its weights want, or a condition is missing or not read.
    """
    _check_latents(inputs, latents)
    num_images = latents.shape[0]
    if tuple(timesteps.shape) != (num_images,):
        raise InputError(
            f"timesteps are of shape {list(timesteps.shape)}; [{num_images}] is needed, one for each of the "
            "latents. Expand a single one."
        )
    _check_read("labels", inputs.num_labels is not None, [condition.labels])
    _check_read("text", inputs.text_width is not None, [condition.text])
    _check_read(
        "resolution and aspect_ratio", inputs.has_sizes, [condition.resolution, condition.aspect_ratio]
    )
    _check_shapes(inputs, num_images, condition)
    if inputs.num_labels is not None and condition.labels is not None:
        _check_labels(inputs.num_labels, condition.labels)
    _check_mask(condition.text, condition.text_mask)


def _check_latents(inputs: DenoiserInputs, latents: Tensor) -> None:
    multiple = inputs.side_multiple
    fits = latents.dim() == 4 and latents.shape[1] == inputs.in_channels and latents.shape[0]
    if not fits or not all(side and side % multiple == 0 for side in latents.shape[2:]):
        sides = "" if multiple == 1 else f", both sides multiples of {multiple}"
        raise InputError(
            f"latents are of shape {list(latents.shape)}; the model reads [n, {inputs.in_channels}, height, "
            f"width], n at least 1{sides}. Give them so; nothing is cut."
        )


def _check_read(name: str, is_read: bool, given: list[Tensor | None]) -> None:
    if is_read and any(tensor is None for tensor in given):
        raise InputError(f"the model reads {name}, and none came. Set it in the Condition.")
    if not is_read and any(tensor is not None for tensor in given):
        raise InputError(f"the model reads no {name}. Leave it out of the Condition.")


def _check_labels(num_labels: int, labels: Int[Tensor, " n"]) -> None:
    if int(labels.min()) < 0 or int(labels.max()) >= num_labels:
        raise InputError(
            f"labels are {labels.tolist()[:8]}; classes are 0 to {num_labels - 1}, the last of which stands "
            "for none. Correct them."
        )


def _check_shapes(inputs: DenoiserInputs, num_images: int, condition: Condition) -> None:
    """Check the shape of each condition; a width that is `None` here is free, and at least 1."""
    wanted: dict[str, tuple[int | None, ...]] = {
        "labels": (num_images,),
        "text": (num_images, None, inputs.text_width),
        "text_mask": (num_images, None),
        "resolution": (num_images, 2),
        "aspect_ratio": (num_images, 1),
    }
    for name, tensor in vars(condition).items():
        if tensor is None:
            continue
        shape = wanted[name]
        sides = zip(tensor.shape, shape, strict=False)
        if tensor.dim() != len(shape) or any(got != want if want else not got for got, want in sides):
            told = ", ".join("tokens" if want is None else str(want) for want in shape)
            raise InputError(
                f"{name} is of shape {list(tensor.shape)}; with these latents the model reads [{told}]. Give "
                "one for each image, as wide as in training."
            )


def _check_mask(text: Tensor | None, mask: Tensor | None) -> None:
    if mask is None:
        return
    if text is None:
        raise InputError("a text_mask came without its text. Give both, or neither.")
    if mask.dtype != torch.bool or mask.shape != text.shape[:2] or not bool(mask.any(1).all()):
        raise InputError(
            f"text_mask is {mask.dtype}, {list(mask.shape)}; it must be bool, {list(text.shape[:2])}, "
            "and true for a token of each text at least. Correct it; an empty text still has its end."
        )
