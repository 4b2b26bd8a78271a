"""Be a ranking model whose computing is done in another process. Computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cynosure.engine.pool.card import ModelCard
from cynosure.engine.wire.messages import Rows, Score
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
