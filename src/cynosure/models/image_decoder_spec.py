"""Describe a decoder that reads images among tokens as a value. Knows nothing of tensors, files or brands."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.vision_spec import VisionSpec


@dataclass(frozen=True)
class ImageDecoderSpec:
    """A decoder, an encoder of images, and what joins them (LLaVA, arXiv 2304.08485 and 2310.03744).

    The states of patches, and of the class token where `has_class_feature`, go through two linear layers with
    `activation` between them. They take the places of the tokens `image_token_id`, in order.
    """

    text: DecoderSpec
    image: VisionSpec
    image_token_id: int
    activation: str
    has_projector_bias: bool = True
    has_class_feature: bool = False

    @property
    def num_image_tokens(self) -> int:
        """Places that an image takes."""
        patches = self.image.patches
        return patches.num_tokens - (patches.has_class_token and not self.has_class_feature)

    @property
    def vocab_size(self) -> int:
        """Ids from 0 that a prompt may hold."""
        return self.text.vocab_size

    @property
    def max_model_len(self) -> int | None:
        """Tokens of a sequence, those of images among them."""
        return self.text.max_model_len
