"""Run a decoder's layers over pages as one program of kernel calls. Knows nothing of requests or sampling.

The structs of all calls are made once; a pass copies its tokens in, lowers its plan once for all layers that
are alike, and enters the library once. What the program does not know it refuses by name, and the graph runs
its modules instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.attend import NO_WEIGHTS
from cynosure.attention.backends.call import AttentionCall
from cynosure.attention.backends.choice import choose
from cynosure.attention.backends.native import NativeBackend
from cynosure.attention.backends.native_lowering import lowered_for
from cynosure.cache import PagedCache
from cynosure.kernels.linear import Way
from cynosure.kernels.program import Program, Step
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.forward_pass import places_of, plans_of
from cynosure.models.native.page_choosing import Choosing, Recall
from cynosure.models.native.program import LayerProgram, refusal_of_layers
from cynosure.models.native.watching import NativeObserver
from cynosure.models.native_linear import FLOAT_TYPES, NativeLinear, Prologue
from cynosure.models.norm import Norm
from cynosure.models.watching import LayerSeen, PassWatch

FIRST_CAPACITY = 64
MAX_KEPT_ROWS = 64  # of logits in a buffer that passes share


@dataclass(frozen=True)
class PartTime:
    """What the calls of one kind took together in a pass, in nanoseconds."""

    part: str
    num_calls: int
    nanoseconds: int


def part_times(parts: Sequence[str], nanoseconds: Sequence[int]) -> tuple[PartTime, ...]:
    """Sum up what each part took."""
    sums: dict[str, list[int]] = {}
    for part, taken in zip(parts, nanoseconds, strict=True):
        sums.setdefault(part, []).append(taken)
    return tuple(PartTime(part, len(taken), sum(taken)) for part, taken in sums.items())


def refusal_of_passes(graph: Decoder, cache: PagedCache) -> str:
    """Say why a decoder's layers are no program; empty where they are one."""
    if graph.dtype not in FLOAT_TYPES:
        return f"the model computes in {graph.dtype}"
    if not isinstance(graph.norm, Norm) or not isinstance(graph.head, NativeLinear):
        return "its head is not native"
    return refusal_of_layers(graph, cache)


@final
class NativePasses:
    """A decoder and the pages that it writes, run by one call a pass."""

    def __init__(self, graph: Decoder, cache: PagedCache, backend: str) -> None:
        """Hold both; `refusal_of_passes` was empty."""
        assert not refusal_of_passes(graph, cache)
        assert isinstance(graph.head, NativeLinear)
        self.is_timed = False
        self.times: tuple[PartTime, ...] = ()
        self.seen: Mapping[int, LayerSeen] = {}
        self.recalled: tuple[Recall | None, ...] = ()
        self._graph, self._cache, self._backend = graph, cache, backend
        self._layers = LayerProgram(graph, cache, FIRST_CAPACITY)
        self._norm = Prologue.of(graph.norm)
        self._head_call = graph.head.call(self._norm)
        self._head_call.x_type, self._head_call.x_stride = FLOAT_TYPES[graph.dtype], graph.spec.hidden_size
        self._head_call.out_type = FLOAT_TYPES[torch.float32]
        self._head_call.out_stride = graph.head.out_features
        self._head_has_one_way = graph.head.has_one_way
        self._head = Program([Step(self._head_call, graph.head.packed)])
        self._logits = torch.empty(0, graph.head.out_features)

    def run(
        self,
        batch: Batch,
        wanted: Int[Tensor, " rows"],
        way: Way = Way.AUTO,
        watch: PassWatch | None = None,
        choosing: Choosing | None = None,
    ) -> Float[Tensor, "rows vocab"] | None:
        """Return the logits of `wanted` rows in float32, valid until the next pass.

        `None`, and nothing is written, where attention over this plan is not the native backend's. What
        `watch` asks for is then `seen`, and what `choosing` tells is `recalled`.

        Raises:
            InputTooLong: a sequence's pages do not hold its new tokens.
        """
        num_tokens = batch.token_ids.shape[0]
        if num_tokens > self._layers.capacity:
            self._layers = LayerProgram(self._graph, self._cache, 1 << (num_tokens - 1).bit_length())
        layers, plan = self._layers, batch.plan
        lowered = []
        firsts = (0,) * plan.num_seqs
        places = places_of(self._cache, batch)
        plans = plans_of(plan, places)
        for alike in layers.attentions:
            call = AttentionCall(
                alike.spec, alike.q, alike.source, plans[alike.group], 0, NO_WEIGHTS, None, firsts
            )
            if choose(call, self._backend).name != NativeBackend.name:
                return None
            lowered.append((alike, lowered_for(call)))
        for alike, found in lowered:
            layers.take(alike, found.struct)
        slots = [one.slots for one in places]
        layers.begin(self._graph.embedded(batch), batch.positions, slots, way)
        if choosing is not None:
            choosing.begin(layers.pages)
        if watch is None:
            layers.program.run(is_timed=self.is_timed)
        else:
            observer = NativeObserver(watch, num_tokens, plan.num_seqs)
            observer.begin([alike.struct for alike in layers.attentions], layers.pages)
            layers.program.run(is_timed=self.is_timed)
            observer.end(layers.pages)
            self.seen = observer.seen
        self.recalled = () if choosing is None else choosing.end(layers.pages)
        logits = self._logits_of(layers.x, wanted, num_tokens, way)
        if self.is_timed:
            self.times = self._summed()
        return self._graph.bounded(logits)

    def _logits_of(
        self, hidden: Float[Tensor, "n hidden"], wanted: Int[Tensor, " rows"], num_tokens: int, way: Way
    ) -> Float[Tensor, "rows vocab"]:
        num_rows = wanted.shape[0]
        out = self._room(num_rows)
        # Where each token's row is wanted, as in decoding, they lie as the head reads them.
        rows = hidden if num_rows == num_tokens else hidden[wanted]
        call = self._head_call
        call.num_rows, call.x, call.out = num_rows, rows.data_ptr(), out.data_ptr()
        call.way = Way.AUTO if self._head_has_one_way else way
        self._head.run(is_timed=self.is_timed)
        return out

    def _room(self, num_rows: int) -> Float[Tensor, "rows vocab"]:
        if num_rows > MAX_KEPT_ROWS:
            return torch.empty(num_rows, self._logits.shape[1])
        if num_rows > self._logits.shape[0]:
            self._logits = torch.empty(num_rows, self._logits.shape[1])
        return self._logits[:num_rows]

    def _summed(self) -> tuple[PartTime, ...]:
        taken = (*self._layers.program.nanoseconds, *self._head.nanoseconds)
        return part_times((*self._layers.parts, "head"), taken)
