"""Read Qwen2-VL checkpoints (arXiv 2409.12191): a Qwen2 that reads images of any size. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from cynosure.attention import AttentionSpec
from cynosure.attention.masks import Full
from cynosure.attention.positions import AxialRope, MRope, Rope
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.encoder_spec import EncoderLayerSpec
from cynosure.models.families import llama, naming
from cynosure.models.families.encoder_labels import read_activation
from cynosure.models.families.widths import equal_heads
from cynosure.models.grid_decoder import GridDecoder
from cynosure.models.grid_vision_spec import GridDecoderSpec, GridVisionSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.self_attention import SelfAttentionSpec

_QWEN2 = next(brand for brand in llama.BRANDS if brand.architecture == "Qwen2ForCausalLM")
_NORM = NormSpec(NormKind.LAYER, 1e-6, has_bias=True)
#: Frequencies of time, rows and columns, where the config does not say.
_SECTIONS = (16, 24, 24)


def _flat(convolution: Tensor) -> Tensor:
    return convolution.flatten(1)


_TOWER: dict[str, naming.Target] = {
    "patch_embed.proj": {"patch": _flat},
    "merger.ln_q": "merger.norm",
    "merger.mlp.0": "merger.up",
    "merger.mlp.2": "merger.down",
}
_BLOCK: dict[str, naming.Target] = {
    "norm1": "attention_norm",
    "norm2": "mlp_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.out",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
}


def parse(reader: ConfigReader) -> GridDecoderSpec:
    """Return the spec of a `Qwen2VLForConditionalGeneration`; published files hold no `text_config`.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    image = _tower(reader)
    token_ids = [reader.take(f"{kind}_token_id", int, None) for kind in ("image", "video")]
    image_id, video_id = (given or usual for given, usual in zip(token_ids, (151655, 151656), strict=True))
    # Words around images, which prompts are written with.
    reader.ignore("vision_start_token_id", "vision_end_token_id", "vision_token_id")
    if reader.holds("text_config", dict):
        values = reader.take("text_config", dict)
        is_tied = reader.take("tie_word_embeddings", bool, False)
        reader.finish()
        reader = ConfigReader({"tie_word_embeddings": is_tied, **values}, f"{reader.where}: text_config")
    text = _decoder(reader)
    if image.out_size != text.hidden_size:
        raise UnsupportedConfig(
            f"{reader.where} joins images of {image.out_size} channels to tokens of {text.hidden_size}. "
            "Correct it."
        )
    return GridDecoderSpec(text, image, image_id, video_id)


def _decoder(reader: ConfigReader) -> DecoderSpec:
    """Return a Qwen2's spec whose layers rotate on three axes; ends the reader."""
    rotary = reader.sub("rope_parameters") or reader.sub("rope_scaling")
    sections = _SECTIONS if rotary is None else rotary.take_list("mrope_section", int, _SECTIONS) or _SECTIONS
    spec = _QWEN2.parse(reader)
    return replace(spec, layers=tuple(_on_axes(layer, sections) for layer in spec.layers))


def _on_axes(layer: LayerSpec, sections: tuple[int, ...]) -> LayerSpec:
    block = layer.attention
    assert isinstance(block, SelfAttentionSpec)
    rope = block.attention.position
    assert isinstance(rope, Rope)
    position = MRope(rope.dim, rope.theta, sections, rope.scaling, max_model_len=rope.max_model_len)
    attention = replace(block.attention, position=position)
    return replace(layer, attention=replace(block, attention=attention))


def _tower(reader: ConfigReader) -> GridVisionSpec:
    """The encoder of images."""
    given = ConfigReader(
        reader.take("vision_config", dict, {}),
        f"{reader.where}: vision_config",
        aliases={"in_chans": "in_channels"},
    )
    width = given.take("embed_dim", int, 1280, positive=True)
    heads = equal_heads(given, width, given.take("num_heads", int, 16, positive=True))
    rotary = given.sub("rope_parameters")
    theta = 10_000.0
    if rotary is not None:
        rotary.expect("rope_type", ["axial"], "axial")
        theta = rotary.take("rope_theta", float, theta, positive=True)
    attention = AttentionSpec(heads, mask=Full(), position=AxialRope(heads.head_dim, theta))
    # Said twice in published files.
    given.ignore("spatial_patch_size")
    spec = GridVisionSpec(
        num_channels=given.take("in_channels", int, 3, positive=True),
        num_frames=given.take("temporal_patch_size", int, 2, positive=True),
        patch_size=given.take("patch_size", int, 14, positive=True),
        hidden_size=width,
        layers=(EncoderLayerSpec(attention),) * given.take("depth", int, 32, positive=True),
        mlp=MlpSpec(
            width * given.take("mlp_ratio", int, 4, positive=True),
            read_activation(given, "hidden_act", "quick_gelu"),
            is_gated=False,
            has_bias=True,
        ),
        norm=_NORM,
        merge_size=given.take("spatial_merge_size", int, 2, positive=True),
        out_size=given.take("hidden_size", int, 3584, positive=True),
    )
    given.finish()
    return spec


def rename(spec: GridDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Name the tensors of both parts, as published files and newer ones have them."""
    is_new = any(name.startswith("model.language_model.") for name in weights.names())
    text, tower = ("model.language_model.", "model.visual.") if is_new else ("model.", "visual.")
    inner = {**llama.ATTENTION, **llama.MLP, **llama.NORMS}
    found = naming.rename_part(weights, llama.OUTER, inner, stack="layers.", source=text, target="text.")
    found |= naming.rename_part(weights, _TOWER, _BLOCK, stack="blocks.", source=tower, target="image.")
    rest = naming.rename(weights, {"lm_head": "text.head"}, {}, stack="layers.")
    return found | {name: source for name, source in rest.items() if not name.startswith((text, tower))}


BRANDS = (
    Brand(
        "Qwen2VLForConditionalGeneration",
        ModelKind.IMAGE_DECODER,
        parse,
        GridDecoder,
        rename,
        ("*.rotary_emb.inv_freq", "*.rotary_pos_emb.inv_freq"),
    ),
)
