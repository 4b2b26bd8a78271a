"""Read ModernBERT checkpoints (arXiv 2412.13663). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Full, Window
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import (
    EmbeddingSpec,
    EncoderLayerSpec,
    EncoderSpec,
    HeadKind,
    HeadSpec,
    Pooling,
    TransformSpec,
)
from cynosure.models.families import naming
from cynosure.models.families.encoder_labels import head_dim, read_activation, read_labels
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import LAYER_TYPES, declared_length, read_rope

FULL, SLIDING = LAYER_TYPES

_OUTER = {
    "embeddings.tok_embeddings": "embeddings.token",
    "embeddings.norm": "embeddings.norm",
    "final_norm": "final_norm",
    "head.dense": "head.transform.dense",
    "head.norm": "head.transform.norm",
    "decoder": "head.output",
    "classifier": "head.output",
}


def parse(reader: ConfigReader, kind: HeadKind | None) -> EncoderSpec:
    """Return the spec of `config.json`, with the head that the architecture names.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    norm_bias = reader.take("norm_bias", bool, False)
    norm = NormSpec(NormKind.LAYER, reader.take("norm_eps", float, 1e-5), has_bias=norm_bias)
    attention = _attention(reader, hidden_size)
    layers = [
        EncoderLayerSpec(attention[layer_type], has_attention_norm=index > 0)
        for index, layer_type in enumerate(_layer_types(reader, num_layers))
    ]
    spec = EncoderSpec(
        hidden_size=hidden_size,
        embeddings=EmbeddingSpec(reader.take("vocab_size", int, positive=True), norm),
        layers=tuple(layers),
        mlp=MlpSpec(
            reader.take("intermediate_size", int, positive=True),
            read_activation(reader, "hidden_activation"),
            has_bias=reader.take("mlp_bias", bool, False),
        ),
        norm=norm,
        is_pre_norm=True,
        has_attention_bias=reader.take("attention_bias", bool, False),
        max_model_len=_longest(reader),
        head=_head(reader, kind, norm),
    )
    # The first release wrote fields of BERT that its graph never reads.
    reader.ignore("layer_norm_eps", neutral={"position_embedding_type": "absolute"})
    reader.ignore("sparse_prediction", "repad_logits_with_grad", "reference_compile")
    reader.finish()
    return spec


def _longest(reader: ConfigReader) -> int:
    longest = reader.take("max_position_embeddings", int, positive=True)
    return declared_length(reader, longest) or longest


def _attention(reader: ConfigReader, hidden_size: int) -> dict[str, AttentionSpec]:
    """Return what layers of each type do: see everything, or what is at most half the window away."""
    num_heads = reader.take("num_attention_heads", int, positive=True)
    heads = Heads.of(num_heads, head_dim(reader, hidden_size, num_heads))
    half = reader.take("local_attention", int, 128, positive=True) // 2
    old = {
        FULL: reader.take("global_rope_theta", float, 160_000.0, positive=True),
        SLIDING: reader.take("local_rope_theta", float, None, positive=True),
    }
    # The first release wrote a null local base where both are one.
    if old[SLIDING] is None:
        old[SLIDING] = old[FULL] if "local_rope_theta" in reader else 10_000.0
    ropes = {
        layer_type: read_rope(reader, heads.head_dim, theta=theta, layer_type=layer_type)
        for layer_type, theta in old.items()
    }
    return {
        FULL: AttentionSpec(heads, mask=Full(), position=ropes[FULL]),
        SLIDING: AttentionSpec(heads, mask=Window(half + 1), position=ropes[SLIDING]),
    }


def _layer_types(reader: ConfigReader, num_layers: int) -> tuple[str, ...]:
    every = reader.take("global_attn_every_n_layers", int, 3, positive=True)
    alternating = tuple(SLIDING if index % every else FULL for index in range(num_layers))
    types = reader.take_list("layer_types", str, alternating) or ()
    if len(types) != num_layers or not set(types) <= set(LAYER_TYPES):
        raise UnsupportedConfig(
            f"{reader.where} has layer_types {types[:8]} ... ({len(types)}) for {num_layers} layers; "
            f"as many of {', '.join(LAYER_TYPES)} are needed. Correct the file."
        )
    return types


def _head(reader: ConfigReader, kind: HeadKind | None, norm: NormSpec) -> HeadSpec | None:
    pooling = Pooling(reader.expect("classifier_pooling", ["cls", "mean"], "cls"))
    activation = read_activation(reader, "classifier_activation")
    transform = TransformSpec(activation, reader.take("classifier_bias", bool, False), norm)
    has_bias = reader.take("decoder_bias", bool, True)
    is_tied = reader.take("tie_word_embeddings", bool, True)
    labels = read_labels(reader)
    match kind:
        case None:
            return None
        case HeadKind.MASKED_LM:
            vocab_size = reader.take("vocab_size", int, positive=True)
            return HeadSpec(kind, vocab_size, transform, has_bias=has_bias, is_tied=is_tied)
        case HeadKind.SEQUENCE:
            return labels.head(kind, transform, pooling)
        case HeadKind.TOKEN:
            return labels.head(kind, transform)
        case HeadKind.SPAN:
            return labels.span_head(transform)


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; the fused gate and input of each layer come apart."""
    width = spec.mlp.intermediate_size
    inner: dict[str, naming.Target] = {
        "attn_norm": "attention_norm",
        "attn.Wqkv": "attention.qkv",
        "attn.Wo": "attention.out",
        "mlp_norm": "mlp_norm",
        "mlp.Wi": {"mlp.gate": naming.rows(0, width), "mlp.up": naming.rows(width, 2 * width)},
        "mlp.Wo": "mlp.down",
    }
    return naming.rename(weights, _OUTER, inner, stack="layers.", prefix="model.")


_HEADS = {
    "ModernBertModel": None,
    "ModernBertForMaskedLM": HeadKind.MASKED_LM,
    "ModernBertForSequenceClassification": HeadKind.SEQUENCE,
    "ModernBertForTokenClassification": HeadKind.TOKEN,
    "ModernBertForQuestionAnswering": HeadKind.SPAN,
}

BRANDS = tuple(
    Brand(architecture, ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename)
    for architecture, kind in _HEADS.items()
)
