"""Write tiny models of every kind to disk, and pools of them. Knows nothing of what must hold."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from tempfile import mkdtemp

from cynosure.engine import Event, Request, SamplingParams
from cynosure.engine.pool import PoolSettings, ServedModel
from tests.engine.engine_cases import SMALL, TERMINAL, Ear
from tests.models import seq2seq_cases, seq2seq_oracle, t5_oracle, tiny_embedders
from tests.models.decoder_oracle import pair_of


class Waiting(Ear):
    """An ear that one can wait on."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._ended:
            super().__call__(event)
            if isinstance(event, TERMINAL):
                self._ended.notify_all()

    def wait(self, *request_ids: str, timeout: float = 60) -> None:
        def all_ended() -> bool:
            return all(
                any(isinstance(event, TERMINAL) for event in self.events[request_id])
                for request_id in request_ids
            )

        with self._ended:
            assert self._ended.wait_for(all_ended, timeout=timeout), f"{request_ids} did not all end"


def ask(
    request_id: str,
    prompt: Sequence[int],
    max_tokens: int = 8,
    tenant: str = "",
    adapter: str | None = None,
) -> Request:
    """A greedy request that goes on to the end, whatever the checkpoint's end token is."""
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
    return Request(request_id, tuple(prompt), params, tenant, adapter=adapter)


@lru_cache(maxsize=1)
def _root() -> Path:
    return Path(mkdtemp(prefix="pool-"))


@cache
def folder_of(kind: str) -> Path:
    """A folder with a tiny model of a kind; written once a session."""
    folder = _root() / kind
    match kind:
        case "embedder":
            tiny_embedders.write_folder(folder, [tiny_embedders.pooling("mean_tokens")])
        case "ranker":
            tiny_embedders.write_encoder(folder, "BertForSequenceClassification", num_labels=1)
        case "classifier":
            labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
            tiny_embedders.write_encoder(folder, "BertForSequenceClassification", id2label=labels)
        case "encoder":
            tiny_embedders.write_encoder(folder)
        case "t5":
            t5_oracle.save(t5_oracle.build(t5_oracle.VARIANTS["v1.1"]), folder)
        case _ if kind in seq2seq_cases.CASES:
            return seq2seq_oracle.pair_of(kind).folder
        case _:
            return pair_of(kind).folder
    return folder


def served(kind: str, name: str | None = None, **options: object) -> ServedModel:
    """A tiny model in float32."""
    fields = {"dtype": "float32", **options}
    return ServedModel(name or kind, str(folder_of(kind)), **fields)  # type: ignore[arg-type]


def settings(**options: object) -> PoolSettings:
    """Room for all, and small steps."""
    return PoolSettings(**{"memory_bytes": 1 << 30, "engine": SMALL, **options})  # type: ignore[arg-type]
