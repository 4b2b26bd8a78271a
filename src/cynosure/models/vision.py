"""Run a stack of layers over the patches of images. Knows nothing of brands, files or how pixels were made.

ViT (arXiv 2010.11929), and the image towers of CLIP (2103.00020) and SigLIP (2303.15343), are specs of this
graph; the layers are those of texts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cynosure.attention import AttentionPlan, AttentionSpec, AttentionState, DenseSource, Watch, attend
from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.masks import Full
from cynosure.core.errors import InputError
from cynosure.models.batch import Batch
from cynosure.models.embedding import embedding
from cynosure.models.encoder import EncoderLayer
from cynosure.models.forward_pass import ForwardPass
from cynosure.models.heads import Head, Transform
from cynosure.models.mlp import Mlp
from cynosure.models.norm import Norm
from cynosure.models.vision_spec import ImagePooling, PatchSpec, VisionSpec


@dataclass(frozen=True, eq=False)
class VisionOutput:
    """What a pass over images gives.

    `hidden` holds a row a token, the class token first where there is one; `pooled` one vector an image, or
    `None` where the checkpoint has no such; `states` what was observed in each watched layer.
    """

    hidden: Float[Tensor, "n tokens hidden"]
    pooled: Float[Tensor, "n width"] | None
    states: dict[int, AttentionState]


class PatchEmbeddings(nn.Module):
    """Project each patch, put the class token first, add positions."""

    def __init__(self, spec: PatchSpec, hidden_size: int) -> None:
        """Hold the projection; a convolution whose stride is its width is a linear layer over patches."""
        super().__init__()
        self.spec = spec
        self.patch = nn.Linear(spec.patch_width, hidden_size, spec.has_bias)
        shape = (hidden_size,)
        self.class_token = nn.Parameter(torch.empty(shape), False) if spec.has_class_token else None
        self.position = embedding(spec.num_tokens, hidden_size)

    def forward(self, pixels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n tokens hidden"]:
        """Return the first hidden states.

        Raises:
            InputError: images are of another size; positions are not interpolated.
        """
        spec = self.spec
        expected = (spec.num_channels, spec.image_size, spec.image_size)
        if tuple(pixels.shape[1:]) != expected or not pixels.shape[0]:
            raise InputError(
                f"pixels are of shape {list(pixels.shape)}; the model reads n images of {list(expected)}, n "
                "at least 1, and its positions are not interpolated. Resize the images."
            )
        x = self.patch(patches_of(pixels.to(self.position.weight.dtype), spec.patch_size))
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], 1, -1), x], dim=1)
        return x + self.position.weight


class ProbePooling(nn.Module):
    """Let one learned query attend to all tokens, then transform what it took."""

    def __init__(self, spec: VisionSpec) -> None:
        """Hold the query, the projections and the feed-forward layer."""
        super().__init__()
        width = spec.hidden_size
        self.spec = AttentionSpec(spec.layers[0].attention.heads, mask=Full())
        self.probe = nn.Parameter(torch.empty(width), requires_grad=False)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm = Norm(spec.norm, width)
        self.mlp = Mlp(spec.mlp, width)

    def forward(self, x: Float[Tensor, "n tokens hidden"], backend: str) -> Float[Tensor, "n hidden"]:
        """Return one vector an image."""
        num_images, num_tokens, _ = x.shape
        heads = self.spec.heads
        shape = (heads.num_heads, heads.head_dim)
        q = self.q(self.probe).expand(num_images, -1).unflatten(-1, shape)
        flat = x.flatten(0, 1)
        source = DenseSource(self.k(flat).unflatten(-1, shape), self.v(flat).unflatten(-1, shape))
        plan = AttentionPlan.of_lengths([1] * num_images, [num_tokens] * num_images)
        state = attend(self.spec, q.contiguous(), [source], plan, weights=NO_WEIGHTS, backend=backend)
        taken = self.out(state.out.to(x.dtype).flatten(1))
        return taken + self.mlp(self.norm(taken))


class VisionEncoder(nn.Module):
    """The whole graph; build it on the meta device and let `fill` assign its weights."""

    def __init__(self, spec: VisionSpec) -> None:
        """Hold embeddings, layers, and what turns an image into one vector or into logits."""
        super().__init__()
        self.spec = spec
        self.embeddings = PatchEmbeddings(spec.patches, spec.hidden_size)
        self.first_norm = Norm(spec.norm, spec.hidden_size) if spec.has_first_norm else nn.Identity()
        self.layers = nn.ModuleList(EncoderLayer(spec, layer) for layer in range(len(spec.layers)))
        self.final_norm = Norm(spec.norm, spec.hidden_size)
        self.probe = ProbePooling(spec) if spec.pooling is ImagePooling.PROBE else None
        self.transform = None if spec.transform is None else Transform(spec.transform, spec.hidden_size)
        width = spec.projection_size
        self.projection = None if width is None else nn.Linear(spec.hidden_size, width, bias=False)
        self.head = None if spec.head is None else Head(spec.head, spec.hidden_size)

    def forward(
        self,
        pixels: Float[Tensor, "n c h w"],
        *,
        watch: Watch | None = None,
        watched_layers: Collection[int] | None = None,
        backend: str = "auto",
    ) -> VisionOutput:
        """Return the states of all patches, and a vector for each image.

        Args:
            pixels: scaled and normalised as the checkpoint's preprocessor says; any float dtype.
            watch: what to observe.
            watched_layers: where; `None` is everywhere.
            backend: of attention, by name.

        Raises:
            InputError: the images are none, or of another size than the model's.
        """
        x = self.first_norm(self.embeddings(pixels))
        num_images, num_tokens, _ = x.shape
        batch = image_batch(num_images, num_tokens)
        forward_pass = ForwardPass(batch, watch=watch, watched=watched_layers, backend=backend)
        flat = x.flatten(0, 1)
        for layer in self.layers:
            flat = layer(flat, forward_pass)
        is_class_alone = self.spec.pooling is ImagePooling.CLASS_ALONE
        hidden = (flat if is_class_alone else self.final_norm(flat)).unflatten(0, (num_images, num_tokens))
        return VisionOutput(hidden, self._pooled(hidden, backend), forward_pass.states)

    def logits(self, output: VisionOutput) -> Float[Tensor, "n outputs"]:
        """Return what the classifier says of each image.

        Raises:
            InputError: the checkpoint has no classifier.
        """
        if self.head is None:
            raise InputError(
                "this model has no classifier: it gives hidden states. Load a ...ForImageClassification."
            )
        num_images, num_tokens, _ = output.hidden.shape
        return self.head(output.hidden.flatten(0, 1), image_batch(num_images, num_tokens))

    def _pooled(self, hidden: Float[Tensor, "n tokens hidden"], backend: str) -> Tensor | None:
        match self.spec.pooling:
            case ImagePooling.NONE:
                return None
            case ImagePooling.CLASS:
                pooled = hidden[:, 0]
            case ImagePooling.CLASS_ALONE:
                pooled = self.final_norm(hidden[:, 0])
            case ImagePooling.PROBE:
                assert self.probe is not None
                pooled = self.probe(hidden, backend)
        pooled = pooled if self.transform is None else self.transform(pooled)
        return pooled if self.projection is None else self.projection(pooled)


def patches_of(pixels: Float[Tensor, "n c h w"], size: int) -> Float[Tensor, "n patches width"]:
    """Cut images into squares of `size`, row by row; channels come first in each, as in a convolution."""
    rows, columns = pixels.shape[2] // size, pixels.shape[3] // size
    whole = pixels[:, :, : rows * size, : columns * size]
    return (
        whole.unflatten(3, (columns, size))
        .unflatten(2, (rows, size))
        .permute(0, 2, 4, 1, 3, 5)
        .flatten(3)
        .flatten(1, 2)
    )


def image_batch(num_images: int, num_tokens: int) -> Batch:
    """Lay out images as sequences of one length; no layer reads their token ids."""
    plan = AttentionPlan.of_lengths([num_tokens] * num_images)
    ids = torch.zeros(num_images * num_tokens, dtype=torch.int64)
    return Batch(ids, plan.queries.positions, plan, (num_tokens,) * num_images)
