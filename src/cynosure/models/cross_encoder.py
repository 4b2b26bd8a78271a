"""Score pairs of texts that are read together. Knows nothing of indexes, nor of what the scores rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cynosure.core.errors import EmptyInput, UnsupportedArchitecture
from cynosure.models.attended_tokens import AttendedTokens, attended_tokens
from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import HeadKind, HeadSpec
from cynosure.models.fingerprint import digests_of, model_id
from cynosure.models.heads import scores
from cynosure.models.load import load
from cynosure.models.text.token_ids import IdReader, TokenIds
from cynosure.models.text.tokenizer import Encoding, Tokenizer
from cynosure.models.token_passes import Progress, passes


class CrossEncoder:
    """A sequence classifier over pairs; with one output, a reranker."""

    def __init__(
        self, model_id: str, graph: Encoder, head: HeadSpec, tokenizer: Tokenizer, backend: str = "auto"
    ) -> None:
        """Wrap what `load_cross_encoder` read; `backend` is attention's, by name."""
        limits = (tokenizer.max_length, graph.spec.max_model_len)
        self.model_id = model_id
        self.labels = head.labels
        self.max_tokens = min(limit for limit in limits if limit is not None)
        self.tokenizer = tokenizer
        self._ids = IdReader(tokenizer)
        self.graph = graph
        self.backend = backend
        self._head = head

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """What holds its weights."""
        return (self.graph,)

    def score(
        self, pairs: Sequence[tuple[str, str]], *, truncate: bool = False, progress: Progress | None = None
    ) -> Float[np.ndarray, "n labels"]:
        """Return what the head says of each pair, after the activation that `heads.scores` describes.

        Args:
            pairs: Query and passage, in the order that the model was trained with.
            truncate: Whether to shorten the longer text of a pair that does not fit, instead of raising.
            progress: Called with the number of pairs done and of all pairs, after each pass.

        Raises:
            EmptyInput: A text is nothing but white space.
            InputTooLong: A pair has more than `max_tokens` tokens, and `truncate` is not set.
        """
        encodings = self._read_pairs(pairs, truncate)
        found = np.empty((len(pairs), len(self.labels)), dtype=np.float32)
        done = 0
        for places in passes([len(encoding) for encoding in encodings]):
            found[places] = self._scores([encodings[place] for place in places])
            done += len(places)
            if progress is not None:
                progress(done, len(pairs))
        return found

    def encode(self, text: tuple[str, ...]) -> Encoding:
        """Read one text, or two together, for `run`.

        Raises:
            EmptyInput: A text is nothing but white space.
            InputTooLong: They have more than `max_tokens` tokens.
        """
        if len(text) == 1:
            _check_some(text[0])
            return self.tokenizer.encode(text[0], max_length=self.max_tokens)
        first, second = text
        return self._encode(first, second, truncate=False)

    def read(self, texts: Sequence[tuple[str, ...]]) -> Sequence[Encoding | TokenIds]:
        """Read several at once, for `run`; raises what `encode` raises."""
        pairs = [(text[0], text[1]) for text in texts if len(text) == 2]
        if len(pairs) < len(texts):
            return [self.encode(text) for text in texts]
        return self._read_pairs(pairs, truncate=False)

    @torch.inference_mode()
    def run(self, encodings: Sequence[Encoding | TokenIds]) -> Float32[np.ndarray, "n labels"]:
        """Return the logits of what was read, in one pass; how many fit is the caller's concern."""
        return self._logits(encodings).numpy()

    def attended(self, question: str, text: str) -> AttendedTokens:
        """Return which tokens of `text` the last layer attended to from the question, and from [CLS].

        Raises:
            EmptyInput: A text is nothing but white space.
            InputTooLong: They have more than `max_tokens` tokens.
        """
        encoding = self._encode(question, text, truncate=False)
        types = [encoding.type_ids] if self.graph.spec.embeddings.num_types > 1 else None
        batch = Batch.pack([encoding.ids], type_ids=types, segments=[range(len(encoding))])
        # What decides is read off the first token.
        asking = [0, *(place for place, text in enumerate(encoding.sequences) if text == 0)]
        asked = [place for place, text in enumerate(encoding.sequences) if text == 1]
        return attended_tokens(self.graph, batch, asking, asked, encoding.offsets, self.backend)

    def _encode(self, first: str, second: str, truncate: bool) -> Encoding:
        _check_some(first, second)
        return self.tokenizer.encode_pair(first, second, max_length=self.max_tokens, truncate=truncate)

    def _read_pairs(self, pairs: Sequence[tuple[str, str]], truncate: bool) -> list[TokenIds]:
        for pair in pairs:
            _check_some(*pair)
        return self._ids.read_pairs(pairs, max_length=self.max_tokens, truncate=truncate)

    @torch.inference_mode()
    def _scores(self, encodings: Sequence[Encoding | TokenIds]) -> Float32[np.ndarray, "n labels"]:
        return scores(self._head, self._logits(encodings)).numpy()

    def _logits(self, encodings: Sequence[Encoding | TokenIds]) -> Float32[Tensor, "n labels"]:
        ids, types = [one.ids for one in encodings], [one.type_ids or (0,) * len(one) for one in encodings]
        # A model without type embeddings tells the texts apart by the separator alone.
        has_types = self.graph.spec.embeddings.num_types > 1
        batch = Batch.pack(ids, type_ids=types if has_types else None)
        return self.graph.answers(batch, self.backend).float()


def _check_some(*texts: str) -> None:
    if not all(text.strip() for text in texts):
        raise EmptyInput("a text to score is nothing but white space. Leave it, or its pair, out.")


def load_cross_encoder(
    folder: Path,
    *,
    name: str | None = None,
    dtype: str = "float32",
    backend: str = "auto",
    quantize: str | None = None,
) -> CrossEncoder:
    """Load a sequence classifier that reads texts or pairs of them; arguments are those of `load`.

    Raises:
        UnsupportedArchitecture: The checkpoint is no sequence classifier.
        CheckpointError: The folder can't be served; see the subclasses.
    """
    model = load(folder, dtype=dtype, backend=backend, quantize=quantize)
    head = model.graph.spec.head if isinstance(model.graph, Encoder) else None
    if head is None or head.kind is not HeadKind.SEQUENCE or not isinstance(model.graph, Encoder):
        raise UnsupportedArchitecture(
            f"{folder} holds a {model.architecture}; pairs are scored by a "
            "...ForSequenceClassification. Choose one."
        )
    dtype_name = str(model.dtype).removeprefix("torch.")
    named = model_id(name or folder.name, folder, digests_of(folder), dtype_name)
    if quantize is not None:
        named = f"{named}-{quantize}"
    return CrossEncoder(named, model.graph, head, Tokenizer.from_folder(folder), backend)
