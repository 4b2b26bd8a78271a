"""Compare images with texts by two encoders. Knows nothing of brands, files or tokenizers.

CLIP (arXiv 2103.00020) and SigLIP (2303.15343): the logit of a pair is its cosine, scaled.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cynosure.core.errors import InputError
from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder
from cynosure.models.pooling import Rows
from cynosure.models.vision import VisionEncoder
from cynosure.models.vision_spec import ImageTextSpec, TextPooling, TextTowerSpec


class TextTower(nn.Module):
    """An encoder of texts, one of whose tokens is projected."""

    def __init__(self, spec: TextTowerSpec) -> None:
        """Hold the encoder and the projection."""
        super().__init__()
        self.spec = spec
        self.encoder = Encoder(spec.encoder)
        width = spec.encoder.hidden_size
        self.projection = nn.Linear(width, spec.projection_size, spec.has_projection_bias)

    def forward(self, batch: Batch, backend: str = "auto") -> Float[Tensor, "num_seqs width"]:
        """Return one vector a text.

        Raises:
            InputError: a text has no token that ends it, and the model reads that one.
            InputTooLong: a text is longer than the model.
        """
        hidden = self.encoder(batch, backend=backend).hidden
        return self.projection(hidden[self._rows(batch)])

    def _rows(self, batch: Batch) -> Int[Tensor, " num_seqs"]:
        rows = Rows.of(batch)
        if self.spec.pooling is TextPooling.LAST:
            return rows.lasts
        firsts, found = batch.plan.queries.offsets[:-1], []
        for first, ids in zip(firsts, batch.token_ids.split(batch.new_lens), strict=True):
            if self.spec.pooling is TextPooling.HIGHEST_ID:
                found.append(first + int(ids.argmax()))
                continue
            ends = (ids == self.spec.end_token_id).nonzero()
            if not len(ends):
                raise InputError(
                    f"a text lacks the token {self.spec.end_token_id}, at which this model reads it. Encode "
                    "it with the checkpoint's tokenizer."
                )
            found.append(first + int(ends[0, 0]))
        return torch.tensor(found)


class ImageText(nn.Module):
    """Both encoders; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: ImageTextSpec) -> None:
        """Hold the towers, the logarithm of the scale, and the bias where there is one."""
        super().__init__()
        self.spec = spec
        self.text = TextTower(spec.text)
        self.image = VisionEncoder(spec.image)
        self.logit_scale = nn.Parameter(torch.empty(1), requires_grad=False)
        self.logit_bias = nn.Parameter(torch.empty(1), requires_grad=False) if spec.has_logit_bias else None

    def embed_texts(self, batch: Batch, backend: str = "auto") -> Float[Tensor, "num_seqs width"]:
        """Return a vector of length 1 for each text.

        SigLIP was trained on texts that the checkpoint's tokenizer filled up to their full length, padding
        that is read like any token: pack them so.

        Raises:
            InputError: a text has no token that ends it, and the model reads that one.
            InputTooLong: a text is longer than the model.
        """
        return nn.functional.normalize(self.text(batch, backend), dim=-1)

    def embed_images(
        self, pixels: Float[Tensor, "n c h w"], backend: str = "auto"
    ) -> Float[Tensor, "n width"]:
        """Return a vector of length 1 for each image.

        Raises:
            InputError: the images are none, or of another size than the model's.
        """
        pooled = self.image(pixels, backend=backend).pooled
        assert pooled is not None, "both towers give vectors"
        return nn.functional.normalize(pooled, dim=-1)

    def forward(
        self, pixels: Float[Tensor, "n c h w"], batch: Batch, backend: str = "auto"
    ) -> Float[Tensor, "n num_seqs"]:
        """Return the logit of every image with every text.

        CLIP reads a row as a softmax over texts, SigLIP each logit as a probability by its sigmoid.

        Raises:
            InputError: images or texts are none that the model reads.
            InputTooLong: a text is longer than the model.
        """
        cosines = self.embed_images(pixels, backend) @ self.embed_texts(batch, backend).T
        logits = cosines * self.logit_scale.exp()
        return logits if self.logit_bias is None else logits + self.logit_bias
