"""Be a ranking model whose computing is done in another process. Computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from cynosure.engine.pool.card import ModelCard
from cynosure.engine.wire.messages import Attend, Rows, Score, Shares
from cynosure.insight import Evidence, folded_evidence
from cynosure.server.remote.supervisor import Supervisor
from cynosure.server.services import ScoreKind, Scores


class RemoteRanker:
    """What `/v1/rerank`, `/v1/score` and `/v1/decisions` ask."""

    def __init__(self, card: ModelCard, kind: ScoreKind, supervisor: Supervisor) -> None:
        """Stand for one model of the engine's process; `kind` says what its logits mean."""
        assert card.max_tokens is not None, "a ranker's card says how much it reads"
        self.name = card.name
        self.labels = card.labels
        self.kind = kind
        self.max_tokens = card.max_tokens
        self._supervisor = supervisor

    async def score(self, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Scores:
        """Logits of each reading, and the tokens that were read.

        Raises:
            EmptyInput, InputTooLong: a reading can't be scored.
            EngineDown: there is no engine now.
        """
        asked = tuple(readings)
        future = self._supervisor.link.call(lambda number: Score(number, self.name, asked, tenant))
        rows: Rows = await asyncio.wrap_future(future)
        return Scores(rows.values, rows.token_counts)

    async def attended(self, query: str, text: str, tenant: str = "") -> Evidence:
        """The words that it attends to from a query; raises as `score` does, or if it reads texts apart."""
        future = self._supervisor.link.call(lambda number: Attend(number, self.name, text, query))
        shares: Shares = await asyncio.wrap_future(future)
        return folded_evidence(text, shares)


class BlockingRanker:
    """The same for threads that may wait: what search over an index asks."""

    def __init__(self, model_id: str, card: ModelCard, supervisor: Supervisor) -> None:
        """Stand for one model of the engine's process; `model_id` changes whenever its logits would."""
        assert card.max_tokens is not None, "a ranker's card says how much it reads"
        self.model_id = model_id
        self.labels = card.labels
        self.max_tokens = card.max_tokens
        self._name = card.name
        self._supervisor = supervisor

    def score(self, question: str, texts: Sequence[str]) -> Float32[np.ndarray, "texts labels"]:
        """Logits of each pair, in the order of the texts; raises as `RemoteRanker.score` does."""
        if not texts:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        asked = tuple((question, text) for text in texts)
        rows: Rows = self._supervisor.link.call(lambda number: Score(number, self._name, asked, "")).result()
        return rows.values

    def attended(self, question: str, text: str) -> Shares:
        """What the model attended to in a text that it read with a question, by token."""
        call = self._supervisor.link.call(lambda number: Attend(number, self._name, text, question))
        return call.result()
