"""Turn texts into vectors that can be compared. Knows nothing of indexes, nor of what the texts are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cynosure.core.errors import CheckpointCorrupt, EmptyInput, UnsupportedArchitecture
from cynosure.models.attended_tokens import AttendedTokens, attended_tokens
from cynosure.models.batch import Batch
from cynosure.models.dense import load_dense
from cynosure.models.encoder import Encoder
from cynosure.models.fingerprint import digests_of, model_id
from cynosure.models.load import load
from cynosure.models.pooling import pool
from cynosure.models.read_ahead import pieces_of, read_ahead
from cynosure.models.sentence_folder import SentenceSpec, read_sentence_folder
from cynosure.models.text.token_ids import IdReader, TokenIds
from cynosure.models.text.tokenizer import Encoding, Tokenizer
from cynosure.models.token_passes import Progress, passes

# Texts are read while those before them are computed, about a pass's tokens at a time.
_CHARS_OF_TOKEN = 4
_FIRST_CHARS, _CHARS = 8_000, 32_000


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of length 1, and what each text cost: tokens read, and tokens that a truncation dropped."""

    vectors: Float[np.ndarray, "n dim"]
    token_counts: tuple[int, ...]
    dropped_counts: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Reading:
    """Some texts as passes, each with its texts' places, and what each text cost, in their order."""

    passes: list[tuple[list[int], Batch]]
    counts: list[int]
    dropped: list[int]


class Embedder:
    """A sentence-transformers folder that embeds.

    Vectors always have length 1, also where the folder does not ask for it: what compares them here
    takes the cosine. `model_id` is `name@fingerprint:dtype`: it changes with everything that shapes a vector.
    """

    def __init__(
        self,
        model_id: str,
        sentence: SentenceSpec,
        graph: Encoder,
        tokenizer: Tokenizer,
        backend: str = "auto",
    ) -> None:
        """Wrap what `load_embedder` read; `backend` is attention's, by name."""
        self.model_id = model_id
        limits = (sentence.max_tokens, tokenizer.max_length, graph.spec.max_model_len)
        self.max_tokens = min(limit for limit in limits if limit is not None)
        self.tokenizer = tokenizer
        self._ids = IdReader(tokenizer)
        self.backend = backend
        self._sentence = sentence
        self.graph = graph
        self._dense = [load_dense(spec) for spec in sentence.dense]
        pooled = len(sentence.poolings) * graph.spec.hidden_size
        self.dim = sentence.dense[-1].out_features if sentence.dense else pooled

    @property
    def name(self) -> str:
        """What the model is called, without the fingerprint."""
        return self.model_id.partition("@")[0]

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """What holds its weights: the graph, and projections behind it."""
        return (self.graph, *self._dense)

    def count_tokens(self, text: str) -> int:
        """How many tokens the model reads, added ones included."""
        return len(self.tokenizer.encode(text))

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> Float[np.ndarray, "n dim"]:
        """Return a vector of length 1 for each text.

        Raises:
            EmptyInput: A text has no character but white space.
            InputTooLong: A text has more than `max_tokens` tokens.
        """
        return self.embed_counted(texts, progress=progress).vectors

    def embed_counted(
        self, texts: Sequence[str], *, truncate: bool = False, progress: Progress | None = None
    ) -> Embeddings:
        """Return vectors with what each text cost.

        Args:
            texts: The texts.
            truncate: Whether to drop tokens beyond `max_tokens` instead of raising; the counts say how many.
            progress: Called with the number of texts done and of all texts, after each pass.

        Raises:
            EmptyInput: A text has no character but white space.
            InputTooLong: A text has more than `max_tokens` tokens, and `truncate` is not set.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        longest = _CHARS_OF_TOKEN * self.max_tokens  # of what is read and dropped, less is computed
        pieces = pieces_of([min(len(text), longest) for text in texts], _FIRST_CHARS, _CHARS)
        counts: list[int] = []
        dropped: list[int] = []
        done = 0
        for reading in read_ahead(partial(self._read, texts, truncate), pieces):
            counts += reading.counts
            dropped += reading.dropped
            for places, batch in reading.passes:
                vectors[places] = self._vectors(batch).numpy()
                done += len(places)
                if progress is not None:
                    progress(done, len(texts))
        return Embeddings(vectors, tuple(counts), tuple(dropped))

    def encode(self, text: str) -> Encoding:
        """Read one text, for `run`.

        Raises:
            EmptyInput: The text has no character but white space.
            InputTooLong: The text has more than `max_tokens` tokens.
        """
        return self._encode(text, truncate=False)

    def read(self, texts: Sequence[str]) -> list[TokenIds]:
        """Read many texts at once, for `run`; raises what `encode` raises."""
        for text in texts:
            _check_some(text)
        return self._ids.read(texts, max_length=self.max_tokens)

    def run(self, encodings: Sequence[Encoding | TokenIds]) -> Float32[np.ndarray, "n dim"]:
        """Return the vectors of texts that were read, in one pass; how many fit is the caller's concern."""
        return self._vectors(_pack(encodings)).numpy()

    def attended(self, text: str) -> AttendedTokens:
        """Return which of the text's tokens the last layer attended to.

        Raises:
            EmptyInput: The text has no character but white space.
            InputTooLong: The text has more than `max_tokens` tokens.
        """
        encoding = self._encode(text, truncate=False)
        batch = _pack([encoding], segments=[range(len(encoding))])
        own = [place for place, is_special in enumerate(encoding.special) if not is_special]
        return attended_tokens(self.graph, batch, own, own, encoding.offsets, self.backend)

    def _read(self, texts: Sequence[str], truncate: bool, piece: range) -> _Reading:
        """Lay some of the texts out in passes."""
        chosen = [texts[place] for place in piece]
        for text in chosen:
            _check_some(text)
        read = self._ids.read(chosen, max_length=self.max_tokens, truncate=truncate)
        counts = [len(one) for one in read]
        found = [
            ([piece[index] for index in indices], _pack([read[index] for index in indices]))
            for indices in passes(counts)
        ]
        return _Reading(found, counts, [one.num_dropped for one in read])

    def _encode(self, text: str, truncate: bool) -> Encoding:
        _check_some(text)
        return self.tokenizer.encode(text, max_length=self.max_tokens, truncate=truncate)

    @torch.inference_mode()
    def _vectors(self, batch: Batch) -> Float[Tensor, "num_seqs dim"]:
        if len(kinds := self._sentence.poolings) == 1:
            x = self.graph.pooled(batch, kinds[0], self.backend).float()
        else:
            hidden = self.graph(batch, backend=self.backend).hidden.float()
            x = torch.cat([pool(kind, hidden, batch) for kind in kinds], dim=-1)
        for dense in self._dense:
            x = dense(x)
        return nn.functional.normalize(x, dim=-1)


def load_embedder(
    folder: Path,
    *,
    name: str | None = None,
    dtype: str = "auto",
    weights_sha256: str | None = None,
    backend: str = "auto",
    quantize: str | None = None,
) -> Embedder:
    """Load a sentence-transformers folder.

    Args:
        folder: Holds modules.json.
        name: How the model is called; the folder's name where it is None.
        dtype: What to compute in, as for `load`; `auto` is `fastest_dtype`.
        weights_sha256: What model.safetensors must hash to; None takes what is there.
        backend: Of attention, as for `load`.
        quantize: The code to keep weights in, as for `load`.

    Raises:
        CheckpointCorrupt: Another hash than the one asked for.
        CheckpointError: The folder can't be served; see the subclasses.
    """
    sentence = read_sentence_folder(folder)
    digests = digests_of(folder)
    weights = sentence.encoder_folder / "model.safetensors"
    if weights_sha256 is not None and digests.get(weights) != weights_sha256:
        raise CheckpointCorrupt(
            f"{weights} has the SHA-256 {digests.get(weights)}; "
            f"{weights_sha256} was expected. Install it again."
        )
    chosen = fastest_dtype() if dtype == "auto" else dtype
    model = load(sentence.encoder_folder, dtype=chosen, backend=backend, quantize=quantize)
    if not isinstance(model.graph, Encoder):
        raise UnsupportedArchitecture(
            f"{folder} embeds with a {model.architecture}; only encoders embed here. Choose another folder."
        )
    named = model_id(name or folder.name, folder, digests, str(model.dtype).removeprefix("torch."))
    if quantize is not None:
        named = f"{named}-{quantize}"
    tokenizer = Tokenizer.from_folder(sentence.encoder_folder)
    return Embedder(named, sentence, model.graph, tokenizer, backend)


def fastest_dtype() -> str:
    """Return `bfloat16` where the CPU multiplies tiles of it (AMX), else `float32`.

    Other CPUs emulate bfloat16, which is slower. How near the vectors stay is measured by
    `evals/embedder_check.py`.
    """
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"


def _check_some(text: str) -> None:
    if not text.strip():
        raise EmptyInput("a text to embed is nothing but white space. Leave it out, or write something.")


def _pack(texts: Sequence[Encoding | TokenIds], segments: Sequence[Sequence[int]] | None = None) -> Batch:
    types = [(0,) * len(text) if text.type_ids is None else text.type_ids for text in texts]
    has_types = any(text.type_ids is not None for text in texts)
    return Batch.pack([text.ids for text in texts], type_ids=types if has_types else None, segments=segments)
