"""Read DistilBERT checkpoints (arXiv 1910.01108). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Full
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
from cynosure.models.families.bert import with_joined_qkv
from cynosure.models.families.encoder_labels import head_dim, read_activation, read_labels
from cynosure.models.families.roberta import KINDS
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length

#: No config says otherwise.
_NORM = NormSpec(NormKind.LAYER, 1e-12, has_bias=True)

_OUTER = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.LayerNorm": "embeddings.norm",
    "vocab_transform": "head.transform.dense",
    "vocab_layer_norm": "head.transform.norm",
    "vocab_projector": "head.output",
    "pre_classifier": "head.transform.dense",
    "classifier": "head.output",
    "qa_outputs": "head.output",
}
_INNER = {
    "attention.q_lin": "attention.query",
    "attention.k_lin": "attention.key",
    "attention.v_lin": "attention.value",
    "attention.out_lin": "attention.out",
    "sa_layer_norm": "attention_norm",
    "ffn.lin1": "mlp.up",
    "ffn.lin2": "mlp.down",
    "output_layer_norm": "mlp_norm",
}


def parse(reader: ConfigReader, kind: HeadKind | None) -> EncoderSpec:
    """Return the spec of `config.json`: a BERT without types, in words of its own.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    hidden_size = reader.take("dim", int, 768, positive=True)
    num_heads = reader.take("n_heads", int, 12, positive=True)
    num_positions = reader.take("max_position_embeddings", int, 512, positive=True)
    activation = read_activation(reader, "activation")
    attention = AttentionSpec(Heads.of(num_heads, head_dim(reader, hidden_size, num_heads)), mask=Full())
    # Sines are stored like any other table of positions; the rest is of training.
    reader.ignore("sinusoidal_pos_embds", "qa_dropout", "seq_classif_dropout")
    reader.expect("tie_weights_", [True])
    spec = EncoderSpec(
        hidden_size=hidden_size,
        embeddings=EmbeddingSpec(
            reader.take("vocab_size", int, 30522, positive=True), _NORM, num_positions=num_positions
        ),
        layers=(EncoderLayerSpec(attention),) * reader.take("n_layers", int, 6, positive=True),
        mlp=MlpSpec(
            reader.take("hidden_dim", int, 3072, positive=True), activation, is_gated=False, has_bias=True
        ),
        norm=_NORM,
        is_pre_norm=False,
        has_attention_bias=True,
        max_model_len=declared_length(reader, num_positions) or num_positions,
        head=_head(reader, kind, activation),
    )
    reader.finish()
    return spec


def _head(reader: ConfigReader, kind: HeadKind | None, activation: str) -> HeadSpec | None:
    labels = read_labels(reader)
    is_tied = reader.take("tie_word_embeddings", bool, True)
    match kind:
        case None:
            return None
        case HeadKind.MASKED_LM:
            vocab_size = reader.take("vocab_size", int, 30522, positive=True)
            return HeadSpec(kind, vocab_size, TransformSpec(activation, norm=_NORM), is_tied=is_tied)
        case HeadKind.SEQUENCE:
            return labels.head(kind, TransformSpec("relu"), Pooling.CLS)
        case HeadKind.TOKEN:
            return labels.head(kind)
        case HeadKind.SPAN:
            return labels.span_head()


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    found = naming.rename(weights, _OUTER, _INNER, stack="transformer.layer.", prefix="distilbert.")
    return with_joined_qkv(found, len(spec.layers))


BRANDS = tuple(
    Brand(f"DistilBert{suffix}", ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename)
    for suffix, kind in KINDS.items()
)
