"""Score pairs of texts that are read together. Knows nothing of indexes, nor of what the scores rank."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from cynosure.core.errors import EmptyInput, UnsupportedArchitecture
from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import HeadKind, HeadSpec
from cynosure.models.fingerprint import digests_of, model_id
from cynosure.models.heads import scores
from cynosure.models.load import load
from cynosure.models.token_passes import Progress, passes
from cynosure.models.tokenizer import Encoding, Tokenizer


class CrossEncoder:
    """A sequence classifier over pairs; with one output, a reranker."""

    def __init__(self, model_id: str, graph: Encoder, head: HeadSpec, tokenizer: Tokenizer) -> None:
        """Wrap what `load_cross_encoder` read."""
        limits = (tokenizer.max_length, graph.spec.max_model_len)
        self.model_id = model_id
        self.labels = head.labels
        self.max_tokens = min(limit for limit in limits if limit is not None)
        self.tokenizer = tokenizer
        self._graph = graph
        self._head = head

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
        encodings = [self._encode(first, second, truncate) for first, second in pairs]
        found = np.empty((len(pairs), len(self.labels)), dtype=np.float32)
        done = 0
        for places in passes([len(encoding) for encoding in encodings]):
            found[places] = self._scores([encodings[place] for place in places])
            done += len(places)
            if progress is not None:
                progress(done, len(pairs))
        return found

    def _encode(self, first: str, second: str, truncate: bool) -> Encoding:
        if not first.strip() or not second.strip():
            raise EmptyInput("a text of a pair is nothing but white space. Leave the pair out.")
        return self.tokenizer.encode_pair(first, second, max_length=self.max_tokens, truncate=truncate)

    @torch.inference_mode()
    def _scores(self, encodings: Sequence[Encoding]) -> Float[np.ndarray, "n labels"]:
        ids, types = [one.ids for one in encodings], [one.type_ids for one in encodings]
        # A model without type embeddings tells the texts apart by the separator alone.
        has_types = self._graph.spec.embeddings.num_types > 1
        batch = Batch.pack(ids, type_ids=types if has_types else None)
        return scores(self._head, self._graph.logits(self._graph(batch).hidden, batch)).numpy()


def load_cross_encoder(folder: Path, *, name: str | None = None, dtype: str = "float32") -> CrossEncoder:
    """Load a sequence classifier that reads pairs.

    Raises:
        UnsupportedArchitecture: The checkpoint is no sequence classifier.
        CheckpointError: The folder can't be served; see the subclasses.
    """
    model = load(folder, dtype=dtype)
    head = model.graph.spec.head if isinstance(model.graph, Encoder) else None
    if head is None or head.kind is not HeadKind.SEQUENCE or not isinstance(model.graph, Encoder):
        raise UnsupportedArchitecture(
            f"{folder} holds a {model.architecture}; pairs are scored by a "
            "...ForSequenceClassification. Choose one."
        )
    named = model_id(name or folder.name, folder, digests_of(folder), model.dtype)
    return CrossEncoder(named, model.graph, head, Tokenizer.from_folder(folder))
