"""Read Longformer checkpoints (arXiv 2004.05150). Knows nothing of how the graph computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from cynosure.attention.masks import Global, Window
from cynosure.core.errors import UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.checkpoint import Weights
from cynosure.models.config_reader import ConfigReader
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import EncoderSpec, HeadKind
from cynosure.models.families import bert, naming, roberta

_FAR = {f"attention.self.{part}_global": f"attention.far.{part}" for part in ("query", "key", "value")}
_OUTER = {
    "embeddings.word_embeddings": "embeddings.token",
    "embeddings.position_embeddings": "embeddings.position",
    "embeddings.token_type_embeddings": "embeddings.token_type",
    "embeddings.LayerNorm": "embeddings.norm",
}
#: Without a global token, its projections are read by none.
_UNREAD = (*bert.UNREAD, "*.attention.far.*")
#: A head that answers about spans makes all tokens of a question global; which those are, ids alone can say.
_KINDS = {name: kind for name, kind in roberta.KINDS.items() if kind is not HeadKind.SPAN}


def parse(reader: ConfigReader, kind: HeadKind | None) -> EncoderSpec:
    """Return the spec of `config.json`: RoBERTa's in windows; classifiers see the first token from all.

    Raises:
        UnsupportedConfig: A key that is unknown, missing or of an unsupported value.
    """
    num_layers = reader.take("num_hidden_layers", int, positive=True)
    windows = _windows(reader, num_layers)
    # What the published graph never reads; the third is of the code before it.
    reader.ignore("onnx_export", "attention_mode", "attention_dilation", "autoregressive")
    reader.ignore(neutral={"ignore_attention_mask": False})
    num_reserved = reader.take("pad_token_id", int, 1) + 1
    spec = bert.parse(reader, kind, num_reserved=num_reserved, lm_activation="gelu")
    num_global = 1 if kind is HeadKind.SEQUENCE else 0
    # A window of w tokens reaches w // 2 to either side.
    near = [Window(window // 2 + 1) for window in windows]
    masks = [mask | Global(num_global) if num_global else mask for mask in near]
    layers = [
        replace(layer, attention=replace(layer.attention, mask=mask), num_global=num_global)
        for layer, mask in zip(spec.layers, masks, strict=True)
    ]
    return replace(spec, layers=tuple(layers))


def _windows(reader: ConfigReader, num_layers: int) -> tuple[int, ...]:
    """The window of each layer; one number is that of all."""
    if reader.holds("attention_window", int) or "attention_window" not in reader:
        windows: tuple[int, ...] = (reader.take("attention_window", int, 512),) * num_layers
    else:
        windows = reader.take_list("attention_window", int, ()) or ()
    if len(windows) != num_layers or any(window < 2 or window % 2 for window in windows):
        raise UnsupportedConfig(
            f"{reader.where} has attention_window = {list(windows)[:8]} for {num_layers} layers; each needs "
            "an even number of at least 2. Correct it."
        )
    return windows


def rename(spec: EncoderSpec, weights: Weights) -> Mapping[str, TensorSource]:
    """Give the graph's parameters their tensors; queries, keys and values become one projection."""
    outer, inner = {**_OUTER, **roberta.HEADS}, {**bert.INNER, **_FAR}
    found = naming.rename(weights, outer, inner, stack="encoder.layer.", prefix="longformer.")
    found = bert.with_joined_qkv(found, len(spec.layers))
    return bert.with_joined_qkv(found, len(spec.layers), part="far.")


BRANDS = tuple(
    Brand(f"Longformer{suffix}", ModelKind.ENCODER, partial(parse, kind=kind), Encoder, rename, _UNREAD)
    for suffix, kind in _KINDS.items()
)
