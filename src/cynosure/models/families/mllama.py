"""Read Llama 3.2 Vision checkpoints (arXiv 2407.21783): a Llama that attends to images. Runs nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Full
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder_spec import DecoderSpec
from cynosure.models.families import llama
from cynosure.models.families.encoder_labels import read_activation
from cynosure.models.families.naming import module_and_leaf
from cynosure.models.families.vit import as_rows
from cynosure.models.families.widths import equal_heads
from cynosure.models.json_file import JsonValue
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.self_attention import SelfAttentionSpec
from cynosure.models.tiled_decoder import TiledDecoder, around
from cynosure.models.tiled_vision_spec import CrossLayerSpec, TiledDecoderSpec, TiledVisionSpec

_LLAMA = next(brand for brand in llama.BRANDS if brand.architecture == "LlamaForCausalLM")
#: What published configs leave out, as their classes have it.
_TEXT: Mapping[str, JsonValue] = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-5,
}
_CROSS_PLACES = (3, 8, 13, 18, 23, 28, 33, 38)
_GRIDS = ((1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1))
_READ_LAYERS = (3, 7, 15, 23, 30)
#: Of norms outside of layers, as the published graph has it whatever the config says.
_OUTER_EPS = 1e-5
#: Ids beyond those that an answer may hold, the image's among them.
_NUM_OTHER_IDS = 8

_LAYER = re.compile(r"(?P<stack>.*?)layers\.(?P<index>\d+)\.(?P<rest>.+)")
_OWN: Mapping[str, str] = {
    name: target
    for name, target in {**llama.ATTENTION, **llama.MLP, **llama.NORMS}.items()
    if isinstance(target, str)
}
_CROSS: Mapping[str, str] = {
    **{f"cross_attn.{part}_proj": part for part in "qkvo"},
    **{f"cross_attn.{part}_norm": f"{part}_norm" for part in "qk"},
    "cross_attn_attn_gate": "attention_gate",
    "cross_attn_mlp_gate": "mlp_gate",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
    **{f"mlp.{part}_proj": f"mlp.{part}" for part in ("gate", "up", "down")},
}
_TILE_LAYER: Mapping[str, str] = {
    **{f"self_attn.{theirs}_proj": ours for theirs, ours in zip("qkvo", ("q", "k", "v", "out"), strict=True)},
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "mlp_norm",
    "mlp.fc1": "mlp.up",
    "mlp.fc2": "mlp.down",
    "gate_attn": "attention_gate",
    "gate_ffn": "mlp_gate",
}
_STACKS = {"transformer.": "layers", "global_transformer.": "gated_layers"}
_VISION: Mapping[str, str] = {
    "class_embedding": "embeddings.class_token",
    "patch_embedding": "embeddings.patch",
    "pre_tile_positional_embedding.embedding": "embeddings.tile",
    "pre_tile_positional_embedding.gate": "embeddings.tile_gate",
    "gated_positional_embedding.embedding": "embeddings.position",
    "gated_positional_embedding.gate": "embeddings.position_gate",
    "gated_positional_embedding.tile_embedding": "embeddings.tile_position",
    "layernorm_pre": "embeddings.norm",
    "layernorm_post": "middle_norm",
    "post_tile_positional_embedding.embedding": "tile",
    "post_tile_positional_embedding.gate": "tile_gate",
}
_OUTER = {"embed_tokens": "text.embed", "norm": "text.norm"}
#: Where the parts lie: as they are published, and as newer files have them.
_TEXTS = ("language_model.model.", "model.language_model.")
_TOWERS = ("vision_model.", "model.vision_model.")
_REST = {
    "lm_head": "text.head",
    "language_model.lm_head": "text.head",
    "multi_modal_projector": "projector",
    "model.multi_modal_projector": "projector",
}


def parse(reader: ConfigReader) -> TiledDecoderSpec:
    """Return the spec of a `MllamaForConditionalGeneration`.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    image = _tower(reader)
    token_id = reader.take("image_token_index", int, 128256)
    values = {**_TEXT, **reader.take("text_config", dict, {})}
    if reader.take("tie_word_embeddings", bool, False):
        raise UnsupportedConfig(
            f"{reader.where} ties its head to its embeddings, which are more than an answer may hold. Remove "
            "the key."
        )
    reader.finish()
    listed = values.pop("cross_attention_layers", None)
    where = f"{reader.where}: text_config"
    places = _places(listed or [*_CROSS_PLACES], values["num_hidden_layers"], where)
    num_own = int(str(values["num_hidden_layers"])) - len(places)
    text = _LLAMA.parse(ConfigReader({**values, "num_hidden_layers": num_own}, where))
    spec = TiledDecoderSpec(
        text, image, _cross(text), places, token_id, num_ids=text.vocab_size + _NUM_OTHER_IDS
    )
    if not text.vocab_size <= token_id < spec.num_ids:
        raise UnsupportedConfig(
            f"{reader.where} has image_token_index = {token_id}; it must be one of the {_NUM_OTHER_IDS} ids "
            f"behind the vocabulary of {text.vocab_size}. Correct it."
        )
    return spec


def _places(listed: JsonValue, count: JsonValue, where: str) -> tuple[int, ...]:
    """The layers that attend to images, of all."""
    given = listed if isinstance(listed, list) else []
    numbers = [one for one in given if isinstance(one, int)]
    total = count if isinstance(count, int) else 0
    is_sound = numbers == given == sorted(set(numbers)) and 0 < len(numbers) < total
    if not is_sound or numbers[0] < 0 or numbers[-1] >= total:
        raise UnsupportedConfig(
            f"{where} has cross_attention_layers = {listed!r} of {count!r} layers; they are some of them, in "
            "order. Correct it."
        )
    return tuple(numbers)


def _cross(text: DecoderSpec) -> CrossLayerSpec:
    """A layer that attends to images has the widths of the others, and no positions."""
    layer = text.layers[0]
    assert isinstance(layer.attention, SelfAttentionSpec)
    assert isinstance(layer.mlp, MlpSpec)
    heads: Heads = layer.attention.attention.heads
    return CrossLayerSpec(AttentionSpec(heads, Full()), layer.mlp, layer.norm)


def _tower(reader: ConfigReader) -> TiledVisionSpec:
    """The encoder of images."""
    given = ConfigReader(
        reader.take("vision_config", dict, {}),
        f"{reader.where}: vision_config",
        aliases={"num_attention_heads": "attention_heads"},
    )
    width = given.take("hidden_size", int, 1280, positive=True)
    heads = equal_heads(given, width, given.take("attention_heads", int, 16, positive=True))
    read_layers = given.take_list("intermediate_layers_indices", int, _READ_LAYERS) or ()
    grids = tuple(
        _pair(one, given.where) for one in given.take_list("supported_aspect_ratios", list) or _GRIDS
    )
    # The largest number of a grid; and of a head, which a tower does not have, as files say of every config.
    given.ignore("max_aspect_ratio_id", "tie_word_embeddings")
    spec = TiledVisionSpec(
        tile_size=given.take("image_size", int, 448, positive=True),
        patch_size=given.take("patch_size", int, 14, positive=True),
        num_channels=given.take("num_channels", int, 3, positive=True),
        hidden_size=width,
        attention=AttentionSpec(heads, mask=Full()),
        num_layers=given.take("num_hidden_layers", int, 32, positive=True),
        num_gated_layers=given.take("num_global_layers", int, 8, positive=True),
        mlp=MlpSpec(
            given.take("intermediate_size", int, 5120, positive=True),
            read_activation(given, "hidden_act", "gelu"),
            is_gated=False,
            has_bias=True,
        ),
        norm=NormSpec(NormKind.LAYER, given.take("norm_eps", float, 1e-5, positive=True), has_bias=True),
        outer_norm=NormSpec(NormKind.LAYER, _OUTER_EPS, has_bias=True),
        max_tiles=given.take("max_num_tiles", int, 4, positive=True),
        grids=grids,
        read_layers=tuple(read_layers),
    )
    out_size = given.take("vision_output_dim", int, 7680, positive=True)
    given.finish()
    _check(spec, out_size, given.where)
    return spec


def _pair(value: object, where: str) -> tuple[int, int]:
    numbers = list(value) if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or not all(isinstance(one, int) and one > 0 for one in numbers):
        raise UnsupportedConfig(f"{where} has the aspect ratio {value!r}; two numbers over 0 are needed.")
    return numbers[0], numbers[1]


def _check(spec: TiledVisionSpec, out_size: int, where: str) -> None:
    """Refuse numbers that do not fit together."""
    read = list(spec.read_layers)
    if read != sorted(set(read)) or not set(read) <= set(range(spec.num_layers)):
        raise UnsupportedConfig(
            f"{where} has intermediate_layers_indices = {read} of {spec.num_layers} layers; "
            "they are some of them, in order. Correct it."
        )
    if out_size != spec.out_size:
        raise UnsupportedConfig(
            f"{where} has vision_output_dim = {out_size}; its layers give {spec.out_size}. Correct it."
        )
    if max(down * across for down, across in spec.grids) > spec.max_tiles:
        raise UnsupportedConfig(
            f"{where} has aspect ratios of more than max_num_tiles = {spec.max_tiles} tiles. Correct it."
        )


def rename(spec: TiledDecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the parts their tensors; a name that nobody knows stays, so that it is noticed."""
    places = _places_of_layers(spec)
    found: dict[str, TensorSource] = {}
    for name in weights.names():
        target = _target(name, places)
        change = as_rows if target == "image.embeddings.patch.weight" else None
        found[target or name] = weights.later(name, change)
    return found


def _target(name: str, places: Mapping[int, tuple[str, Mapping[str, str]]]) -> str | None:
    """Our name of a tensor; None where we have none."""
    for lead in _TEXTS:
        if name.startswith(lead):
            layer = _LAYER.fullmatch(name.removeprefix(lead))
            if layer is None:
                return _renamed(name.removeprefix(lead), _OUTER, "")
            place, table = places.get(int(layer["index"]), ("", {}))
            return _renamed(layer["rest"], table, place)
    for lead in _TOWERS:
        if name.startswith(lead):
            layer = _LAYER.fullmatch(name.removeprefix(lead))
            if layer is None:
                return _renamed(name.removeprefix(lead), _VISION, "image.")
            if layer["stack"] not in _STACKS:
                return None
            place = f"image.{_STACKS[layer['stack']]}.{layer['index']}."
            return _renamed(layer["rest"], _TILE_LAYER, place)
    return _renamed(name, _REST, "")


def _renamed(name: str, table: Mapping[str, str], below: str) -> str | None:
    owner, leaf = module_and_leaf(name)
    return f"{below}{table[owner]}{leaf}" if owner in table else None


def _places_of_layers(spec: TiledDecoderSpec) -> dict[int, tuple[str, Mapping[str, str]]]:
    """Where each layer of the checkpoint lies in the graph, and the names of its parts."""
    wrapped, found, own = around(spec), {}, 0
    for number, place in enumerate(spec.cross_places):
        for index, (before, after) in wrapped.items():
            for side, numbers in (("before", before), ("after", after)):
                if number in numbers:
                    lead = f"text.layers.{index}.{side}.{numbers.index(number)}."
                    found[place] = (lead, _CROSS)
    for place in range(len(spec.text.layers) + len(spec.cross_places)):
        if place not in spec.cross_places:
            found[place] = (f"text.layers.{own}.{'layer.' if own in wrapped else ''}", _OWN)
            own += 1
    return found


BRANDS = (
    Brand(
        "MllamaForConditionalGeneration",
        ModelKind.IMAGE_DECODER,
        parse,
        TiledDecoder,
        rename,
        ("*.rotary_emb.inv_freq",),
    ),
)
