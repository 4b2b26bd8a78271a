"""Describe an encoder and its head as values. Knows nothing of tensors, files or brands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from cynosure.attention import AttentionSpec
from cynosure.models.mlp import MlpSpec
from cynosure.models.norm import NormSpec
from cynosure.models.pooling_kind import Pooling


class HeadKind(Enum):
    """What a head answers, and for what: each token (`MASKED_LM`, `TOKEN`, `SPAN`) or each sequence."""

    MASKED_LM = "masked_lm"
    SEQUENCE = "sequence"
    TOKEN = "token"
    SPAN = "span"


@dataclass(frozen=True)
class TransformSpec:
    """What a head does before its last projection: `norm(activation(dense(x)))`."""

    activation: str
    has_bias: bool = True
    norm: NormSpec | None = None


@dataclass(frozen=True)
class HeadSpec:
    """A head as a value.

    `labels` names the outputs (empty for masked LM, whose outputs are the vocabulary); `pooling` stands
    before the transform, for `SEQUENCE` alone. `problem_type` (`regression`, `single_label_classification`
    or `multi_label_classification`) and `activation` (`sigmoid` or `identity`, as a cross-encoder declares
    it) say what becomes of the logits; see `heads.scores`.
    """

    kind: HeadKind
    num_outputs: int
    transform: TransformSpec | None = None
    pooling: Pooling | None = None
    labels: tuple[str, ...] = ()
    problem_type: str | None = None
    activation: str | None = None
    has_bias: bool = True
    is_tied: bool = False


@dataclass(frozen=True)
class EmbeddingSpec:
    """How token ids become vectors: the sum of what is there, normalised where there is a norm.

    `num_positions` and `num_types` of 0 mean that there is no such table. Position i reads row
    `i + position_offset` (RoBERTa keeps its first rows for padding).
    """

    vocab_size: int
    norm: NormSpec | None
    num_positions: int = 0
    num_types: int = 0
    position_offset: int = 0


@dataclass(frozen=True)
class DistanceSpec:
    """The vectors of distances that the layers of `Disentangled` attention share: a table, normalised or not.

    Where they are `is_shared`, a layer projects them as it projects tokens; elsewhere it has projections for
    them.
    """

    norm: NormSpec | None = None
    is_shared: bool = False


@dataclass(frozen=True)
class ConvolutionSpec:
    """A convolution beside the first layer: over how many tokens, an odd number, and what follows it."""

    width: int
    activation: str


@dataclass(frozen=True)
class EncoderLayerSpec:
    """One layer; without its attention norm, attention reads the residual stream as it is.

    The first `num_global` tokens of a sequence attend to all, by projections of their own (Longformer).
    """

    attention: AttentionSpec
    has_attention_norm: bool = True
    num_global: int = 0


@runtime_checkable
class LayerStack(Protocol):
    """What a layer reads of the spec that it belongs to, be it one of texts or one of images."""

    @property
    def hidden_size(self) -> int:
        """Channels of a token."""
        ...

    @property
    def layers(self) -> tuple[EncoderLayerSpec, ...]:
        """The layers, first to last."""
        ...

    @property
    def mlp(self) -> MlpSpec:
        """The feed-forward half of every layer."""
        ...

    @property
    def norm(self) -> NormSpec:
        """Every norm of every layer."""
        ...

    @property
    def is_pre_norm(self) -> bool:
        """Whether layers compute `x + f(norm(x))`."""
        ...

    @property
    def has_attention_bias(self) -> bool:
        """Whether the projections of attention have biases."""
        ...

    @property
    def distances(self) -> DistanceSpec | None:
        """What layers of `Disentangled` attention share."""
        ...


@dataclass(frozen=True)
class EncoderSpec:
    """A stack of bidirectional layers, and what reads it.

    Pre-norm layers compute `x + f(norm(x))` and end with a norm of their own; post-norm ones
    `norm(x + f(x))`.
    """

    hidden_size: int
    embeddings: EmbeddingSpec
    layers: tuple[EncoderLayerSpec, ...]
    mlp: MlpSpec
    norm: NormSpec
    is_pre_norm: bool
    has_attention_bias: bool
    max_model_len: int
    head: HeadSpec | None = None
    distances: DistanceSpec | None = None
    convolution: ConvolutionSpec | None = None
