"""Read what encoder configs share: labels, problem type, widths. Knows nothing of any one family."""

from __future__ import annotations

from dataclasses import dataclass

from cynosure.core.errors import UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder_spec import HeadKind, HeadSpec, Pooling, TransformSpec
from cynosure.models.mlp import ACTIVATIONS

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


_ACTIVATIONS = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
}


@dataclass(frozen=True)
class Labels:
    """The outputs of a classifier by name, and how their logits become probabilities."""

    names: tuple[str, ...]
    problem_type: str | None = None
    activation: str | None = None

    def head(
        self, kind: HeadKind, transform: TransformSpec | None = None, pooling: Pooling | None = None
    ) -> HeadSpec:
        """A classifier over these labels."""
        return HeadSpec(
            kind,
            len(self.names),
            transform,
            pooling,
            self.names,
            self.problem_type,
            self.activation,
        )

    def span_head(self, transform: TransformSpec | None = None) -> HeadSpec:
        """A head whose two outputs a token are the logits of a span's start and end.

        Raises:
            UnsupportedConfig: The config declares another number of labels.
        """
        if len(self.names) != 2:
            raise UnsupportedConfig(
                f"config.json declares {len(self.names)} labels for span extraction; its head has two "
                "outputs, start and end. Correct id2label."
            )
        return HeadSpec(HeadKind.SPAN, 2, transform, labels=("start", "end"))


def read_labels(reader: ConfigReader) -> Labels:
    """The labels of `id2label`, else `LABEL_0 ...` as many as `num_labels`, whose default is 2.

    Raises:
        UnsupportedConfig: Ids are not 0, 1, 2 ..., or the two keys disagree.
    """
    named = reader.take("id2label", dict, {})
    count = reader.take("num_labels", int, len(named) or 2, positive=True)
    names = tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))
    if named and set(named) != {str(index) for index in range(count)}:
        raise UnsupportedConfig(
            f"config.json has id2label with the ids {sorted(named)[:8]}; 0 to {count - 1} are "
            "needed. Correct it."
        )
    problem_type = reader.expect("problem_type", PROBLEM_TYPES, None) if "problem_type" in reader else None
    return Labels(names, problem_type, _activation(reader))


def _activation(reader: ConfigReader) -> str | None:
    """What a cross-encoder's config says is done to its logits, under today's key or the old one."""
    old = reader.take("sbert_ce_default_activation_function", str, None)
    values = reader.sub("sentence_transformers")
    if values is not None:
        values.ignore("version")
        old = values.take("activation_fn", str, old)
    if old is None:
        return None
    if old not in _ACTIVATIONS:
        raise UnsupportedConfig(
            f"{reader.where} has the score activation {old}; only {', '.join(_ACTIVATIONS)} are supported. "
            "Use another checkpoint."
        )
    return _ACTIVATIONS[old]


def read_activation(reader: ConfigReader, key: str, default: str = "gelu") -> str:
    """The name of an activation that we have."""
    return reader.expect(key, sorted(ACTIVATIONS), default)


def head_dim(reader: ConfigReader, hidden_size: int, num_heads: int) -> int:
    """The width of a head.

    Raises:
        UnsupportedConfig: Heads do not share the hidden size evenly.
    """
    if hidden_size % num_heads:
        raise UnsupportedConfig(
            f"{reader.where} has hidden_size = {hidden_size} and {num_heads} heads, which do not share it "
            "evenly. Correct the file."
        )
    return hidden_size // num_heads
