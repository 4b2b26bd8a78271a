"""Read BigBird checkpoints (arXiv 2007.14062). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from cynosure.attention import AttentionSpec
from cynosure.attention.masks import Blocks, Global, LastBlock, UpTo
from cynosure.attention.positions import RepeatedStart
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import EncoderSpec, HeadKind, TransformSpec
from cynosure.models.families import bert, naming
from cynosure.models.families.encoder_labels import read_activation

_OUTER = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.token_type",
    "embeddings.LayerNorm": "embeddings.norm",
    "cls.predictions": "head.output",
    "cls.predictions.decoder": "head.output",
    "cls.predictions.transform.dense": "head.transform.dense",
    "cls.predictions.transform.LayerNorm": "head.transform.norm",
    "classifier": "head.output",
    "classifier.dense": "head.transform.dense",
    "classifier.out_proj": "head.output",
}
#: A head that answers about spans has a feed-forward layer of its own, which is not read here.
_HEADS = {
    "BigBirdModel": None,
    "BigBirdForMaskedLM": HeadKind.MASKED_LM,
    # Of its two heads, that of sentence order is not read.
    "BigBirdForPreTraining": HeadKind.MASKED_LM,
    "BigBirdForSequenceClassification": HeadKind.SEQUENCE,
    "BigBirdForTokenClassification": HeadKind.TOKEN,
}
#: Blocks that a query sees beside random ones: three around it, the first and the last.
_NUM_PLAIN = 5


def parse(reader: ConfigReader, kind: HeadKind | None) -> EncoderSpec:
    """Return the spec of `config.json`: BERT's, whose layers see blocks in texts that are long enough.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    size = reader.take("block_size", int, 64, positive=True)
    num_random = reader.take("num_random_blocks", int, 3)
    is_sparse = reader.expect("attention_type", ["original_full", "block_sparse"], "block_sparse")
    reader.expect("use_bias", [True])
    reader.expect("rescale_embeddings", [False])
    activation = read_activation(reader, "hidden_act", "gelu_new")
    spec = bert.parse(reader, kind)
    if kind is HeadKind.SEQUENCE:
        assert spec.head is not None
        spec = replace(spec, head=replace(spec.head, transform=TransformSpec(activation)))
    if is_sparse == "original_full":
        return spec
    layers = [replace(layer, attention=_sparse(layer.attention, size, num_random)) for layer in spec.layers]
    return replace(spec, layers=tuple(layers))


def _sparse(attention: AttentionSpec, size: int, num_random: int) -> AttentionSpec:
    """Attention to neighbours and both ends, as the published graph has it outside of training."""
    # Up to this length, the published graph attends to all.
    length = (_NUM_PLAIN + 2 * num_random) * size
    mask = UpTo(length) | Blocks(size, 1) | Global(size) | LastBlock(size)
    if not num_random:
        return replace(attention, mask=mask)
    return replace(attention, mask=mask, position=RepeatedStart(size, 1 + num_random, length))


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    found = naming.rename(weights, _OUTER, bert.INNER, stack="encoder.layer.", prefix="bert.")
    return bert.with_joined_qkv(found, len(spec.layers))


BRANDS = tuple(
    Brand(architecture, ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename, bert.UNREAD)
    for architecture, kind in _HEADS.items()
)
