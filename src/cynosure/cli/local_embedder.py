"""Serve the packaged embedder under a short name. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence

from cynosure.core.errors import InputError
from cynosure.models.embedder import Embedder
from cynosure.server.services import Vectors


class LocalEmbedder:
    """What `/v1/embeddings` asks, answered by an embedder in this process."""

    def __init__(self, embedder: Embedder) -> None:
        """Name it by the last part of its own name."""
        self.name = embedder.name.rpartition("/")[2]
        self.dim = embedder.dim
        self.max_tokens = embedder.max_tokens
        self._embedder = embedder

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1 and the tokens that were read."""
        found = self._embedder.embed_counted(texts)
        return Vectors(found.vectors, found.token_counts)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text that is read as these ids, with or without the special ones.

        The embedder reads texts. Ids that no text gives would change their meaning on the way, so that they
        are refused.
        """
        tokenizer = self._embedder.tokenizer
        text = tokenizer.decode(token_ids)
        again = (tokenizer.encode(text), tokenizer.encode(text, add_special_tokens=False))
        if list(token_ids) not in [list(encoding.ids) for encoding in again]:
            raise InputError(
                f"the {len(token_ids)} token ids given are no reading of a text by {self.name}. Send the "
                "text."
            )
        return text
