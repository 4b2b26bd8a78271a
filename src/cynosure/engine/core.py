"""Advance all requests by one step at a time. Knows nothing of threads, clocks, text or HTTP.

A step asks the scheduler what to run, runs it in one pass, samples, and tells. What a request breaks, it
breaks for itself: a pass that raises is run again one sequence at a time, and only those that raise alone
have failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Items
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from cynosure.cache import CacheKey, SequencePages, check_books
from cynosure.core.errors import CynosureError, EngineFault, InputError
from cynosure.engine.adapters import FindAdapter, no_adapters, passes_of, with_adapter
from cynosure.engine.cache_memory import limits_of, open_pages
from cynosure.engine.check import (
    check_page_selection,
    check_request,
    check_session,
    check_speculation,
    check_stateful,
    check_watch,
)
from cynosure.engine.fairness import TokenCounter
from cynosure.engine.grammar.matching import Matcher
from cynosure.engine.image_steps import with_images_read
from cynosure.engine.image_store import ImageStore
from cynosure.engine.largest import stacked
from cynosure.engine.pace import Pace
from cynosure.engine.page_key import page_key
from cynosure.engine.prompt_scores import num_reusable, prompt_scores
from cynosure.engine.report import OFF, PROMPT_LOGPROBS, REPRODUCIBLE
from cynosure.engine.request import (
    Cancelled,
    Failed,
    Finished,
    FinishReason,
    Refused,
    Request,
    TokenEvent,
)
from cynosure.engine.run_ahead import run_ahead, tokens_ahead
from cynosure.engine.runner import Runner
from cynosure.engine.sampler import Row, SampledToken, SampleError, sample
from cynosure.engine.schedule import Schedule, SequenceView, Step
from cynosure.engine.scheduler import schedule
from cynosure.engine.sequence import Notify, Sequence
from cynosure.engine.session_pages import Disk, SessionPages
from cynosure.engine.settings import EngineSettings
from cynosure.engine.snapshot import Snapshot, load_of
from cynosure.engine.speculation import Drafter
from cynosure.engine.task import Task, as_fault
from cynosure.engine.watch import Watchable
from cynosure.models.decoder import Decoder
from cynosure.models.image_reader import ImageReader
from cynosure.models.native.graph import use_kernels
from cynosure.observe.load import EngineLoad

#: A step of more tokens is bound by arithmetic, where a guess is not nearly free.
MAX_DRAFTED_STEP = 64


class EngineCore:
    """A decoder, its pages, and the requests that it works on; `adapters` finds theirs. For one thread."""

    def __init__(
        self,
        graph: Decoder | ImageReader,
        eos_token_ids: Items[int],
        settings: EngineSettings,
        *,
        model_id: str,
        backend: str = "auto",
        disk: Disk | None = None,
    ) -> None:
        """Reserve the pages; the graph's linear layers become native ones where `settings.kernels` allows.

        `disk` is where sessions are kept that ask for it.

        Raises:
            InputError: the memory does not hold one page, or the kernels that are asked for are not here.
        """
        reader = graph if isinstance(graph, ImageReader) else None
        graph = graph if isinstance(graph, Decoder) else graph.text
        self.native = use_kernels(reader or graph, graph.dtype, settings.kernels)
        self.settings = settings
        #: What images become, where the model reads them.
        self.images = None if reader is None else ImageStore(reader, settings, backend)
        self.cache, self.tree = open_pages(graph, settings, model_id)
        # A state can't be cut back to before a guess that was wrong.
        self._num_guessed = settings.num_speculative_tokens if self.cache.states is None else 0
        self.sessions = SessionPages(self.tree, self.cache, disk)
        self._runner = Runner(graph, self.cache, backend, has_page_bounds=settings.has_page_bounds)
        self.adapters: FindAdapter = no_adapters
        self._eos = frozenset(eos_token_ids)
        self._model_id = model_id
        self._waiting: dict[str, Sequence] = {}
        self._running: dict[str, Sequence] = {}
        self._served = TokenCounter()
        self._pace = Pace()
        self._num_drafted = self._num_accepted = 0

    @property
    def snapshot(self) -> Snapshot:
        """How busy the engine is now."""
        pool = self.tree.pool
        return Snapshot(len(self._waiting), len(self._running), pool.num_free, pool.num_idle, pool.num_blocks)

    @property
    def load(self) -> EngineLoad:
        """The same in an operator's terms."""
        return load_of(self.snapshot, self.tree, self._num_drafted, self._num_accepted)

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._waiting or self._running)

    def check(self, request: Request) -> None:
        """Raise what is wrong with a request for this model; looks at no state of the engine.

        Raises:
            InputError: a token id is not in the vocabulary; a beam search is asked for, or a session that
                can't be kept.
            InputTooLong: prompt and answer would pass the longest sequence that the model takes.
        """
        spec = self._runner.graph.spec
        image_token_id = None if self.images is None else self.images.image_token_id
        check_request(request, spec.vocab_size, spec.max_model_len, image_token_id)
        if self.images is not None:
            self.images.check(request)
        if self.cache.states is not None:
            check_stateful(request)
        check_watch(request, Watchable(spec.num_heads, spec.full_layers))
        check_speculation(request.speculation, self._num_guessed)
        check_page_selection(request, self._runner.choice_refusal)
        with_adapter(request, self.adapters)
        if request.session is not None:
            check_session(request.session, self.settings.has_prefix_cache, self.sessions.disk is not None)

    def add(self, request: Request, notify: Notify, matcher: Matcher | None = None) -> None:
        """Take a checked request, with the matcher of its constraint; all events now go to `notify`."""
        try:
            if request.request_id in self._waiting or request.request_id in self._running:
                raise InputError(f"request id {request.request_id!r} is in use. Choose another.")
            request, adapter = with_adapter(request, self.adapters)
        except CynosureError as error:
            notify(Failed(request.request_id, error))
            return
        pages = SequencePages(self.tree, self._key_of(request), self.cache.copy_block)
        if not self.has_work:
            self._pace.rest()
        is_alone = request.is_reproducible or request.page_selection is not None
        is_guessed = self._num_guessed and request.speculation is not False and not is_alone
        drafter = Drafter(self._num_guessed) if is_guessed else None
        key = self._key_of(replace(request, bias=()))
        images = None if self.images is None else self.images.place(request, key)
        sequence = Sequence(request, notify, pages, matcher, drafter, images)
        sequence.adapter = adapter
        self._served.arrive(sequence.account)
        self._waiting[request.request_id] = sequence

    def cancel(self, request_id: str) -> None:
        """Forget a request; one that has ended already is none of our business."""
        sequence = self._pop(request_id)
        if sequence is not None:
            self._end(sequence, Cancelled(request_id, sequence.usage))

    def fail_all(self, error: CynosureError) -> None:
        """End everything that is under way."""
        for request_id in [*self._running, *self._waiting]:
            self._fail(request_id, error)

    def step(self, now: float) -> None:
        """Advance by one step; `now` is on the requests' clock, in seconds."""
        decision = self._schedule(now)
        for request_id in decision.preempt:
            sequence = self._running.pop(request_id)
            sequence.release()
            sequence.notes.num_preemptions += 1
            self._waiting[request_id] = sequence
        for refusal in decision.refuse:
            sequence = self._waiting[refusal.request_id]
            self._pop(refusal.request_id)
            sequence.end(
                Refused(refusal.request_id, refusal.reason, refusal.message, refusal.predicted_wait_s)
            )
        tasks = [task for step in decision.steps if (task := self._prepare(step)) is not None]
        if self.images is not None:
            tasks = with_images_read(self.images, tasks, self._fail)
        num_prefilled = sum(task.num_tokens for task in tasks if not task.is_decode)
        self._pace.begin(time.perf_counter())
        together = [task for task in tasks if not task.sequence.request.is_reproducible]
        drafted, limit = self._drafted(together), 0 if self._queue else self.settings.max_tokens_ahead
        num_ahead = tokens_ahead(drafted, limit, self._pace.rates.step_s)
        for one_pass in passes_of(drafted):
            self._run(one_pass, num_ahead)
        for task in tasks:
            if task.sequence.request.is_reproducible:
                self._run_in_pieces(task)
        for sequence in [sequence for sequence in self._running.values() if sequence.is_abandoned]:
            self.cancel(sequence.request.request_id)
        ended = time.perf_counter()
        self._pace.end(ended, num_prefilled, 1 + num_ahead, was_work=bool(tasks), is_more=self.has_work)

    def check_integrity(self) -> None:
        """Assert that every page is accounted for."""
        sequences = [*self._waiting.values(), *self._running.values()]
        check_books(self.tree, [sequence.pages for sequence in sequences])
        if self.images is not None:
            self.images.check_integrity([one.images for one in sequences if one.images is not None])

    def _schedule(self, now: float) -> Schedule:
        if self.sessions.num_sessions:
            self.sessions.give_way(self._num_wanted, len(self._running))
        return schedule(
            [self._view(sequence) for sequence in self._waiting.values()],
            [self._view(sequence) for sequence in self._running.values()],
            limits_of(self.settings, self.tree.pool),
            now,
            self._pace.rates,
        )

    @property
    def _num_wanted(self) -> int:
        """Pages that the largest that waits may need."""
        longest = max((len(sequence.token_ids) + 1 for sequence in self._queue), default=0)
        return -(-longest // self.settings.block_size)

    @property
    def _queue(self) -> list[Sequence]:
        """Who waits and is waited for by somebody."""
        return [sequence for sequence in self._waiting.values() if not sequence.request.is_background]

    def _view(self, sequence: Sequence) -> SequenceView:
        num_shared = sum(map(self.tree.pool.is_shared, sequence.pages.blocks))
        return sequence.view(self._served.served(sequence.account), num_shared)

    def _prepare(self, step: Step) -> Task | None:
        """Admit where it waits, and have pages; `None` where the sequence must wait after all."""
        sequence = self._running.get(step.request_id) or self._waiting[step.request_id]
        is_new = step.request_id in self._waiting
        if is_new:
            self._reuse(sequence)
            if sequence.images is not None and not sequence.images.begin(sequence.num_computed):
                sequence.release()
                return None
        num_pending = len(sequence.token_ids) - sequence.num_computed
        # A prompt gets its pages whole, and one for its first token, so that it can't get stuck halfway.
        if not sequence.pages.reserve(num_pending + (num_pending > 1)):
            if is_new:
                sequence.release()
            return None
        if is_new:
            del self._waiting[step.request_id]
            self._running[step.request_id] = sequence
            sequence.was_admitted = True
            sequence.notes.admitted()
        return Task(sequence, sequence.piece(min(step.num_tokens, num_pending)))

    def _reuse(self, sequence: Sequence) -> None:
        """Begin with the pages that are kept of its prompt, and note why there are no more."""
        request, match, why_not = sequence.request, None, PROMPT_LOGPROBS
        num_tokens = num_reusable(request, len(sequence.token_ids))
        if num_tokens > 1:
            key = self._key_of(request)
            if key is not None:
                self.sessions.restore(key, sequence.page_ids[:num_tokens])
            match = sequence.pages.reuse(sequence.page_ids[:num_tokens])
            if self.sessions.disk is not None:
                self._runner.forget_bounds(sequence.pages.blocks)
            why_not = REPRODUCIBLE if request.is_reproducible else OFF
        if not sequence.was_admitted:
            sequence.num_cached = sequence.num_computed
        num_tokens = min(num_tokens, sequence.num_prompt_tokens)
        sequence.notes.sought(match, why_not, num_tokens, self.settings.block_size)

    def _key_of(self, request: Request) -> CacheKey | None:
        dtype = f"{self._runner.graph.dtype} in {self.cache.dtype}"
        return page_key(request, self._model_id, dtype, is_shared=self.settings.has_prefix_cache)

    def _run(self, tasks: Items[Task], num_ahead: int = 0) -> None:
        """Run tasks in one pass, and so many tokens ahead; where it raises, each alone."""
        if not tasks:
            return
        try:
            for task in tasks:
                task.sequence.pages.hold(task.num_tokens + len(task.draft) + num_ahead)
            tasks, rows = run_ahead(self._runner, tasks, num_ahead)
        except Exception as error:
            if len(tasks) > 1:
                for task in tasks:
                    self._run([task])
            else:
                self._fail(tasks[0].sequence.request.request_id, as_fault(error))
            return
        ready: list[tuple[Task, Float[Tensor, "rows vocab"]]] = []
        read: list[tuple[Sequence, Float[Tensor, " vocab"]]] = []
        told = zip(tasks, rows, self._runner.attended, self._runner.recalled, strict=True)
        for task, row, attended, recall in told:
            sequence = task.sequence
            sequence.attended, sequence.likeliest = iter(attended), iter(task.likeliest)
            sequence.notes.chose_pages(task.chosen, recall)
            self._served.serve(sequence.account, task.num_tokens)
            sequence.notes.computed(task.num_tokens, is_decode=task.is_decode)
            if (scores := prompt_scores(task, row)) is not None:
                sequence.num_scored = scores.start + len(scores.tokens)
                sequence.tell(scores)
            if task.is_last and sequence.request.params.max_tokens == 0:
                read.append((sequence, row[-1]))
            elif task.is_last:
                num_before = row.shape[0] - 1 - len(task.draft)
                ready.append((task, row[num_before:] if num_before else row))
            sequence.pages.count(sequence.num_computed + task.num_tokens)
            if sequence.images is not None:
                sequence.images.passed(sequence.num_computed)
        for sequence, scores in read:
            if not scores.isfinite().all():
                self._fail(sequence.request.request_id, EngineFault("the prompt has no finite scores."))
                continue
            if not sequence.request.is_background:
                sequence.pages.fill(sequence.page_ids)
            self._pop(sequence.request.request_id)
            self._end(sequence, Finished(sequence.request.request_id, FinishReason.LENGTH, sequence.usage))
        self._decide(ready)

    def _drafted(self, tasks: Items[Task]) -> list[Task]:
        """Have decodes guess ahead, as far as pages, the step's budget and its arithmetic leave room."""
        used = sum(task.num_tokens for task in tasks)
        room = min(self.settings.max_num_batched_tokens, MAX_DRAFTED_STEP) - used
        drafted = []
        for task in tasks:
            draft = task.sequence.draft(room) if task.is_decode and room > 0 else ()
            # Nobody else may lack a page for a guess: all of this step have theirs.
            if draft and task.sequence.pages.reserve(1 + len(draft)):
                self._num_drafted += len(draft)
                task.sequence.notes.drafted(len(draft))
                room -= len(draft)
                drafted.append(replace(task, draft=draft))
            else:
                drafted.append(task)
        return drafted

    def _decide(self, ready: Items[tuple[Task, Float[Tensor, "rows vocab"]]]) -> None:
        """Choose each next token; where it is the one that was guessed, choose again from the row behind it.

        So each token is chosen as if it had been computed alone: by its own row, dice, penalties, constraint.
        """
        depth, going = 0, list(ready)
        while going:
            self._choose([task.sequence for task, _ in going], stacked([rows[depth] for _, rows in going]))
            right = [(task, rows) for task, rows in going if self._was_right(task, depth)]
            for task, _ in right:
                task.sequence.pages.count(len(task.sequence.token_ids))
                self._served.serve(task.sequence.account, 1)
            depth, going = depth + 1, right

    def _was_right(self, task: Task, depth: int) -> bool:
        """Whether the token that was just chosen is the guessed one, and the answer goes on."""
        sequence = task.sequence
        if sequence.request.request_id not in self._running:
            return False
        is_right = depth < len(task.draft) and sequence.token_ids[-1] == task.draft[depth]
        if is_right and not task.is_own:
            self._num_accepted += 1
            sequence.notes.accepted()
        elif task.draft and not task.is_own:
            sequence.learn(len(task.draft), depth)
        return is_right

    def _run_in_pieces(self, task: Task) -> None:
        """Run a reproducible request alone, cut by its own length: pages, then single tokens."""
        sequence, budget = task.sequence, task.num_tokens
        while sequence.request.request_id in self._running:
            piece = sequence.piece_alone(self.settings.block_size)
            if piece > budget:
                return
            budget -= piece
            self._run([Task(sequence, piece)])

    def _choose(self, sequences: Items[Sequence], logits: Float[Tensor, "n vocab"]) -> None:
        """Give each sequence its next token, and end those that it completes."""
        rows: dict[int, Row] = {}
        for place, sequence in enumerate(sequences):
            try:
                rows[place] = sequence.sampler_row(self._eos, logits.shape[1])
            except CynosureError as error:
                self._fail(sequence.request.request_id, error)
        # Whoever has failed has no row; else nothing need be copied.
        usable = logits if len(rows) == len(sequences) else logits[list(rows)]
        for place, chosen in zip(rows, sample(usable, list(rows.values())), strict=True):
            sequence = sequences[place]
            if isinstance(chosen, SampleError):
                self._fail(sequence.request.request_id, chosen.error)
            else:
                self._accept(sequence, chosen)

    def _accept(self, sequence: Sequence, chosen: SampledToken) -> None:
        request_id = sequence.request.request_id
        # Others may read the pages from now on: whatever broke in them would have reached the scores.
        if sequence.pages.has_full_page and sequence.num_shareable == sequence.num_computed:
            sequence.pages.fill(sequence.page_ids[: sequence.num_computed])
        try:
            reason = sequence.accept(chosen.token_id, self._eos)
        except CynosureError as error:
            self._fail(request_id, error)
            return
        top, num_cached, attended = chosen.top_logprobs, sequence.num_cached, next(sequence.attended, None)
        sequence.tell(TokenEvent(request_id, chosen.token_id, chosen.logprob, top, num_cached, attended))
        if reason is None:
            return
        self._pop(request_id)
        if reason is not FinishReason.LENGTH:
            self._pace.note_answer(len(sequence.generated))
        self._end(sequence, Finished(request_id, reason, sequence.usage))

    def _end(self, sequence: Sequence, event: Finished | Cancelled) -> None:
        """Keep the pages of a session, and give up those of the request; one that broke keeps none."""
        session, key = sequence.request.session, self._key_of(sequence.request)
        if session is not None and key is not None and sequence.num_computed:
            self.sessions.keep(key, session, sequence.page_ids[: sequence.num_shareable])
        sequence.end(event)

    def _fail(self, request_id: str, error: CynosureError) -> None:
        sequence = self._pop(request_id)
        if sequence is not None:
            sequence.end(Failed(request_id, error))

    def _pop(self, request_id: str) -> Sequence | None:
        sequence = self._running.pop(request_id, None) or self._waiting.pop(request_id, None)
        if sequence is not None:
            self._served.depart(sequence.account)
        return sequence
