"""Read LLaVA checkpoints (arXiv 2304.08485): CLIP's image encoder before a Llama. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.families import clip, llama, naming
from cynosure.models.families.bert import with_joined_qkv
from cynosure.models.families.encoder_labels import read_activation
from cynosure.models.image_decoder import ImageDecoder
from cynosure.models.image_decoder_spec import ImageDecoderSpec
from cynosure.models.json_file import JsonValue
from cynosure.models.vision_spec import VisionSpec

_DECODERS = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_BRANDS = {brand.architecture: brand for brand in llama.BRANDS}
#: What published configs leave out of a Llama's, and of a tower's, as their classes have it.
_LLAMA: Mapping[str, JsonValue] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 2048,
    "vocab_size": 32000,
}
#: Where the parts lie: as they are published, and as newer files have them.
_TEXT = ("language_model.model.", "model.language_model.")
_HEADS = ("language_model.lm_head.", "lm_head.")
_TOWERS = tuple(f"{lead}vision_tower.{model}" for lead in ("", "model.") for model in ("vision_model.", ""))
_PROJECTORS = ("multi_modal_projector.", "model.multi_modal_projector.")
_UNREAD = ("*embeddings.position_ids", "*.rotary_emb.inv_freq")


def parse(reader: ConfigReader) -> ImageDecoderSpec:
    """Return the spec of a `LlavaForConditionalGeneration`.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    image = _tower(reader)
    # How many places an image takes follows from its patches; the rest is of training, or said of the text.
    reader.ignore("image_seq_length", "ignore_index", "vocab_size")
    strategy = reader.expect("vision_feature_select_strategy", ["default", "full"], "default")
    spec = ImageDecoderSpec(
        text=_decoder(reader),
        image=image,
        image_token_id=reader.take("image_token_index", int, 32000),
        activation=read_activation(reader, "projector_hidden_act"),
        has_projector_bias=reader.take("multimodal_projector_bias", bool, True),
        has_class_feature=strategy == "full",
    )
    reader.finish()
    return spec


def _decoder(reader: ConfigReader) -> DecoderSpec:
    values = reader.take("text_config", dict, {})
    kind = str(values.get("model_type", "llama"))
    if kind not in _DECODERS:
        raise UnsupportedConfig(
            f"{reader.where} joins images to a {kind!r}; only {', '.join(_DECODERS)} are supported. Use "
            "another checkpoint."
        )
    is_tied = reader.take("tie_word_embeddings", bool, False) or values.get("tie_word_embeddings") is True
    given = {**(_LLAMA if kind == "llama" else {}), **values, "tie_word_embeddings": is_tied}
    return _BRANDS[_DECODERS[kind]].parse(ConfigReader(given, f"{reader.where}: text_config"))


def _tower(reader: ConfigReader) -> VisionSpec:
    """The encoder of images, up to the layer whose states are read."""
    values = ConfigReader(reader.take("vision_config", dict, {}), f"{reader.where}: vision_config")
    values.expect("model_type", ["clip_vision_model"])
    # Of a text tower, which a published config names by mistake.
    values.ignore("vocab_size")
    spec = clip.parse_vision(values, is_projected=False)
    wanted, num_layers = reader.take("vision_feature_layer", int, -2), len(spec.layers)
    count = wanted if wanted >= 0 else num_layers + 1 + wanted
    if not 1 <= count <= num_layers:
        raise UnsupportedConfig(
            f"{reader.where} has vision_feature_layer = {wanted}; its tower has {num_layers} layers. Correct "
            "it."
        )
    return replace(spec, layers=spec.layers[:count])


def rename(spec: ImageDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the parts their tensors; layers of the tower behind the one that is read get none."""
    inner = {**llama.ATTENTION, **llama.MLP, **llama.NORMS}
    text, tower = _source(weights, _TEXT), _source(weights, _TOWERS)
    found = naming.rename_part(weights, llama.OUTER, inner, stack="layers.", source=text, target="text.")
    found |= naming.rename_part(
        weights, clip.VISION, clip.INNER, stack=clip.STACK, source=tower, target="image."
    )
    with_joined_qkv(found, len(spec.image.layers), "image.")
    head, projector = {"": "text.head"}, {"linear_1": "projector.up", "linear_2": "projector.down"}
    for sources, table in ((_HEADS, head), (_PROJECTORS, projector)):
        for source in sources:
            found |= _below(weights, source, table)
    known = (text, tower, *_HEADS, *_PROJECTORS)
    found |= {name: weights.later(name) for name in weights.names() if not name.startswith(known)}
    return {name: source for name, source in found.items() if not _is_behind(name, len(spec.image.layers))}


def _below(weights: Weights, source: str, table: Mapping[str, str]) -> dict[str, TensorSource]:
    """Name the tensors below `source`; one that the table lacks keeps its name."""
    found: dict[str, TensorSource] = {}
    for name in weights.names():
        if name.startswith(source):
            owner, _, leaf = name.removeprefix(source).rpartition(".")
            target = table.get(owner)
            found[name if target is None else f"{target}.{leaf}"] = weights.later(name)
    return found


def _source(weights: Weights, candidates: tuple[str, ...]) -> str:
    for candidate in candidates:
        if any(name.startswith(candidate) for name in weights.names()):
            return candidate
    raise CheckpointCorrupt(f"the checkpoint has no tensors below {' or '.join(candidates)}. Fetch it again.")


def _is_behind(name: str, num_layers: int) -> bool:
    layer = re.match(r"image\.layers\.(\d+)\.", name)
    return layer is not None and int(layer[1]) >= num_layers


BRANDS = (
    Brand("LlavaForConditionalGeneration", ModelKind.IMAGE_DECODER, parse, ImageDecoder, rename, _UNREAD),
)
