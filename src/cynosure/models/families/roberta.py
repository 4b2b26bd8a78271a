"""Read RoBERTa and XLM-R checkpoints (arXiv 1907.11692, 1911.02116). Knows nothing of the graph's maths."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import EncoderSpec, HeadKind
from cynosure.models.families import bert, naming

_OUTER = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.token_type",
    "embeddings.LayerNorm": "embeddings.norm",
}
#: Heads, which MPNet shares; what fills in keeps its bias under two names.
HEADS = {
    "lm_head": "head.output",
    "lm_head.decoder": "head.output",
    "lm_head.dense": "head.transform.dense",
    "lm_head.layer_norm": "head.transform.norm",
    "classifier": "head.output",
    "classifier.dense": "head.transform.dense",
    "classifier.out_proj": "head.output",
    "qa_outputs": "head.output",
}
KINDS = {
    "Model": None,
    "ForMaskedLM": HeadKind.MASKED_LM,
    "ForSequenceClassification": HeadKind.SEQUENCE,
    "ForTokenClassification": HeadKind.TOKEN,
    "ForQuestionAnswering": HeadKind.SPAN,
}


def parse(reader: ConfigReader, kind: HeadKind | None) -> EncoderSpec:
    """Return the spec of `config.json`; the first token's position stands behind that of padding."""
    num_reserved = reader.take("pad_token_id", int, 1) + 1
    return bert.parse(reader, kind, num_reserved=num_reserved, lm_activation="gelu")


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    outer = bert.with_old_names({**_OUTER, **HEADS})
    inner = bert.with_old_names(bert.INNER)
    found = naming.rename(weights, outer, inner, stack="encoder.layer.", prefix="roberta.")
    return bert.with_joined_qkv(found, len(spec.layers))


BRANDS = tuple(
    Brand(f"{brand}{suffix}", ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename, bert.UNREAD)
    for brand in ("Roberta", "XLMRoberta")
    for suffix, kind in KINDS.items()
)
