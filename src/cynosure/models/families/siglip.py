"""Read SigLIP checkpoints (arXiv 2303.15343): both encoders, or one of them. Knows nothing of the graphs."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from cynosure.attention.masks import Full
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import EncoderSpec
from cynosure.models.families import clip, naming
from cynosure.models.families.bert import with_joined_qkv
from cynosure.models.families.vit import as_rows
from cynosure.models.image_text import ImageText
from cynosure.models.vision import VisionEncoder
from cynosure.models.vision_spec import (
    ImagePooling,
    ImageTextSpec,
    PatchSpec,
    TextPooling,
    TextTowerSpec,
    VisionSpec,
)

_TEXT: dict[str, naming.Target] = {
    "embeddings.token_embedding": "embeddings.token",
    "embeddings.position_embedding": "embeddings.position",
    "final_layer_norm": "final_norm",
}
_SIZES = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_ACTIVATION, _EPS = "gelu_pytorch_tanh", 1e-6


def _third(part: int) -> naming.Change:
    return lambda tensor: tensor.chunk(3)[part]


def _vision() -> dict[str, naming.Target]:
    """Name an image tower's modules; queries, keys and values of the pooling head are stored as one."""
    leaves = ("weight", "bias")
    joined: dict[str, naming.Target] = {
        f"head.attention.in_proj_{leaf}": {
            f"probe.{part}.{leaf}": _third(index) for index, part in enumerate("qkv")
        }
        for leaf in leaves
    }
    return {
        "embeddings.patch_embedding": {"embeddings.patch": as_rows},
        "embeddings.position_embedding": "embeddings.position",
        "post_layernorm": "final_norm",
        "head.probe": {"probe.probe": Tensor.flatten},
        "head.attention.out_proj": "probe.out",
        "head.layernorm": "probe.norm",
        "head.mlp.fc1": "probe.mlp.up",
        "head.mlp.fc2": "probe.mlp.down",
        **joined,
    }


def parse_text(reader: ConfigReader) -> EncoderSpec:
    """Return the spec of the encoder of texts, in which every token sees all."""
    stack = clip.layers(reader, _SIZES, Full(), _ACTIVATION, _EPS)
    # Who reads hidden states alone projects none.
    reader.ignore("projection_size")
    return clip.text_encoder(reader, stack, _SIZES["hidden_size"], vocab_size=32000, longest=64)


def parse_vision(reader: ConfigReader) -> VisionSpec:
    """Return the spec of the encoder of images, without a class token."""
    stack, mlp, norm = clip.layers(reader, _SIZES, Full(), _ACTIVATION, _EPS)
    has_head = reader.take("vision_use_head", bool, True)
    spec = VisionSpec(
        patches=PatchSpec(
            reader.take("image_size", int, 224, positive=True),
            reader.take("patch_size", int, 16, positive=True),
            reader.take("num_channels", int, 3, positive=True),
            has_class_token=False,
        ),
        hidden_size=reader.take("hidden_size", int, 768, positive=True),
        layers=stack,
        mlp=mlp,
        norm=norm,
        pooling=ImagePooling.PROBE if has_head else ImagePooling.NONE,
    )
    reader.finish()
    return spec


def parse(reader: ConfigReader) -> ImageTextSpec:
    """Return the spec of both encoders; the text's vector becomes as wide as the image's."""
    text, vision = clip.sub_config(reader, "text_config"), clip.sub_config(reader, "vision_config")
    vision.expect("vision_use_head", [True])
    image = parse_vision(vision)
    width = text.take("hidden_size", int, 768, positive=True)
    text.expect("projection_size", [image.hidden_size], width)
    tower = TextTowerSpec(parse_text(text), TextPooling.LAST, image.hidden_size, has_projection_bias=True)
    reader.finish()
    return ImageTextSpec(tower, image, has_logit_bias=True)


def rename_text(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give an encoder of texts its tensors; queries, keys and values become one projection."""
    found = naming.rename(weights, _TEXT, clip.INNER, stack=clip.STACK, prefix="text_model.")
    return with_joined_qkv(found, len(spec.layers))


def rename_vision(spec: VisionSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give an encoder of images its tensors."""
    found = naming.rename(weights, _vision(), clip.INNER, stack=clip.STACK, prefix="vision_model.")
    return with_joined_qkv(found, len(spec.layers))


def rename(spec: ImageTextSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give both encoders their tensors."""
    both: dict[str, naming.Target] = {
        "logit_scale": {"logit_scale": Tensor.flatten},
        "logit_bias": {"logit_bias": Tensor.flatten},
        "text_model.head": "text.projection",
    }
    found = clip.towers(spec, weights, _TEXT, _vision(), both)
    return {name: source for name, source in found.items() if not name.startswith("text_model.head.")}


BRANDS = (
    Brand("SiglipModel", ModelKind.IMAGE_TEXT, parse, ImageText, rename, clip.UNREAD),
    # The projection of a text's last token stands behind the hidden states.
    Brand(
        "SiglipTextModel",
        ModelKind.ENCODER,
        parse_text,
        Encoder,
        rename_text,
        (*clip.UNREAD, "head.*", "text_model.head.*"),
    ),
    Brand("SiglipVisionModel", ModelKind.VISION, parse_vision, VisionEncoder, rename_vision, clip.UNREAD),
)
