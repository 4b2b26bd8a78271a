"""Search with the packaged embedder in this process, for a command on the terminal. Knows nothing of HTTP.

Importing this imports torch; the server, whose engine has a process of its own, leaves it alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float32

from cynosure.models.attended_tokens import AttendedTokens
from cynosure.models.embedder import Embedder
from cynosure.models.minilm import load_minilm
from cynosure.models.native.graph import use_kernels


class LocalEmbedder:
    """An embedder that is asked for single questions, between which nothing else computes."""

    def __init__(self, embedder: Embedder) -> None:
        """Stand before an embedder that is loaded."""
        self.model_id = embedder.model_id
        self.dim = embedder.dim
        self.max_tokens = embedder.max_tokens
        self._embedder = embedder

    def count_tokens(self, text: str) -> int:
        """As the embedder does."""
        return self._embedder.count_tokens(text)

    def embed(self, texts: list[str]) -> Float32[np.ndarray, "texts dim"]:
        """As the embedder does."""
        if len(texts) > 1:
            return self._embedder.embed(texts)
        with _one_thread():
            return self._embedder.embed(texts)

    def attended(self, text: str) -> AttendedTokens:
        """As the embedder does."""
        with _one_thread():
            return self._embedder.attended(text)


def load_local_embedder() -> LocalEmbedder:
    """The packaged embedder, as fast as it gets here: it makes all vectors of the index."""
    embedder = load_minilm()
    use_kernels(embedder.graph, embedder.graph.dtype)
    return LocalEmbedder(embedder)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute a few tokens on one thread: more would wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
