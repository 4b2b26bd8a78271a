"""Say how one architecture's checkpoints become a spec, a graph and named weights. Loads nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor, nn

from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader

TensorSource = Callable[[], Tensor]


class ModelKind(Enum):
    """What a graph does with tokens, or with images."""

    DECODER = "decoder"
    ENCODER = "encoder"
    ENCODER_DECODER = "encoder_decoder"
    VISION = "vision"
    IMAGE_TEXT = "image_text"
    IMAGE_DECODER = "image_decoder"
    DENOISER = "denoiser"
    AUTOENCODER = "autoencoder"

    @property
    def answers_with_vectors(self) -> bool:
        """Whether images go in, and vectors or logits of them come out, which no request asks for."""
        return self in (ModelKind.VISION, ModelKind.IMAGE_TEXT)

    @property
    def makes_images(self) -> bool:
        """Whether it is a part of what makes images, which no request asks for."""
        return self in (ModelKind.DENOISER, ModelKind.AUTOENCODER)


@dataclass(frozen=True)
class Brand:
    """One row of the table of architectures.

    `parse` reads every key of `config.json` into a frozen spec or raises `UnsupportedConfig`. `build` makes
    the graph of a spec. `rename` gives each of the graph's parameters its tensor from the checkpoint. A new
    brand whose graph exists is a row with its own `parse` and `rename`; `ignore` lists checkpoint tensors
    that the graph has no use for, as shell patterns.
    """

    architecture: str
    kind: ModelKind
    parse: Callable[[ConfigReader], Any]
    build: Callable[[Any], nn.Module]
    rename: Callable[[Any, Weights], Mapping[str, TensorSource]]
    ignore: tuple[str, ...] = ()
