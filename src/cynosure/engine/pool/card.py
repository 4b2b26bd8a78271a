"""Say what a model is before any of its weights are read. Knows nothing of tensors or files."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from cynosure.engine.features import FeatureShape
from cynosure.engine.watch import Watchable

#: The source of the embedder that comes as a Python package.
MINILM = "minilm"


class ModelRole(Enum):
    """What a model is asked.

    - `DECODER`, `SEQ2SEQ`: token ids, answered by more of them (`ModelPool.submit`).
    - `EMBEDDER`: texts, answered by vectors (`ModelPool.embed`).
    - `RANKER`: texts or pairs of them, answered by one number each; `CLASSIFIER`: the same, by one number a
      label (`ModelPool.score`).
    """

    DECODER = "decoder"
    EMBEDDER = "embedder"
    RANKER = "ranker"
    CLASSIFIER = "classifier"
    SEQ2SEQ = "seq2seq"

    @property
    def generates(self) -> bool:
        """Whether it answers with tokens, one after the other."""
        return self in (ModelRole.DECODER, ModelRole.SEQ2SEQ)

    @property
    def scores(self) -> bool:
        """Whether it answers texts with logits."""
        return self in (ModelRole.RANKER, ModelRole.CLASSIFIER)


@dataclass(frozen=True)
class ServedModel:
    """A model as whoever starts the engine names it.

    - `source`: a folder, a hub id, or `minilm`, the packaged embedder.
    - `dtype`, `backend`: as for `models.load.load`; `max_model_len` too, for a model that generates.
    - `quantize`: `int8`, `int4` or `int4-g128` while it is loaded; None leaves the weights as they are.
    - `is_pinned`: once loaded, it stays.
    - `role`: None takes what the folder says.
    """

    name: str
    source: str
    dtype: str = "auto"
    quantize: str | None = None
    backend: str = "auto"
    is_pinned: bool = False
    role: ModelRole | None = None
    max_model_len: int | None = None


@dataclass(frozen=True)
class ModelCard:
    """What a model is, read from its config, its tokenizer and the headers of its weights.

    - `dtype`: what it computes in. `weight_bytes`: what its weights take in memory.
    - `vocab_size`: ids from 0 that a request may hold. `max_model_len`: tokens of prompt and answer together,
      where anything bounds them; of an encoder-decoder's answer alone.
    - `dim`: length of an embedder's vectors. `max_tokens`: of one text, or of a pair, or of what an
      encoder-decoder reads; `None` where nothing bounds them, and for decoders.
    - `features`: what an encoder-decoder reads that reads no tokens.
    - `watchable`: the heads of a decoder, whose attention can be told.
    - `image_token_id`: what keeps the places of images in a prompt, where a decoder reads any.
    - `labels`: of a ranker's or classifier's logits; `activation` (`identity`, `sigmoid` or `softmax`) makes
      them scores.
    - `is_loaded`: whether a request would be computed at once.
    """

    name: str
    role: ModelRole
    architecture: str
    folder: str
    dtype: str
    vocab_size: int
    max_model_len: int | None
    eos_token_ids: tuple[int, ...] = ()
    dim: int | None = None
    max_tokens: int | None = None
    labels: tuple[str, ...] = ()
    activation: str | None = None
    weight_bytes: int = 0
    is_loaded: bool = False
    features: FeatureShape | None = None
    watchable: Watchable | None = None
    image_token_id: int | None = None

    @property
    def longest(self) -> int | None:
        """Tokens of the longest request that it takes; `None` where nothing bounds them."""
        if self.max_model_len is None or self.role is not ModelRole.SEQ2SEQ:
            return self.max_model_len
        return None if self.max_tokens is None else self.max_tokens + self.max_model_len
