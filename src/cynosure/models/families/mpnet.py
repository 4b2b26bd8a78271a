"""Read MPNet checkpoints (arXiv 2004.09297). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from cynosure.attention.positions import T5Bias
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import EncoderSpec, HeadKind
from cynosure.models.families import bert, naming, roberta

_OUTER = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.relative_attention_bias": "position_table",
}
_INNER = {
    "attention.attn.q": "attention.query",
    "attention.attn.k": "attention.key",
    "attention.attn.v": "attention.value",
    "attention.attn.o": "attention.out",
    "attention.LayerNorm": "attention_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_norm",
}
#: The published graph keeps position 1 for padding, whatever the config calls it.
_NUM_RESERVED = 2
_NUM_BUCKETS = 32


def parse(reader: ConfigReader, kind: HeadKind | None) -> EncoderSpec:
    """Return the spec of `config.json`: BERT's layers, with T5's biases by distance and no types."""
    reader.expect("relative_attention_num_buckets", [_NUM_BUCKETS])
    return bert.parse(
        reader,
        kind,
        num_reserved=_NUM_RESERVED,
        has_types=False,
        lm_activation="gelu",
        position=T5Bias(_NUM_BUCKETS, max_distance=128),
    )


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    outer = {**_OUTER, **roberta.HEADS}
    found = naming.rename(weights, outer, _INNER, stack="encoder.layer.", prefix="mpnet.")
    return bert.with_joined_qkv(found, len(spec.layers))


BRANDS = tuple(
    Brand(f"MPNet{suffix}", ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename, bert.UNREAD)
    for suffix, kind in roberta.KINDS.items()
)
