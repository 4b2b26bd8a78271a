"""Run scheduled tokens through a decoder over pages. Knows nothing of requests, policy or sampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cynosure.attention.backends.choice import AUTO
from cynosure.attention.backends.native import NativeBackend
from cynosure.cache import PagedCache, StatePath
from cynosure.engine.largest import Likeliest, largest
from cynosure.engine.watch import AttendedTo, BiasRun
from cynosure.engine.watched_pass import Watched, attended_in, pass_watch, with_bias
from cynosure.kernels.linear import Way
from cynosure.models.adapters.adapter import Adapter
from cynosure.models.adapters.applying import Adapting
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.image_prompt import PlacedRows, with_images
from cynosure.models.native.decode_step import DecodeSteps, refusal_of_steps
from cynosure.models.native.graph import fix_way
from cynosure.models.native.page_choosing import (
    Choosing,
    ChosenPages,
    PageChooser,
    Recall,
    refusal_of_choosing,
)
from cynosure.models.native.passes import NativePasses, PartTime, refusal_of_passes
from cynosure.models.watching import LayerSeen, Observer, PassWatch

REPRODUCIBLE_WAY = Way.TILES
"""Bits of a row differ between the ways of computing, not within one."""


@dataclass(frozen=True)
class Work:
    """New tokens of one sequence: `token_ids` follow `past_len` others, in these pages.

    `num_logits` rows are wanted, those of the last tokens. Where it `is_reproducible`, products are computed
    in one way, however many rows stand in the pass. `bias` is added to the scores of its keys. One token may
    have the pages `chosen` that it attends to. What is `placed` stands for images among the tokens.
    An `adapter` changes the projections of these rows; a pass with any is run by modules.
    `states` says where the state goes, where layers have one.
    """

    token_ids: tuple[int, ...]
    past_len: int
    blocks: tuple[int, ...]
    num_logits: int
    is_reproducible: bool = False
    watched: Watched | None = None
    bias: tuple[BiasRun, ...] = ()
    chosen: ChosenPages | None = None
    placed: PlacedRows | None = None
    adapter: Adapter | None = None
    states: StatePath | None = None

    @property
    def is_step(self) -> bool:
        """Whether this is one token whose logits are all that is wanted."""
        is_plain = not self.bias and self.placed is None and self.adapter is None
        return len(self.token_ids) == self.num_logits == 1 and is_plain


class Runner:
    """A decoder and the pages that it writes.

    `refusal` says why passes are not one program of kernel calls, `step_refusal` why steps in which every
    sequence gets one token are prepared like any pass; empty where they are. `choice_refusal` says why no
    work may have pages chosen; `recalled` is what those of the last pass have of the attention, where it
    was checked.
    """

    def __init__(
        self, graph: Decoder, cache: PagedCache, backend: str = "auto", *, has_page_bounds: bool = False
    ) -> None:
        """Hold both, and bounds of the pages where they are asked for and of use."""
        self.graph = graph
        self.cache = cache
        self.backend = backend
        self.refusal = refusal_of_passes(graph, cache)
        self._seen: list[_Seen] = []
        self._passes = None if self.refusal else NativePasses(graph, cache, backend)
        self.step_refusal = self.refusal or refusal_of_steps(graph, cache, backend)
        self._steps = None if self.step_refusal else DecodeSteps(graph, cache)
        self._was_step = False
        self.choice_refusal = _choice_refusal(self, has_page_bounds)
        self.recalled: Sequence[Recall | None] = ()
        self._chooser = None if self.choice_refusal else PageChooser(graph, cache)
        self._adapting = Adapting(graph)

    @torch.inference_mode()
    def run(self, work: Sequence[Work]) -> list[Float[Tensor, "rows vocab"]]:
        """Compute all work in one pass; return the wanted rows of each, in float32, until the next pass."""
        self._forget_written(work)
        self.recalled = [None] * len(work)
        way = REPRODUCIBLE_WAY if any(item.is_reproducible for item in work) else Way.AUTO
        watched = [item.watched for item in work]
        num_new, num_past = [len(item.token_ids) for item in work], [item.past_len for item in work]
        watch = pass_watch(watched, num_new, num_past)
        choosing = self._choosing(work)
        decoded = self._decoded(work, way, watch, choosing)
        if decoded is not None:
            assert self._steps is not None
            self.recalled = self._steps.recalled or self.recalled
            self._seen = [_Seen(watched, watch, self._steps.seen)]
            return list(decoded.split(1))
        batch = Batch.pack(
            [item.token_ids for item in work],
            past_lens=[item.past_len for item in work],
            block_tables=[item.blocks for item in work],
        )
        batch = with_images(with_bias(batch, [item.bias for item in work]), [item.placed for item in work])
        batch = replace(batch, states=tuple(item.states for item in work if item.states is not None) or None)
        stops = accumulate(len(item.token_ids) for item in work)
        rows = [
            row for stop, item in zip(stops, work, strict=True) for row in range(stop - item.num_logits, stop)
        ]
        # No row is wanted while prompts are halfway.
        wanted = torch.tensor(rows, dtype=torch.int64)
        adapters = [item.adapter for item in work]
        passes = None if any(adapters) else self._passes
        logits = None if passes is None else passes.run(batch, wanted, way, watch, choosing)
        seen = {} if passes is None else passes.seen
        if passes is not None and choosing is not None:
            assert logits is not None, "pages are chosen where passes are one program"
            self.recalled = passes.recalled
        if logits is None:
            with self._adapting.rows(adapters, batch.new_lens):
                logits, seen = self._by_modules(batch, wanted, way, watch)
        self._seen = [_Seen(watched, watch, seen)]
        return list(logits.split([item.num_logits for item in work]))

    @torch.inference_mode()
    def run_on(
        self,
        work: Sequence[Work],
        rows: Sequence[Float[Tensor, "rows vocab"]],
        ahead: Sequence[Sequence[Watched | None]],
    ) -> tuple[Sequence[Float[Tensor, "rows vocab"]], Sequence[tuple[Likeliest, ...]]]:
        """Behind a pass of plain steps, compute the likeliest tokens of its `rows` too, again and again.

        `ahead` has for each time what is watched of each sequence. Return the rows with the new ones behind
        them, and of each sequence the likeliest tokens that these follow: none where the last pass was no
        step, or what it gave is bent afterwards.
        """
        steps, spec, guessed = self._steps, self.graph.spec, list[Sequence[Likeliest]]()
        if (
            steps is None
            or not self._was_step
            or spec.logit_softcap is not None
            or spec.logit_multiplier != 1.0
        ):
            return rows, [()] * len(work)
        logits, blocks = steps.rounds(1)[0, : len(work)], [item.blocks for item in work]
        # The next pass writes over what this one saw.
        self._seen = [one._replace(seen=steps.seen_apart()) for one in self._seen]
        for number, watched in enumerate(ahead, start=1):
            token_ids, highest = largest(logits)
            steps.number = number
            past_lens = [item.past_len + number for item in work]
            watch = pass_watch(watched, [1] * len(work), past_lens)
            found = steps.run(token_ids, past_lens, blocks, watch=watch)
            if found is None:
                break
            guessed.append(list(map(Likeliest, token_ids, highest)))
            logits = found
            self._seen.append(_Seen(watched, watch, {} if watch is None else steps.seen_apart()))
        together = steps.rounds(1 + len(guessed))
        drafts = list(zip(*guessed, strict=True)) or [()] * len(work)
        return [together[:, row] for row in range(len(work))], drafts

    @property
    def attended(self) -> Sequence[tuple[AttendedTo | None, ...]]:
        """What the watched tokens of the last pass and those behind it attended to, by sequence and depth.

        It is computed when it is asked for: of several passes it costs little more than of one.
        """
        first, *later = [_attended(*one) for one in self._seen]
        if not later or not any(one.watch for one in self._seen):
            return first
        together = zip(*([one or (None,) for one in attended] for attended in (first, *later)), strict=True)
        return [tuple(one for told in depths for one in told) for depths in together]

    def time_passes(self) -> None:
        """From now on, measure what the parts of each pass take."""
        if self._passes is not None:
            self._passes.is_timed = True

    @property
    def times(self) -> tuple[PartTime, ...]:
        """What the parts of the last pass took, where passes are one program and timed."""
        if self._passes is None or not self._passes.is_timed:
            return ()
        return self._steps.times if self._steps is not None and self._was_step else self._passes.times

    def forget_bounds(self, blocks: Iterable[int]) -> None:
        """Know no bounds of pages that were filled by other means than a pass."""
        if self._chooser is not None:
            self._chooser.forget(blocks)

    def _forget_written(self, work: Sequence[Work]) -> None:
        for item in work if self._chooser is not None else ():
            size = self.cache.block_size
            stop = -(-(item.past_len + len(item.token_ids)) // size)
            self.forget_bounds(item.blocks[item.past_len // size : stop])

    def _choosing(self, work: Sequence[Work]) -> Choosing | None:
        chosen = [item.chosen for item in work]
        if not any(chosen):
            return None
        assert self._chooser is not None, self.choice_refusal
        num_tokens = [item.past_len + len(item.token_ids) for item in work]
        return self._chooser.choose(chosen, num_tokens, [item.blocks for item in work])

    def _decoded(
        self, work: Sequence[Work], way: Way, watch: PassWatch | None, choosing: Choosing | None
    ) -> Float[Tensor, "rows vocab"] | None:
        """Logits of work that is one token a sequence; `None` where it is more, or biased."""
        self._was_step = False
        if self._steps is None or self._passes is None or not all(item.is_step for item in work):
            return None
        if len(work) > self._steps.capacity:
            self._steps = DecodeSteps(self.graph, self.cache, 1 << (len(work) - 1).bit_length())
        self._steps.number = 0
        logits = self._steps.run(
            [item.token_ids[0] for item in work],
            [item.past_len for item in work],
            [item.blocks for item in work],
            way,
            is_timed=self._passes.is_timed,
            watch=watch,
            choosing=choosing,
        )
        self._was_step = logits is not None
        return logits

    def _by_modules(
        self, batch: Batch, wanted: Int[Tensor, " rows"], way: Way, watch: PassWatch | None
    ) -> tuple[Float[Tensor, "rows vocab"], Mapping[int, LayerSeen]]:
        observer = None if watch is None else Observer(watch)
        if way is not Way.AUTO:
            fix_way(self.graph, way)
        states = self.cache.states
        if states is not None:
            # A pass that broke has written its keys, which another pass writes again; of its states, nothing.
            states.discard()
        try:
            hidden = self.graph(batch, self.cache, backend=self.backend, observer=observer).hidden
            logits = self.graph.logits(hidden[wanted]).float()
        finally:
            if way is not Way.AUTO:
                fix_way(self.graph, Way.AUTO)
        if states is not None:
            states.commit()
        return logits, {} if observer is None else observer.seen


class _Seen(NamedTuple):
    """What was watched in a pass, and what was seen there."""

    watched: Sequence[Watched | None]
    watch: PassWatch | None
    seen: Mapping[int, LayerSeen]


def _attended(
    watched: Sequence[Watched | None], watch: PassWatch | None, seen: Mapping[int, LayerSeen]
) -> Sequence[tuple[AttendedTo | None, ...]]:
    return [()] * len(watched) if watch is None else attended_in(watched, watch, seen)


def _choice_refusal(runner: Runner, has_page_bounds: bool) -> str:
    if not has_page_bounds:
        return "this engine keeps no bounds of pages"
    if runner.refusal:
        return f"passes are no program of kernel calls: {runner.refusal}"
    if runner.backend not in (AUTO, NativeBackend.name):
        return f"attention runs on {runner.backend}"
    return refusal_of_choosing(runner.graph)
