"""Compare two texts token by token. Knows nothing of indexes, nor of what the scores rank.

ColBERT (arXiv 2004.12832): each token of a query finds the token of the document that is most like it; the
score is the sum of these cosines.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from cynosure.core.errors import (
    CheckpointCorrupt,
    EmptyInput,
    InputError,
    InputTooLong,
    UnsupportedArchitecture,
    UnsupportedConfig,
)
from cynosure.models.batch import Batch
from cynosure.models.checkpoint import checked, open_weights
from cynosure.models.dense import load_dense
from cynosure.models.encoder import Encoder
from cynosure.models.fingerprint import digests_of, model_id
from cynosure.models.late_batch import pack_readings
from cynosure.models.late_folder import LateSpec, read_late_folder
from cynosure.models.load import load
from cynosure.models.text.tokenizer import Encoding, Tokenizer
from cynosure.models.token_passes import passes

#: What ColBERT calls its projection, among the encoder's weights.
PROJECTION = "linear.weight"


class LateInteraction:
    """A ranker that reads query and document apart, and compares all their tokens."""

    #: The one number of a pair.
    labels = ("relevance",)

    def __init__(
        self,
        model_id: str,
        spec: LateSpec,
        graph: Encoder,
        projection: nn.Module,
        tokenizer: Tokenizer,
        backend: str = "auto",
    ) -> None:
        """Wrap what `load_late_interaction` read; `backend` is attention's, by name.

        Raises:
            UnsupportedConfig: The tokenizer lacks a marker or, where queries are expanded, a mask token; or
                a text of the declared length is longer than the encoder reads.
        """
        longest = graph.spec.max_model_len
        if longest < max(spec.query_length, spec.document_length):
            raise UnsupportedConfig(
                f"{spec.encoder_folder} declares queries of {spec.query_length} and documents of "
                f"{spec.document_length} tokens; its encoder reads {longest}. Correct them."
            )
        self.model_id = model_id
        self.max_tokens = spec.query_length + spec.document_length
        self.tokenizer = tokenizer
        self.graph = graph
        self.backend = backend
        self._spec = spec
        self._projection = projection
        self._markers = (_id_of(tokenizer, spec.query_marker), _id_of(tokenizer, spec.document_marker))
        self._mask = _mask_id(tokenizer) if spec.is_expanded else None
        self._skipped = _skipped_ids(tokenizer, spec.skipped)

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """What holds its weights: the graph, and the projection behind it."""
        return (self.graph, self._projection)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "n 1"]:
        """Return the score of each pair of a query and a document, from minus to plus the query's length.

        Raises:
            EmptyInput: A text is nothing but white space.
            InputTooLong: A text is longer than the folder declares.
        """
        encodings = [self.encode(pair) for pair in pairs]
        found = np.empty((len(pairs), 1), dtype=np.float32)
        for places in passes([len(encoding) for encoding in encodings]):
            found[places] = self.run([encodings[place] for place in places])
        return found

    def encode(self, text: tuple[str, ...]) -> Encoding:
        """Read a query and a document, for `run`; type ids say which a token is of.

        Raises:
            EmptyInput: A text is nothing but white space.
            InputTooLong: A text is longer than the folder declares.
            InputError: There are not two texts.
        """
        if len(text) != 2:
            raise InputError(
                "late interaction compares a query with a document, and one text was given. Send both."
            )
        if not all(one.strip() for one in text):
            raise EmptyInput("a text to score is nothing but white space. Leave it, or its pair, out.")
        lengths = (self._spec.query_length, self._spec.document_length)
        query, document = (self._read(one, place, lengths[place]) for place, one in enumerate(text))
        if self._mask is not None:
            query = _filled(query, self._mask, self._spec.query_length)
        return _joined(query, document)

    def read(self, texts: Sequence[tuple[str, ...]]) -> list[Encoding]:
        """Read several pairs, each as `encode` does."""
        return [self.encode(text) for text in texts]

    @torch.inference_mode()
    def run(self, encodings: Sequence[Encoding]) -> Float32[np.ndarray, "n 1"]:
        """Return the scores of what was read, in one pass; a query of several pairs is computed once."""
        readings = pack_readings(encodings, None if self._spec.attends_to_expansion else self._mask)
        vectors = self._vectors(readings.batch).split(readings.batch.new_lens)
        found = []
        for place, encoding in enumerate(encodings):
            query = vectors[readings.queries[place]]
            document = vectors[readings.documents[place]][self._is_compared(encoding)]
            found.append((query @ document.T).amax(1).sum())
        return torch.stack(found)[:, None].numpy()

    def _vectors(self, batch: Batch) -> Float[Tensor, "n dim"]:
        hidden = self.graph(batch, backend=self.backend).hidden.float()
        return nn.functional.normalize(self._projection(hidden), dim=-1)

    def _is_compared(self, encoding: Encoding) -> Bool[Tensor, " n"]:
        ids = [id_ for id_, kind in zip(encoding.ids, encoding.type_ids, strict=True) if kind == 1]
        return torch.tensor([id_ not in self._skipped for id_ in ids])

    def _read(self, text: str, place: int, length: int) -> Encoding:
        """Encode one text, and put its marker behind the first token."""
        read = self.tokenizer.encode(text)
        if len(read) >= length:
            raise InputTooLong(
                f"a {('query', 'document')[place]} has {len(read) + 1} tokens, its marker included; the "
                f"model's folder declares {length}. Shorten it."
            )
        marker = Encoding((self._markers[place],), ((0, 0),), (True,), (0,), (None,))
        first, rest = _part(read, slice(0, 1)), _part(read, slice(1, None))
        return _sum(first, marker, rest)


def _part(encoding: Encoding, part: slice) -> Encoding:
    return Encoding(
        encoding.ids[part],
        encoding.offsets[part],
        encoding.special[part],
        encoding.type_ids[part],
        encoding.sequences[part],
    )


def _sum(*parts: Encoding) -> Encoding:
    return Encoding(
        sum((part.ids for part in parts), ()),
        sum((part.offsets for part in parts), ()),
        sum((part.special for part in parts), ()),
        sum((part.type_ids for part in parts), ()),
        sum((part.sequences for part in parts), ()),
    )


def _filled(query: Encoding, mask: int, length: int) -> Encoding:
    count = length - len(query)
    return _sum(
        query, Encoding((mask,) * count, ((0, 0),) * count, (True,) * count, (0,) * count, (None,) * count)
    )


def _joined(query: Encoding, document: Encoding) -> Encoding:
    """Put both into one, as what waits for an encoder is counted; types tell them apart again."""
    both = _sum(query, document)
    types = (0,) * len(query) + (1,) * len(document)
    texts = (*query.sequences, *(None if text is None else 1 for text in document.sequences))
    return Encoding(both.ids, both.offsets, both.special, types, texts)


def _id_of(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    if found is None:
        raise UnsupportedConfig(
            f"the tokenizer has no token {token!r}, which marks a query or a document. Fetch the folder "
            "again."
        )
    return found


def _mask_id(tokenizer: Tokenizer) -> int:
    found = tokenizer.named_id("mask_token")
    found = tokenizer.token_to_id("[MASK]") if found is None else found
    if found is None:
        raise UnsupportedConfig(
            "the tokenizer names no mask_token, with which queries are filled up. Name it in "
            "tokenizer_config.json."
        )
    return found


def _skipped_ids(tokenizer: Tokenizer, words: Sequence[str]) -> frozenset[int]:
    """The first token of each word: of a mark that the vocabulary has, the mark itself."""
    read = [tokenizer.encode(word, add_special_tokens=False).ids for word in words if word.strip()]
    return frozenset(ids[0] for ids in read if ids)


def load_late_interaction(
    folder: Path,
    *,
    name: str | None = None,
    dtype: str = "float32",
    backend: str = "auto",
    quantize: str | None = None,
) -> LateInteraction:
    """Load a model of late interaction; arguments are those of `load`.

    Raises:
        CheckpointError: The folder can't be served; see the subclasses.
    """
    spec = read_late_folder(folder)
    model = load(spec.encoder_folder, dtype=dtype, backend=backend, quantize=quantize)
    if not isinstance(model.graph, Encoder):
        raise UnsupportedArchitecture(
            f"{folder} compares texts with a {model.architecture}; only encoders do here. Choose another."
        )
    if spec.dense:
        projection: nn.Module = nn.Sequential(*map(load_dense, spec.dense))
    else:
        projection = _stored_projection(folder, model.graph.spec.hidden_size)
    named = model_id(name or folder.name, folder, digests_of(folder), str(model.dtype).removeprefix("torch."))
    named = named if quantize is None else f"{named}-{quantize}"
    tokenizer = Tokenizer.from_folder(spec.encoder_folder)
    return LateInteraction(named, spec, model.graph, projection, tokenizer, backend)


def _stored_projection(folder: Path, hidden_size: int) -> nn.Linear:
    """Read the projection that lies with the encoder's weights; its width is said nowhere else."""
    weights = open_weights(folder)
    if PROJECTION not in weights or len(weights.shape(PROJECTION)) != 2:
        raise CheckpointCorrupt(
            f"{folder} has no matrix {PROJECTION}, by which tokens are compared. Fetch it again."
        )
    dim = weights.shape(PROJECTION)[0]
    with torch.device("meta"):
        projection = nn.Linear(hidden_size, dim, bias=False)
    weight = checked(PROJECTION, weights.later(PROJECTION), projection.weight, torch.float32)
    projection.weight = nn.Parameter(weight, requires_grad=False)
    return projection
