"""Read DeBERTa checkpoints of the second and third version (arXiv 2006.03654). Knows nothing of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from cynosure.attention import AttentionSpec, Score
from cynosure.attention.masks import Full
from cynosure.attention.positions import Disentangled
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import (
    ConvolutionSpec,
    DistanceSpec,
    EmbeddingSpec,
    EncoderLayerSpec,
    EncoderSpec,
    HeadKind,
    HeadSpec,
    Pooling,
    TransformSpec,
)
from cynosure.models.families import bert, naming
from cynosure.models.families.encoder_labels import read_activation, read_labels
from cynosure.models.families.roberta import KINDS
from cynosure.models.families.widths import equal_heads
from cynosure.models.heads import HEAD_ACTIVATIONS
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormKind, NormSpec
from cynosure.models.rope_config import declared_length


def _side_by_side(convolution: Tensor) -> Tensor:
    """Read the weight of a convolution as that of a linear layer over tokens; a bias stays as it is."""
    return convolution.transpose(1, 2).flatten(1) if convolution.dim() == 3 else convolution


_OUTER: dict[str, naming.Target] = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.token_type",
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.rel_embeddings": "distances.table",
    "encoder.LayerNorm": "distances.norm",
    "encoder.conv.conv": {"convolution.mix": _side_by_side},
    "encoder.conv.LayerNorm": "convolution.norm",
    "cls.predictions": "head.output",
    "cls.predictions.decoder": "head.output",
    "cls.predictions.transform.dense": "head.transform.dense",
    "cls.predictions.transform.LayerNorm": "head.transform.norm",
    "classifier": "head.output",
    "qa_outputs": "head.output",
}
_INNER = {
    "attention.self.query_proj": "attention.query",
    "attention.self.key_proj": "attention.key",
    "attention.self.value_proj": "attention.value",
    "attention.self.pos_key_proj": "attention.distances.key",
    "attention.self.pos_query_proj": "attention.distances.query",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "mlp.up",
    "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_norm",
}
#: Heads of pre-training, and what no head reads; positions are stored even where they are not read.
_UNREAD = ("pooler.*", "mask_predictions.*", "lm_predictions.*", "*embeddings.position_*")
_TERMS = ("c2p", "p2c")


def parse(reader: ConfigReader, kind: HeadKind | None) -> EncoderSpec:
    """Return the spec of `config.json`: BERT's layers, whose scores compare tokens with distances too.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    hidden_size = reader.take("hidden_size", int, positive=True)
    heads = equal_heads(reader, hidden_size, reader.take("num_attention_heads", int, positive=True))
    longest = reader.take("max_position_embeddings", int, 512, positive=True)
    norm = NormSpec(NormKind.LAYER, reader.take("layer_norm_eps", float, 1e-7), has_bias=True)
    activation = read_activation(reader, "hidden_act")
    position = _position(reader, longest)
    num_terms = 1 + position.has_content_to_position + position.has_position_to_content
    score = Score(scale=1.0 / (heads.head_dim * num_terms) ** 0.5)
    reader.ignore("pooler_dropout", "cls_dropout")
    reader.expect("embedding_size", [hidden_size], hidden_size)
    reader.expect("attention_head_size", [heads.head_dim], heads.head_dim)
    head = _head(reader, kind, norm, activation)
    norms = {"none": None, "layer_norm": norm}
    spec = EncoderSpec(
        hidden_size=hidden_size,
        embeddings=EmbeddingSpec(
            vocab_size=reader.take("vocab_size", int, positive=True),
            norm=norm,
            num_positions=longest if reader.take("position_biased_input", bool, True) else 0,
            num_types=reader.take("type_vocab_size", int, 0),
        ),
        layers=(EncoderLayerSpec(AttentionSpec(heads, mask=Full(), position=position, score=score)),)
        * reader.take("num_hidden_layers", int, positive=True),
        mlp=MlpSpec(
            reader.take("intermediate_size", int, positive=True), activation, is_gated=False, has_bias=True
        ),
        norm=norm,
        is_pre_norm=False,
        has_attention_bias=True,
        max_model_len=declared_length(reader, longest) or longest,
        head=head,
        distances=DistanceSpec(
            norm=norms[reader.expect("norm_rel_ebd", list(norms), "none")],
            is_shared=reader.take("share_att_key", bool, False),
        ),
        convolution=_convolution(reader),
    )
    reader.finish()
    return spec


def _position(reader: ConfigReader, longest: int) -> Disentangled:
    """Which distances have vectors, and what they are compared with."""
    reader.expect("relative_attention", [True])
    declared = reader.take("max_relative_positions", int, -1)
    farthest = declared if declared > 0 else longest
    num_buckets = reader.take("position_buckets", int, -1)
    if reader.holds("pos_att_type", str):
        terms = tuple(term.strip() for term in reader.take("pos_att_type", str).lower().split("|"))
    else:
        terms = reader.take_list("pos_att_type", str, ()) or ()
    if not terms or not set(terms) <= set(_TERMS):
        raise UnsupportedConfig(
            f"{reader.where} has pos_att_type = {list(terms)}; one or both of {', '.join(_TERMS)} are "
            "supported. "
            "Use another checkpoint."
        )
    return Disentangled(
        span=num_buckets if num_buckets > 0 else farthest,
        max_distance=farthest if num_buckets > 0 else None,
        has_content_to_position="c2p" in terms,
        has_position_to_content="p2c" in terms,
    )


def _convolution(reader: ConfigReader) -> ConvolutionSpec | None:
    """What the largest checkpoints of the second version have beside their first layer."""
    width = reader.take("conv_kernel_size", int, 0)
    activation = reader.expect("conv_act", sorted(HEAD_ACTIVATIONS), "tanh")
    reader.expect("conv_groups", [1])
    if width < 0 or (width and not width % 2):
        raise UnsupportedConfig(
            f"{reader.where} has conv_kernel_size = {width}; an odd number of tokens is supported. Correct "
            "it."
        )
    return ConvolutionSpec(width, activation) if width else None


def _head(reader: ConfigReader, kind: HeadKind | None, norm: NormSpec, activation: str) -> HeadSpec | None:
    hidden_size = reader.take("hidden_size", int, positive=True)
    labels = read_labels(reader)
    is_tied = reader.take("tie_word_embeddings", bool, True)
    is_legacy = reader.take("legacy", bool, True)
    pooler = TransformSpec(read_activation(reader, "pooler_hidden_act"))
    reader.expect("pooler_hidden_size", [hidden_size], hidden_size)
    match kind:
        case None:
            return None
        case HeadKind.MASKED_LM:
            if not is_legacy:
                reader.expect("legacy", [True])
            vocab_size = reader.take("vocab_size", int, positive=True)
            return HeadSpec(kind, vocab_size, TransformSpec(activation, norm=norm), is_tied=is_tied)
        case HeadKind.SEQUENCE:
            return labels.head(kind, pooler, Pooling.CLS)
        case HeadKind.TOKEN:
            return labels.head(kind)
        case HeadKind.SPAN:
            return labels.span_head()


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    is_sequence = spec.head is not None and spec.head.kind is HeadKind.SEQUENCE
    outer = {**_OUTER, **({"pooler.dense": "head.transform.dense"} if is_sequence else {})}
    found = naming.rename(weights, outer, _INNER, stack="encoder.layer.", prefix="deberta.")
    return bert.with_joined_qkv(found, len(spec.layers))


BRANDS = tuple(
    Brand(f"DebertaV2{suffix}", ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename, _UNREAD)
    for suffix, kind in KINDS.items()
)
