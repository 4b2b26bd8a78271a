"""Rank with the packed cross-encoder in this process, for a command on the terminal. Knows nothing of HTTP.

Importing this imports torch; the server, whose engine has a process of its own, leaves it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import CheckpointNotFound
from cynosure.models.attended_tokens import AttendedTokens
from cynosure.models.cross_encoder import CrossEncoder, load_cross_encoder
from cynosure.models.native.graph import use_kernels
from cynosure.models.token_passes import passes
from cynosure.pack import RANKER, pack_folder


class LocalRanker:
    """A cross-encoder as the search asks it: one question, several texts, logits."""

    def __init__(self, encoder: CrossEncoder) -> None:
        """Stand before a cross-encoder that is loaded."""
        self.model_id = encoder.model_id
        self.max_tokens = encoder.max_tokens
        self.labels = tuple(encoder.labels)
        self._encoder = encoder

    def score(self, question: str, texts: Sequence[str]) -> Float32[np.ndarray, "texts labels"]:
        """Logits of each pair.

        Raises:
            EmptyInput: A text is nothing but white space.
            InputTooLong: A pair has more than `max_tokens` tokens.
        """
        encodings = self._encoder.read([(question, text) for text in texts])
        logits = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        for places in passes([len(encoding) for encoding in encodings]):
            logits[places] = self._encoder.run([encodings[place] for place in places])
        return logits

    def attended(self, question: str, text: str) -> AttendedTokens:
        """What it attended to in a text that it read with a question, by token; raises as `score` does."""
        return self._encoder.attended(question, text)


def packed_ranker(dtype: str = "auto") -> LocalRanker | None:
    """The packed ranker; `None` where this copy of the package was built without weights."""
    try:
        folder = pack_folder(RANKER)
    except CheckpointNotFound:
        return None
    return load_local_ranker(folder, dtype)


def load_local_ranker(folder: Path | None = None, dtype: str = "auto") -> LocalRanker:
    """The packed ranker, or the one in `folder`, in the fastest dtype here.

    Raises:
        CheckpointError: It is not there, or can't be served.
    """
    encoder = load_cross_encoder(folder or pack_folder(RANKER), dtype=dtype)
    use_kernels(encoder.graph, encoder.graph.dtype)
    return LocalRanker(encoder)
