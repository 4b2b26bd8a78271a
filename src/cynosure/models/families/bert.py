"""Read BERT checkpoints (arXiv 1810.04805). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from cynosure.attention import AttentionSpec, Heads
from cynosure.attention.masks import Full
from cynosure.attention.positions import NoPosition, Position
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
from cynosure.models.families.encoder_labels import Labels, head_dim, read_activation, read_labels
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length

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
    "qa_outputs": "head.output",
}
#: The parts of a layer.
INNER = {
    "attention.self.query": "attention.query",
    "attention.self.key": "attention.key",
    "attention.self.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_norm",
}


def parse(
    reader: ConfigReader,
    kind: HeadKind | None,
    *,
    num_reserved: int = 0,
    has_types: bool = True,
    lm_activation: str | None = None,
    position: Position | None = None,
) -> EncoderSpec:
    """Return the spec of `config.json`, with the head that the architecture names.

    Args:
        reader: the config.
        kind: of the head; `None` for a bare encoder.
        num_reserved: rows of the table of positions before that of the first token.
        has_types: whether tokens of a first and a second text have vectors of their own.
        lm_activation: of the head that fills in, where it is not that of the layers.
        position: what layers add to scores.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    hidden_size = reader.take("hidden_size", int, positive=True)
    num_heads = reader.take("num_attention_heads", int, positive=True)
    max_len = _longest(reader, num_reserved)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-12), has_bias=True)
    activation = read_activation(reader, "hidden_act")
    reader.expect("position_embedding_type", ["absolute"])
    reader.ignore("tie_word_embeddings")
    labels = read_labels(reader)
    head = None if kind is None else _head(reader, kind, labels, norm, lm_activation or activation)
    heads = Heads.of(num_heads, head_dim(reader, hidden_size, num_heads))
    attention = AttentionSpec(heads, mask=Full(), position=position or NoPosition())
    spec = EncoderSpec(
        hidden_size=hidden_size,
        embeddings=EmbeddingSpec(
            vocab_size=reader.take("vocab_size", int, positive=True),
            norm=norm,
            num_positions=max_len,
            num_types=reader.take("type_vocab_size", int, 2) if has_types else 0,
            position_offset=num_reserved,
        ),
        layers=(EncoderLayerSpec(attention),) * reader.take("num_hidden_layers", int, positive=True),
        mlp=MlpSpec(
            reader.take("intermediate_size", int, positive=True), activation, is_gated=False, has_bias=True
        ),
        norm=norm,
        is_pre_norm=False,
        has_attention_bias=True,
        max_model_len=declared_length(reader, max_len) or max_len,
        head=head,
    )
    reader.finish()
    return spec


def _longest(reader: ConfigReader, num_reserved: int) -> int:
    num_rows = reader.take("max_position_embeddings", int, positive=True)
    if num_rows <= num_reserved:
        raise UnsupportedConfig(
            f"{reader.where} has max_position_embeddings = {num_rows}, of which {num_reserved} are no "
            "token's. Correct it."
        )
    return num_rows - num_reserved


def _head(reader: ConfigReader, kind: HeadKind, labels: Labels, norm: NormSpec, activation: str) -> HeadSpec:
    match kind:
        case HeadKind.MASKED_LM:
            vocab_size = reader.take("vocab_size", int, positive=True)
            is_tied = reader.take("tie_word_embeddings", bool, True)
            return HeadSpec(kind, vocab_size, TransformSpec(activation, norm=norm), is_tied=is_tied)
        case HeadKind.SEQUENCE:
            return labels.head(kind, TransformSpec("tanh"), Pooling.CLS)
        case HeadKind.TOKEN:
            return labels.head(kind)
        case HeadKind.SPAN:
            return labels.span_head()


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    is_sequence = spec.head is not None and spec.head.kind is HeadKind.SEQUENCE
    pooler = {"pooler.dense": "head.transform.dense"} if is_sequence else {}
    outer, inner = with_old_names({**_OUTER, **pooler}), with_old_names(INNER)
    found = naming.rename(weights, outer, inner, stack="encoder.layer.", prefix="bert.")
    return with_joined_qkv(found, len(spec.layers))


def with_joined_qkv(
    found: dict[str, TensorSource], num_layers: int, below: str = "", part: str = ""
) -> dict[str, TensorSource]:
    """Put one projection in the place of each layer's `query`, `key` and `value`.

    Args:
        found: the tensors by the graph's names.
        num_layers: how many layers there are.
        below: what stands before the names of layers.
        part: what stands between attention and the three, such as `far.`.
    """
    for layer in range(num_layers):
        attention = f"{below}layers.{layer}.attention.{part}"
        for leaf in ("weight", "bias"):
            names = [f"{attention}{name}.{leaf}" for name in ("query", "key", "value")]
            if all(name in found for name in names):
                thirds = [found.pop(name) for name in names]
                found[f"{attention}qkv.{leaf}"] = partial(_joined, thirds)
    return found


def with_old_names(table: Mapping[str, str]) -> dict[str, str]:
    """Add what the first checkpoints, converted from TensorFlow, call the parts of a norm."""
    norms = {theirs: ours for theirs, ours in table.items() if theirs.endswith("LayerNorm")}
    gammas = {f"{theirs}.gamma": f"{ours}.weight" for theirs, ours in norms.items()}
    betas = {f"{theirs}.beta": f"{ours}.bias" for theirs, ours in norms.items()}
    return {**table, **gammas, **betas}


def _joined(parts: Sequence[TensorSource]) -> Tensor:
    return torch.cat([part() for part in parts])


#: A pooler that no head reads, the sentence-order head of pre-training, and a range that was once stored.
UNREAD = ("*pooler.*", "cls.seq_relationship.*", "*embeddings.position_ids")

_HEADS = {
    "BertModel": None,
    "BertForMaskedLM": HeadKind.MASKED_LM,
    "BertForSequenceClassification": HeadKind.SEQUENCE,
    "BertForTokenClassification": HeadKind.TOKEN,
    "BertForQuestionAnswering": HeadKind.SPAN,
}

BRANDS = (
    *(
        Brand(architecture, ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename, UNREAD)
        for architecture, kind in _HEADS.items()
    ),
    # ColBERT's own files: its projection, which lies beside the encoder, is read by who compares tokens.
    Brand(
        "HF_ColBERT",
        ModelKind.ENCODER,
        partial(parse, kind=None),
        Encoder,
        rename,
        (*UNREAD, "linear.weight"),
    ),
)
