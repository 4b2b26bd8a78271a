"""Serve a sequence classifier, or a cross-encoder, in this process. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from cynosure.core.errors import EmptyInput, InputError, UnsupportedArchitecture
from cynosure.insight import Evidence
from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder
from cynosure.models.encoder_spec import HeadKind, HeadSpec
from cynosure.models.heads import score_activation
from cynosure.models.load import load
from cynosure.models.text.tokenizer import Encoding, Tokenizer
from cynosure.models.token_passes import passes
from cynosure.server.compute import ComputeThread
from cynosure.server.services import ScoreKind, Scores


class LocalRanker:
    """What `/v1/rerank`, `/v1/score` and `/v1/decisions` ask, answered by an encoder in this process."""

    def __init__(self, name: str, graph: Encoder, head: HeadSpec, tokenizer: Tokenizer) -> None:
        """Wrap what `load_ranker` read."""
        limits = (tokenizer.max_length, graph.spec.max_model_len)
        self.name = name
        self.labels = head.labels
        self.kind = ScoreKind(score_activation(head))
        self.max_tokens = min(limit for limit in limits if limit is not None)
        self._tokenizer = tokenizer
        self._graph = graph
        self._compute = ComputeThread()

    async def score(self, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Scores:
        """Logits of each reading, and the tokens that were read; one thread serves all tenants in turn.

        Raises:
            EmptyInput: a text is nothing but white space.
            InputTooLong: a reading has more than `max_tokens` tokens.
        """
        encodings = await self._compute.run(lambda: [self._encode(reading) for reading in readings])
        logits = np.empty((len(readings), len(self.labels)), dtype=np.float32)
        # A pass a turn, so that other requests come in between.
        for places in passes([len(encoding) for encoding in encodings]):
            some = [encodings[place] for place in places]
            logits[places] = await self._compute.run(lambda some=some: self._logits(some))
        return Scores(logits, tuple(len(encoding) for encoding in encodings))

    async def attended(self, query: str, text: str, tenant: str = "") -> Evidence:
        raise InputError("this one is not asked what it attends to. Ask another model.")

    def _encode(self, reading: tuple[str, ...]) -> Encoding:
        for text in reading:
            if not text.strip():
                raise EmptyInput("a text is nothing but white space. Leave it out.")
        if len(reading) == 1:
            return self._tokenizer.encode(reading[0], max_length=self.max_tokens)
        first, second = reading
        return self._tokenizer.encode_pair(first, second, max_length=self.max_tokens)

    @torch.inference_mode()
    def _logits(self, encodings: Sequence[Encoding]) -> Float32[np.ndarray, "n labels"]:
        ids, types = [one.ids for one in encodings], [one.type_ids for one in encodings]
        # A model without type embeddings tells the texts apart by the separator alone.
        has_types = self._graph.spec.embeddings.num_types > 1
        batch = Batch.pack(ids, type_ids=types if has_types else None)
        return self._graph.logits(self._graph(batch).hidden, batch).float().numpy()


def load_ranker(name: str, folder: Path, dtype: str = "float32") -> LocalRanker:
    """Load a sequence classifier.

    Raises:
        UnsupportedArchitecture: the checkpoint is something else.
        CheckpointError: the folder can't be served; see the subclasses.
    """
    model = load(folder, dtype=dtype)
    head = model.graph.spec.head if isinstance(model.graph, Encoder) else None
    if head is None or head.kind is not HeadKind.SEQUENCE or not isinstance(model.graph, Encoder):
        raise UnsupportedArchitecture(
            f"{folder} holds a {model.architecture}; texts are scored by a ...ForSequenceClassification. "
            "Choose one."
        )
    return LocalRanker(name, model.graph, head, Tokenizer.from_folder(model.folder))
