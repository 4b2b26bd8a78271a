"""Read Ministral 3 (model card, Mistral 2025), a Mistral whose queries grow. Runs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.decoder import Decoder
from cynosure.models.decoder_spec import DecoderSpec, LayerSpec
from cynosure.models.families import llama
from cynosure.models.families.naming import rename
from cynosure.models.families.text_half import texts_alone
from cynosure.models.self_attention import QueryGrowth, SelfAttentionSpec

_MISTRAL = {brand.architecture: brand for brand in llama.BRANDS}["MistralForCausalLM"].parse
_OF_IMAGES = (
    *("vision_config", "image_token_index", "image_token_id", "multimodal_projector_bias"),
    *("projector_hidden_act", "spatial_merge_size", "vision_feature_layer"),
)
#: Where the texts' half lies: as it is published, and as newer files have it.
_PREFIXES = ("language_model.model.", "model.language_model.")
_OTHER_HALF = tuple(
    f"{lead}{part}.*" for lead in ("", "model.") for part in ("vision_tower", "multi_modal_projector")
)


def parse(reader: ConfigReader) -> DecoderSpec:
    """Return the spec of a `Ministral3ForCausalLM`; rotary numbers say what its queries grow by."""
    # Published defaults do not follow from other numbers.
    for key in ("head_dim", "num_key_value_heads"):
        reader.take(key, int, positive=True)
    reader.take("rms_norm_eps", float, positive=True)
    values = reader.sub("rope_parameters") or reader.sub("rope_scaling")
    if values is None:
        raise UnsupportedConfig(f"{reader.where} lacks rope_parameters; they have no default here. Add them.")
    growth = QueryGrowth(
        values.take("original_max_position_embeddings", int, positive=True),
        values.take("llama_4_scaling_beta", float),
        shift=0,
    )
    values.expect("max_position_embeddings", [reader.take("max_position_embeddings", int, positive=True)])
    spec = _MISTRAL(reader)
    return replace(spec, layers=tuple(_growing(layer, growth) for layer in spec.layers))


def _growing(layer: LayerSpec, growth: QueryGrowth) -> LayerSpec:
    assert isinstance(layer.attention, SelfAttentionSpec)
    return replace(layer, attention=replace(layer.attention, query_growth=growth))


def _parse_texts(reader: ConfigReader) -> DecoderSpec:
    """Return the decoder that `Mistral3ForConditionalGeneration` joins images to."""
    kinds = {"mistral": _MISTRAL, "ministral3": parse}
    kind = str(reader.take("text_config", dict).get("model_type", "mistral"))
    if kind not in kinds:
        raise UnsupportedConfig(
            f"{reader.where} joins images to a {kind!r}; only {', '.join(kinds)} are supported. Use another "
            "checkpoint."
        )
    return texts_alone(reader, kinds[kind], _OF_IMAGES)


def _rename_texts(spec: DecoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    prefix = next((one for one in _PREFIXES if f"{one}norm.weight" in weights), _PREFIXES[0])
    outer = {**llama.OUTER, "language_model.lm_head": "head"}
    inner = {**llama.ATTENTION, **llama.MLP, **llama.NORMS}
    return rename(weights, outer, inner, stack="layers.", prefix=prefix)


BRANDS: tuple[Brand, ...] = (
    Brand("Ministral3ForCausalLM", ModelKind.DECODER, parse, Decoder, llama.rename_llama),
    # As Mistral Small 3.1 and Ministral 3 are published; images are not read.
    Brand(
        "Mistral3ForConditionalGeneration",
        ModelKind.DECODER,
        _parse_texts,
        Decoder,
        _rename_texts,
        _OTHER_HALF,
    ),
)
