"""Break requests inside an engine of this process. Knows nothing of HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cynosure.engine import Cancelled, Event, Failed, Finished, Refused, Request, SamplingParams, TokenEvent
from cynosure.engine.constraints import grammar, json_schema, regex
from cynosure.engine.core import EngineCore
from cynosure.engine.engine import Engine
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.settings import EngineSettings
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from evals.fault_plan import (
    BLOCK,
    IN_A_PASS,
    NUM_SEATS,
    WAIT_S,
    Fault,
    Kind,
    Outcome,
    Wave,
    answer_length,
    hurt,
    is_batched,
    prompt_of,
)

KINDS = (Kind.EXCEPTION, Kind.ALLOCATION, Kind.NAN, Kind.GRAMMAR, Kind.LEAVES)
BROKEN_CONSTRAINTS = (
    regex("(" * 3),
    grammar("start: nowhere"),
    json_schema({"type": "object", "properties": {"a": {"type": "no such type"}}}),
)


class Saboteur:
    """Breaks the passes of a decoder where a planted fault says so.

    A request is known by its prompt's first token, and later by its first page.
    """

    def __init__(self, graph: Decoder) -> None:
        """Hook into the graph; nothing is planted."""
        self.planted: dict[int, Fault] = {}
        self.struck: set[int] = set()
        self._owners: dict[int, int] = {}
        self._rows: list[tuple[Kind, slice]] = []
        graph.register_forward_pre_hook(self._look)
        graph.embed.register_forward_hook(self._spoil)
        graph.layers[-1].register_forward_pre_hook(self._break)

    def _look(self, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        """Find the rows of this pass that a fault is for."""
        batch: Batch = arguments[0]
        keys, self._rows, row = batch.plan.keys[0], [], 0
        assert keys.block_table is not None
        for seq, num_new in enumerate(batch.new_lens):
            past = keys.offsets[seq + 1] - keys.offsets[seq] - num_new
            page = int(keys.block_table[seq, 0])
            if past == 0:
                self._owners[page] = int(batch.token_ids[row])
            owner = self._owners[page]
            fault = self.planted.get(owner)
            if fault is not None and fault.kind in IN_A_PASS and past <= fault.at < past + num_new:
                self._rows.append((fault.kind, slice(row + fault.at - past, row + fault.at - past + 1)))
                self.struck.add(owner)
            row += num_new

    def _spoil(self, _: nn.Module, __: object, embedded: Tensor) -> Tensor:
        for kind, rows in self._rows:
            if kind in (Kind.NAN, Kind.NUDGE):
                embedded = embedded.clone()
                # A vector that is only scaled comes out of the first norm as it was.
                embedded[rows] = float("nan") if kind is Kind.NAN else embedded[rows].flip(-1)
        return embedded

    def _break(self, *_: object) -> None:
        """Fail after most layers have written their keys and values."""
        for kind, _rows in self._rows:
            if kind is Kind.EXCEPTION:
                raise RuntimeError("planted: a kernel broke")
            if kind is Kind.ALLOCATION:
                torch.empty(1 << 50, dtype=torch.uint8)


class InProcess:
    """An engine in this process, and waves of requests to it."""

    def __init__(self, folder: Path, num_seats: int = NUM_SEATS) -> None:
        """Load the checkpoint, and find out what an undisturbed wave gives."""
        model = load(folder, dtype="float32")
        assert isinstance(model.graph, Decoder)
        assert model.tokenizer is not None
        settings = EngineSettings(kv_cache_bytes=16 << 20, block_size=BLOCK, max_num_seqs=num_seats)
        self.core = EngineCore(model.graph, (), settings, model_id="faults")
        vocabulary = TokenizerDefinition(model.tokenizer.definition, model.spec.vocab_size, ())
        self.engine = Engine(self.core, GrammarCache(vocabulary))
        self.saboteur = Saboteur(model.graph)
        self.num_seats = num_seats
        self.num_running: list[int] = []
        self._count = 0
        self.undisturbed = self.wave({})

    def wave(self, faults: Mapping[int, Fault], hidden: Mapping[int, Fault] | None = None) -> Wave:
        """Run a request at every seat to its end; `hidden` faults are planted too, and nobody is told."""
        self._count += 1
        self.saboteur.struck.clear()
        self.saboteur.planted = {seat + 1: fault for seat, fault in {**faults, **(hidden or {})}.items()}
        outcomes = {seat: Outcome() for seat in range(self.num_seats)}
        ended = threading.Semaphore(0)
        for seat, outcome in outcomes.items():
            request = self._request(seat, faults.get(seat))
            self.engine.submit(request, self._listener(request, faults.get(seat), outcome, ended))
        for _ in outcomes:
            assert ended.acquire(timeout=WAIT_S), "a request has not ended"
        while self.core.has_work:
            time.sleep(0.001)
        return outcomes

    def missed(self, faults: Mapping[int, Fault]) -> list[int]:
        """Seats of the last wave whose fault did not come to pass."""
        return [seat for seat in faults if seat + 1 not in self.saboteur.struck]

    @property
    def num_leaked(self) -> int:
        """Pages that are neither free nor kept as a known beginning, now that nothing runs."""
        now = self.core.snapshot
        leaked = now.num_blocks - now.num_free_blocks - now.num_cached_blocks
        if not leaked:
            self.core.check_integrity()
        return leaked

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()

    def _request(self, seat: int, fault: Fault | None) -> Request:
        has_grammar = fault is not None and fault.kind is Kind.GRAMMAR
        params = SamplingParams(
            answer_length(seat),
            temperature=0.0 if is_batched(seat) else 1.0,
            seed=seat,
            ignore_eos=True,
            # Its bits are what a reproducible neighbour is compared by.
            logprobs=None if is_batched(seat) else 0,
            constraint=BROKEN_CONSTRAINTS[seat % len(BROKEN_CONSTRAINTS)] if has_grammar else None,
        )
        if has_grammar:
            self.saboteur.struck.add(seat + 1)
        # Half of the targets share their passes with others, wherever they sit.
        is_alone = not is_batched(seat) if fault is None else fault.at % 2 == 0
        return Request(f"{self._count}-{seat}", prompt_of(seat), params, is_reproducible=is_alone)

    def _listener(
        self, request: Request, fault: Fault | None, outcome: Outcome, ended: threading.Semaphore
    ) -> Callable[[Event], None]:
        leaves_after = -1
        if fault is not None and fault.kind is Kind.LEAVES:
            leaves_after = max(1, fault.at - len(request.token_ids))

        def hear(event: Event) -> None:
            if isinstance(event, TokenEvent):
                assert is_batched(request.token_ids[0] - 1) or event.logprob is not None
                outcome.deltas.append((event.token_id, event.logprob if request.is_reproducible else None))
                if len(outcome.deltas) == leaves_after:
                    self.saboteur.struck.add(request.token_ids[0])
                    self.engine.cancel(request.request_id)
            elif isinstance(event, Finished | Failed | Cancelled | Refused):
                outcome.end = type(event).__name__.lower()
                if fault is not None:
                    self.num_running.append(self.core.snapshot.num_running)
                ended.release()

        return hear


def controls(run: InProcess) -> list[bool]:
    """Whether a nudged neighbour, a broken neighbour and a page that nobody gives back are seen."""
    told = {3: Fault(Kind.EXCEPTION, len(prompt_of(3)))}
    seen = []
    for kind in (Kind.NUDGE, Kind.EXCEPTION):
        hidden = {5: Fault(kind, len(prompt_of(5)) + 2)}
        seen.append(hurt(run.wave(told, hidden), told, run.undisturbed) == [5])
    pool = run.core.tree.pool
    taken = pool.allocate(1)
    assert taken is not None
    seen.append(run.num_leaked == 1)
    pool.release(taken)
    return seen
