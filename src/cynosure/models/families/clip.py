"""Read CLIP checkpoints (arXiv 2103.00020): both encoders, or one of them. Knows nothing of the graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from torch import Tensor

from cynosure.attention import AttentionSpec
from cynosure.attention.masks import Causal, Full, Mask
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import EmbeddingSpec, EncoderLayerSpec, EncoderSpec
from cynosure.models.families import naming
from cynosure.models.families.bert import with_joined_qkv
from cynosure.models.families.encoder_labels import read_activation
from cynosure.models.families.vit import as_rows
from cynosure.models.families.widths import equal_heads
from cynosure.models.image_text import ImageText, TextTower
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length
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
VISION: dict[str, naming.Target] = {
    "embeddings.class_embedding": "embeddings.class_token",
    "embeddings.patch_embedding": {"embeddings.patch": as_rows},
    "embeddings.position_embedding": "embeddings.position",
    "pre_layrnorm": "first_norm",
    "post_layernorm": "final_norm",
    "visual_projection": "projection",
}
_BOTH: dict[str, naming.Target] = {
    "logit_scale": {"logit_scale": Tensor.flatten},
    "text_projection": "text.projection",
    "visual_projection": "image.projection",
}
INNER = {
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.out",
    "layer_norm1": "attention_norm",
    "layer_norm2": "mlp_norm",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}
STACK = "encoder.layers."
#: A range that was once stored.
UNREAD = ("*embeddings.position_ids",)
#: What old configs hold as the id of the last token, whatever the tokenizer's is.
_OLD_END = 2
#: Of a published config, by its class, where it names no other.
_TEXT_SIZES = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
_VISION_SIZES = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 32}
_ACTIVATION, _EPS = "quick_gelu", 1e-5


def layers(
    reader: ConfigReader, sizes: Mapping[str, int], mask: Mask, activation: str, eps: float
) -> tuple[tuple[EncoderLayerSpec, ...], MlpSpec, NormSpec]:
    """Read the layers of a tower, its feed-forward half and its norm, with the defaults of its brand."""
    hidden_size = reader.take("hidden_size", int, sizes["hidden_size"], positive=True)
    num_heads = reader.take("num_attention_heads", int, sizes["num_attention_heads"], positive=True)
    layer = EncoderLayerSpec(AttentionSpec(equal_heads(reader, hidden_size, num_heads), mask=mask))
    mlp = MlpSpec(
        reader.take("intermediate_size", int, sizes["intermediate_size"], positive=True),
        read_activation(reader, "hidden_act", activation),
        is_gated=False,
        has_bias=True,
    )
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, eps), has_bias=True)
    # Towers have no head that could be tied; old files say so of every config.
    reader.ignore("tie_word_embeddings")
    return (layer,) * reader.take("num_hidden_layers", int, 12, positive=True), mlp, norm


def text_encoder(
    reader: ConfigReader,
    stack: tuple[tuple[EncoderLayerSpec, ...], MlpSpec, NormSpec],
    hidden_size: int,
    vocab_size: int,
    longest: int,
) -> EncoderSpec:
    """Return the spec of an encoder of texts with these layers, with the defaults of its brand."""
    alike, mlp, norm = stack
    num_positions = reader.take("max_position_embeddings", int, longest, positive=True)
    spec = EncoderSpec(
        hidden_size=reader.take("hidden_size", int, hidden_size, positive=True),
        embeddings=EmbeddingSpec(
            reader.take("vocab_size", int, vocab_size, positive=True), None, num_positions
        ),
        layers=alike,
        mlp=mlp,
        norm=norm,
        is_pre_norm=True,
        has_attention_bias=True,
        max_model_len=declared_length(reader, num_positions) or num_positions,
    )
    reader.finish()
    return spec


def parse_text(reader: ConfigReader) -> EncoderSpec:
    """Return the spec of the encoder of texts, in which a token sees what came before it."""
    stack = layers(reader, _TEXT_SIZES, Causal(), _ACTIVATION, _EPS)
    # Who reads hidden states alone projects none.
    reader.ignore("projection_dim")
    return text_encoder(reader, stack, _TEXT_SIZES["hidden_size"], vocab_size=49408, longest=77)


def parse_vision(reader: ConfigReader, *, is_projected: bool) -> VisionSpec:
    """Return the spec of the encoder of images, projected where the architecture says so."""
    stack, mlp, norm = layers(reader, _VISION_SIZES, Full(), _ACTIVATION, _EPS)
    projection_size = reader.take("projection_dim", int, 512, positive=True)
    spec = VisionSpec(
        patches=PatchSpec(
            reader.take("image_size", int, 224, positive=True),
            reader.take("patch_size", int, 32, positive=True),
            reader.take("num_channels", int, 3, positive=True),
            has_bias=False,
        ),
        hidden_size=reader.take("hidden_size", int, 768, positive=True),
        layers=stack,
        mlp=mlp,
        norm=norm,
        pooling=ImagePooling.CLASS_ALONE,
        has_first_norm=True,
        projection_size=projection_size if is_projected else None,
    )
    reader.finish()
    return spec


def parse_tower(reader: ConfigReader) -> TextTowerSpec:
    """Return the spec of the encoder of texts, one of whose tokens is projected."""
    return _tower(reader, reader.take("projection_dim", int, 512, positive=True))


def _tower(reader: ConfigReader, projection_size: int) -> TextTowerSpec:
    end = reader.take("eos_token_id", int, 49407)
    return TextTowerSpec(
        parse_text(reader),
        TextPooling.HIGHEST_ID if end == _OLD_END else TextPooling.FIRST_END,
        projection_size,
        end_token_id=None if end == _OLD_END else end,
    )


def parse(reader: ConfigReader) -> ImageTextSpec:
    """Return the spec of both encoders; the size that they are projected to stands beside their configs."""
    text, vision = sub_config(reader, "text_config"), sub_config(reader, "vision_config")
    projection_size = reader.take("projection_dim", int, 512, positive=True)
    # Where training begins.
    reader.ignore("logit_scale_init_value")
    tower = _tower(text, projection_size)
    image = replace(parse_vision(vision, is_projected=True), projection_size=projection_size)
    reader.finish()
    return ImageTextSpec(tower, image)


def sub_config(reader: ConfigReader, key: str) -> ConfigReader:
    """Return the reader of one tower's config; old files say it twice, under `..._dict` too.

    Raises:
        UnsupportedConfig: The two differ.
    """
    values, twice = reader.take(key, dict, {}), reader.take(f"{key}_dict", dict, {})
    differing = sorted(name for name in twice if name in values and values[name] != twice[name])
    if differing:
        raise UnsupportedConfig(
            f"{reader.where} has {', '.join(differing)} in {key}, and with another value in {key}_dict. Keep "
            "one."
        )
    return ConfigReader({**values, **twice}, f"{reader.where}: {key}")


def rename_text(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give an encoder of texts its tensors; queries, keys and values become one projection."""
    found = naming.rename(weights, _TEXT, INNER, stack=STACK, prefix="text_model.")
    return with_joined_qkv(found, len(spec.layers))


def rename_tower(spec: TextTowerSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give an encoder of texts and its projection their tensors."""
    lead, below = "text_model.", "encoder."
    rest = naming.rename(weights, {"text_projection": "projection"}, {}, stack=STACK)
    found = {name: source for name, source in rest.items() if not name.startswith(lead)}
    found |= naming.rename_part(weights, _TEXT, INNER, stack=STACK, source=lead, target=below)
    return with_joined_qkv(found, len(spec.encoder.layers), below)


def rename_vision(spec: VisionSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give an encoder of images its tensors."""
    found = naming.rename(weights, VISION, INNER, stack=STACK, prefix="vision_model.")
    return with_joined_qkv(found, len(spec.layers))


def rename(spec: ImageTextSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give both encoders their tensors."""
    return towers(spec, weights, _TEXT, VISION, _BOTH)


def towers(
    spec: ImageTextSpec,
    weights: Weights,
    text: Mapping[str, naming.Target],
    vision: Mapping[str, naming.Target],
    both: Mapping[str, naming.Target],
) -> dict[str, TensorSource]:
    """Name the tensors of two towers and of what joins them, by a table each."""
    parts = {"text_model.": ("text.encoder.", text), "vision_model.": ("image.", vision)}
    rest = naming.rename(weights, both, {}, stack=STACK)
    found = {name: source for name, source in rest.items() if not name.startswith(tuple(parts))}
    for source, (target, table) in parts.items():
        found |= naming.rename_part(weights, table, INNER, stack=STACK, source=source, target=target)
    with_joined_qkv(found, len(spec.text.encoder.layers), "text.encoder.")
    return with_joined_qkv(found, len(spec.image.layers), "image.")


BRANDS = (
    Brand("CLIPModel", ModelKind.IMAGE_TEXT, parse, ImageText, rename, UNREAD),
    Brand("CLIPTextModel", ModelKind.ENCODER, parse_text, Encoder, rename_text, UNREAD),
    Brand("CLIPTextModelWithProjection", ModelKind.ENCODER, parse_tower, TextTower, rename_tower, UNREAD),
    *(
        Brand(
            name,
            ModelKind.VISION,
            partial(parse_vision, is_projected=is_projected),
            VisionEncoder,
            rename_vision,
            UNREAD,
        )
        for name, is_projected in (("CLIPVisionModel", False), ("CLIPVisionModelWithProjection", True))
    ),
)
