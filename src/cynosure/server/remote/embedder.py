"""Be an embedder whose computing is done in another process. Computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from cynosure.core.errors import InputError
from cynosure.engine.pool.card import ModelCard
from cynosure.engine.wire.messages import Attend, Embed, Rows, Shares
from cynosure.insight import Evidence, folded_evidence
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.remote.supervisor import Supervisor
from cynosure.server.services import Vectors


class RemoteEmbedder:
    """What `/v1/embeddings` asks."""

    def __init__(self, card: ModelCard, tokenizer: Tokenizer, supervisor: Supervisor) -> None:
        """Stand for one model of the engine's process."""
        assert card.dim is not None, "an embedder's card says how long its vectors are"
        assert card.max_tokens is not None, "an embedder's card says how much it reads"
        self.name = card.name
        self.dim = card.dim
        self.max_tokens = card.max_tokens
        self._tokenizer = tokenizer
        self._supervisor = supervisor

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Vectors:
        """Vectors of length 1 and the tokens that were read.

        Raises:
            EmptyInput, InputTooLong: a text can't be embedded.
            EngineDown: there is no engine now.
        """
        asked = tuple(texts)
        future = self._supervisor.link.call(lambda number: Embed(number, self.name, asked, tenant))
        rows: Rows = await asyncio.wrap_future(future)
        return Vectors(rows.values, rows.token_counts)

    async def attended(self, text: str, tenant: str = "") -> Evidence:
        """The words that it attends to; raises as `embed` does."""
        future = self._supervisor.link.call(lambda number: Attend(number, self.name, text))
        shares: Shares = await asyncio.wrap_future(future)
        return folded_evidence(text, shares)

    def text_of(self, token_ids: Sequence[int]) -> str:
        """The text that is read as these ids, with or without the special ones.

        The embedder reads texts. Ids that no text gives would change their meaning on the way, so that they
        are refused.
        """
        text = self._tokenizer.decode(token_ids)
        again = (self._tokenizer.encode(text), self._tokenizer.encode(text, add_special_tokens=False))
        if list(token_ids) not in [list(encoding.ids) for encoding in again]:
            raise InputError(
                f"the {len(token_ids)} token ids given are no reading of a text by {self.name}. Send the "
                "text."
            )
        return text


class BlockingEmbedder:
    """The same for threads that may wait: what search over an index asks."""

    def __init__(self, model_id: str, card: ModelCard, tokenizer: Tokenizer, supervisor: Supervisor) -> None:
        """Stand for one model of the engine's process; `model_id` changes whenever its vectors would."""
        assert card.dim is not None, "an embedder's card says how long its vectors are"
        assert card.max_tokens is not None, "an embedder's card says how much it reads"
        self.model_id = model_id
        self.dim = card.dim
        self.max_tokens = card.max_tokens
        self._name = card.name
        self._tokenizer = tokenizer
        self._supervisor = supervisor

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a text, special tokens included."""
        return len(self._tokenizer.encode(text))

    def embed(self, texts: list[str]) -> Float32[np.ndarray, "texts dim"]:
        """L2-normalised vectors, one a text and in that order."""
        asked = tuple(texts)
        rows: Rows = self._supervisor.link.call(lambda number: Embed(number, self._name, asked, "")).result()
        return rows.values

    def attended(self, text: str) -> Shares:
        """What the model attended to in a text, by token."""
        return self._supervisor.link.call(lambda number: Attend(number, self._name, text)).result()
