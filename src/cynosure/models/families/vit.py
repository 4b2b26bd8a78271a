"""Read ViT checkpoints (arXiv 2010.11929). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from cynosure.attention import AttentionSpec
from cynosure.attention.masks import Full
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_spec import EncoderLayerSpec, HeadKind, Pooling, TransformSpec
from cynosure.models.families import naming
from cynosure.models.families.bert import with_joined_qkv
from cynosure.models.families.encoder_labels import read_activation, read_labels
from cynosure.models.families.widths import equal_heads
from cynosure.models.heads import HEAD_ACTIVATIONS
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.vision import VisionEncoder
from cynosure.models.vision_spec import ImagePooling, PatchSpec, VisionSpec


def as_rows(convolution: Tensor) -> Tensor:
    """Read the weight of a convolution over patches as that of a linear layer; a bias stays as it is."""
    return convolution.flatten(1) if convolution.dim() == 4 else convolution


def _without_lead(table: Tensor) -> Tensor:
    return table.flatten(0, 1)


_OUTER: dict[str, naming.Target] = {
    "embeddings.cls_token": {"embeddings.class_token": Tensor.flatten},
    "embeddings.position_embeddings": {"embeddings.position.weight": _without_lead},
    "embeddings.patch_embeddings.projection": {"embeddings.patch": as_rows},
    "layernorm": "final_norm",
    "pooler.dense": "transform.dense",
    "classifier": "head.output",
}
_INNER = {
    "attention.attention.query": "attention.query",
    "attention.attention.key": "attention.key",
    "attention.attention.value": "attention.value",
    "attention.output.dense": "attention.out",
    "layernorm_before": "attention_norm",
    "layernorm_after": "mlp_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
}


def parse(reader: ConfigReader, *, is_classifier: bool) -> VisionSpec:
    """Return the spec of `config.json`: a class token, pooled or classified.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    hidden_size = reader.take("hidden_size", int, 768, positive=True)
    heads = equal_heads(reader, hidden_size, reader.take("num_attention_heads", int, 12, positive=True))
    layer = EncoderLayerSpec(AttentionSpec(heads, mask=Full()))
    labels = read_labels(reader)
    pooler = TransformSpec(reader.expect("pooler_act", sorted(HEAD_ACTIVATIONS), "tanh"))
    reader.expect("pooler_output_size", [hidden_size], hidden_size)
    reader.expect("qkv_bias", [True])
    # The size of the patches that masked images are painted from, in training.
    reader.ignore("encoder_stride")
    spec = VisionSpec(
        patches=PatchSpec(
            reader.take("image_size", int, 224, positive=True),
            reader.take("patch_size", int, 16, positive=True),
            reader.take("num_channels", int, 3, positive=True),
        ),
        hidden_size=hidden_size,
        layers=(layer,) * reader.take("num_hidden_layers", int, 12, positive=True),
        mlp=MlpSpec(
            reader.take("intermediate_size", int, 3072, positive=True),
            read_activation(reader, "hidden_act"),
            is_gated=False,
            has_bias=True,
        ),
        norm=NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-12), has_bias=True),
        pooling=ImagePooling.NONE if is_classifier else ImagePooling.CLASS,
        transform=None if is_classifier else pooler,
        head=labels.head(HeadKind.SEQUENCE, pooling=Pooling.CLS) if is_classifier else None,
    )
    reader.finish()
    return spec


def rename(spec: VisionSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    # Beside a classifier, a pooler is read by none.
    outer = {theirs: ours for theirs, ours in _OUTER.items() if spec.head is None or theirs != "pooler.dense"}
    found = naming.rename(weights, outer, _INNER, stack="encoder.layer.", prefix="vit.")
    return with_joined_qkv(found, len(spec.layers))


_UNREAD = ("vit.pooler.*",)

BRANDS = tuple(
    Brand(name, ModelKind.VISION, partial(parse, is_classifier=is_classifier), VisionEncoder, rename, _UNREAD)
    for name, is_classifier in (("ViTModel", False), ("ViTForImageClassification", True))
)
