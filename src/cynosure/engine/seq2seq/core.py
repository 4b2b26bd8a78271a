"""Advance all requests of an encoder-decoder by one step at a time. Knows nothing of threads, clocks or text.

A step lets requests in, encodes their inputs in one pass, and gives every answer that runs its next token in
another. Inputs that are the same, of one tenant, are encoded once. What a request breaks, it breaks for
itself: a pass that raises is run again one request at a time, and only those that raise alone have failed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Items

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import CacheKey, PagedCache, PagePool, PrefixTree, SequencePages, blocks_for, cache_dtype
from cynosure.core.errors import CynosureError, EngineFault, InputError
from cynosure.engine.answer_rules import AnswerRules
from cynosure.engine.check import check_seq2seq_request
from cynosure.engine.encoder_outputs import EncoderOutput, EncoderOutputs, key_of_input
from cynosure.engine.fairness import TokenCounter
from cynosure.engine.features import FeatureShape
from cynosure.engine.grammar.matching import Matcher
from cynosure.engine.pace import Pace
from cynosure.engine.request import (
    Cancelled,
    Failed,
    Finished,
    FinishReason,
    Refused,
    Request,
    TerminalEvent,
    TokenEvent,
)
from cynosure.engine.sampler import Row, SampleError, sample
from cynosure.engine.seq2seq.answer import Answer, Notify
from cynosure.engine.seq2seq.runner import InputWork, Seq2SeqRunner
from cynosure.engine.seq2seq.schedule import Admission, Candidate, Room, admit
from cynosure.engine.settings import EngineSettings
from cynosure.engine.snapshot import Snapshot
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.native.graph import use_kernels
from cynosure.observe.load import EngineLoad

_OUTPUT_FOUND, _OUTPUT_ABSENT = "encoder_output_found", "encoder_output_absent"


class Seq2SeqCore:
    """An encoder-decoder, its pages, and the requests that it works on. For one thread."""

    def __init__(
        self,
        graph: EncoderDecoder,
        eos_token_ids: Items[int],
        settings: EngineSettings,
        *,
        rules: AnswerRules,
        model_id: str,
        backend: str = "auto",
    ) -> None:
        """Reserve the pages; the graph's linear layers become native ones where `settings.kernels` allows.

        Raises:
            InputError: the memory does not hold a page for an input and one for an answer.
            UnknownOption: native kernels were asked for by name, and can't serve this graph.
        """
        self.native = use_kernels(graph, graph.dtype, settings.kernels)
        dtype = cache_dtype(settings.kv_cache_dtype, graph.dtype)
        num_blocks = blocks_for(settings.kv_cache_bytes, graph.cache_shapes, dtype, settings.block_size)
        if num_blocks < 2:
            raise InputError(
                f"kv_cache_bytes is {settings.kv_cache_bytes}, which does not hold two pages of "
                f"{settings.block_size} tokens of {model_id}. Raise it."
            )
        self.settings = settings
        self.cache = PagedCache(graph.cache_shapes, num_blocks, dtype, settings.block_size)
        self._tree = PrefixTree(PagePool(num_blocks), settings.block_size)
        self.outputs = EncoderOutputs(self._tree.pool, settings.block_size)
        self._runner = Seq2SeqRunner(graph, self.cache, backend)
        self._eos = frozenset(eos_token_ids)
        self._rules = rules
        self._model_id = model_id
        self._waiting: dict[str, Answer] = {}
        self._running: dict[str, Answer] = {}
        self._served = TokenCounter()
        self._pace = Pace()

    @property
    def snapshot(self) -> Snapshot:
        """How busy the engine is now."""
        pool = self._tree.pool
        num_idle = self.outputs.num_idle_blocks
        return Snapshot(len(self._waiting), len(self._running), pool.num_free, num_idle, pool.num_blocks)

    @property
    def load(self) -> EngineLoad:
        """The same in an operator's terms."""
        now = self.snapshot
        return EngineLoad(
            num_running=now.num_running,
            num_waiting=now.num_waiting,
            kv_cache_usage=1 - (now.num_free_blocks + now.num_cached_blocks) / now.num_blocks,
            num_prefix_queries=self.outputs.num_sought,
            num_prefix_hits=self.outputs.num_found,
        )

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self._waiting or self._running)

    def check(self, request: Request) -> None:
        """Raise what is wrong with a request for this model; see `check_seq2seq_request`."""
        spec, read = self._runner.graph.spec, self._runner.graph.spec.features
        check_seq2seq_request(
            request,
            spec.vocab_size,
            spec.max_model_len,
            max_input_len=spec.max_input_len,
            features=None if read is None else FeatureShape(read.num_bins, read.num_frames),
        )

    def add(self, request: Request, notify: Notify, matcher: Matcher | None = None) -> None:
        """Take a checked request, with the matcher of its constraint; all events now go to `notify`."""
        if request.request_id in self._waiting or request.request_id in self._running:
            error = InputError(f"request id {request.request_id!r} is in use. Choose another.")
            notify(Failed(request.request_id, error))
            return
        if not self.has_work:
            self._pace.rest()
        self._served.arrive(request.tenant)
        self._waiting[request.request_id] = Answer(
            request,
            notify,
            self._key_of(request),
            rules=self._rules,
            num_input=self._num_input(request),
            new_pages=lambda: SequencePages(self._tree, None, self.cache.copy_block),
            matcher=matcher,
        )

    def cancel(self, request_id: str) -> None:
        """Forget a request; one that has ended already is none of our business."""
        answer = self._waiting.get(request_id) or self._running.get(request_id)
        if answer is not None:
            self._end(answer, Cancelled(request_id, answer.usage))

    def fail_all(self, error: CynosureError) -> None:
        """End everything that is under way."""
        for answer in [*self._running.values(), *self._waiting.values()]:
            self._fail(answer, error)

    def step(self, now: float) -> None:
        """Advance by one step; `now` is on the requests' clock, in seconds."""
        self._pace.begin(time.perf_counter())
        for request_id in self._admit(now).admitted:
            self._begin(self._waiting[request_id])
        num_encoded = self._encode_new()
        answers = list(self._running.values())
        self._decode([answer for answer in answers if not answer.request.is_reproducible])
        for answer in answers:
            if answer.request.is_reproducible:
                self._decode([answer])
        for answer in list(self._running.values()):
            if answer.sequence.is_abandoned:
                self.cancel(answer.request.request_id)
        self._pace.end(time.perf_counter(), num_encoded, was_work=bool(answers), is_more=self.has_work)

    def check_integrity(self) -> None:
        """Assert that every page is accounted for."""
        answers = [*self._waiting.values(), *self._running.values()]
        tables = [pages.blocks for answer in answers for pages in answer.pages]
        own = [answer.input.blocks for answer in answers if answer.input is not None and not answer.key]
        self._tree.pool.check([*tables, *own, *self.outputs.tables])

    def _admit(self, now: float) -> Admission:
        """Decide who begins, and refuse who never will."""
        settings, pool = self.settings, self._tree.pool
        promised = sum(
            answer.num_promised_blocks - answer.num_held_blocks for answer in self._running.values()
        )
        room = Room(
            # Who is being answered waits for what is read meanwhile.
            num_tokens=settings.chunk_size if self._running else settings.max_num_batched_tokens,
            num_lines=settings.max_num_seqs - sum(answer.num_lines for answer in self._running.values()),
            num_free_blocks=pool.num_free + self.outputs.num_idle_blocks - promised,
            num_blocks=pool.num_blocks,
            max_num_lines=settings.max_num_seqs,
        )
        candidates = [self._candidate(answer) for answer in self._waiting.values()]
        decision = admit(candidates, room, now, self._pace.rates)
        for refusal in decision.refused:
            event = Refused(refusal.request_id, refusal.reason, refusal.message, refusal.predicted_wait_s)
            self._end(self._waiting[refusal.request_id], event)
        return decision

    def _candidate(self, answer: Answer) -> Candidate:
        request = answer.request
        num_encoded, num_blocks = self.outputs.cost(answer.key, answer.num_input)
        view = answer.sequence.view(self._served.served(request.tenant), 0)
        return Candidate(view, num_encoded, num_blocks, self._num_answer_blocks(answer), answer.num_lines)

    def _num_answer_blocks(self, answer: Answer) -> int:
        """Pages for the longest answer on every line."""
        return answer.num_lines * self.outputs.num_blocks(answer.max_line_len)

    def _begin(self, answer: Answer) -> None:
        """Have an input's pages, shared or new; without any it waits on, though that is not expected."""
        request = answer.request
        num_tokens = answer.num_input
        answer.input = self.outputs.read(answer.key, num_tokens)
        if answer.input is not None:
            answer.num_cached = num_tokens
        else:
            answer.input = self.outputs.add(answer.key, num_tokens)
            if answer.input is None:
                return
        answer.num_promised_blocks = self._num_answer_blocks(answer)
        del self._waiting[request.request_id]
        self._running[request.request_id] = answer
        answer.sequence.notes.sought(
            None, _OUTPUT_FOUND if answer.num_cached else _OUTPUT_ABSENT, num_tokens, self.settings.block_size
        )
        answer.sequence.notes.admitted()

    def _encode_new(self) -> int:
        """Encode the inputs that no pass has written yet; return how many tokens they have."""
        new: dict[int, Answer] = {}
        for answer in self._running.values():
            if answer.input is not None and not answer.input.is_written:
                new.setdefault(id(answer.input), answer)
        answers = list(new.values())
        self._encode([answer for answer in answers if not answer.request.is_reproducible])
        for answer in answers:
            if answer.request.is_reproducible:
                self._encode([answer])
        return sum(answer.num_input for answer in answers)

    def _encode(self, answers: Items[Answer]) -> None:
        """Encode the inputs of answers in one pass; where it raises, each alone."""
        if not answers:
            return
        inputs = [answer.input for answer in answers if answer.input is not None]
        try:
            pairs = zip(answers, inputs, strict=True)
            self._runner.encode([InputWork(answer.content, one.blocks) for answer, one in pairs])
        except Exception as error:
            if len(answers) > 1:
                for answer in answers:
                    self._encode([answer])
            else:
                self._fail_readers(inputs[0], _as_fault(error))
            return
        for answer, one in zip(answers, inputs, strict=True):
            one.is_written = True
            self._served.serve(answer.request.tenant, answer.num_input)
            answer.sequence.notes.computed(answer.num_input, is_decode=False)

    def _fail_readers(self, broken: EncoderOutput, error: CynosureError) -> None:
        for answer in [answer for answer in self._running.values() if answer.input is broken]:
            self._fail(answer, error)

    def _decode(self, answers: Items[Answer]) -> None:
        """Give answers their next tokens in one pass; where it raises, each alone."""
        answers = [answer for answer in answers if not self._is_over(answer)]
        if not answers:
            return
        for answer in answers:
            for pages in answer.pages:
                # What was promised is there: free, or read by nobody.
                num_next = answer.num_next
                has_room = self.outputs.make_room(pages.num_missing(num_next)) and pages.reserve(num_next)
                assert has_room, "fewer pages than were promised"
        work = [answer.work() for answer in answers]
        try:
            logits = self._runner.decode([line for lines in work for line in lines])
        except Exception as error:
            if len(answers) > 1:
                for answer in answers:
                    self._decode([answer])
            else:
                self._fail(answers[0], _as_fault(error))
            return
        parts = logits.split([len(lines) for lines in work])
        for answer in answers:
            answer.fill()
            self._served.serve(answer.request.tenant, len(answer.pages))
            answer.sequence.notes.computed(1, is_decode=True)
        self._sample([pair for pair in zip(answers, parts, strict=True) if not pair[0].is_searched])
        for answer, part in zip(answers, parts, strict=True):
            if answer.is_searched:
                self._search(answer, part)

    def _is_over(self, answer: Answer) -> bool:
        """End what needs no token; tell whether an answer takes no part in decoding."""
        if answer.request.request_id not in self._running:
            return True
        if answer.request.params.max_tokens:
            return False
        self._end(answer, Finished(answer.request.request_id, FinishReason.LENGTH, answer.usage))
        return True

    def _sample(self, answers: Items[tuple[Answer, Float[Tensor, "1 vocab"]]]) -> None:
        """Choose one token for each of these."""
        rows: list[Row] = []
        ready: list[Answer] = []
        logits: list[Tensor] = []
        for answer, part in answers:
            try:
                rows.append(answer.sampler_row(self._eos, part.shape[1]))
            except CynosureError as error:
                self._fail(answer, error)
            else:
                ready.append(answer)
                logits.append(part[0])
        if not ready:
            return
        for answer, chosen in zip(ready, sample(torch.stack(logits), rows), strict=True):
            request_id = answer.request.request_id
            if isinstance(chosen, SampleError):
                self._fail(answer, chosen.error)
                continue
            try:
                reason = answer.sequence.accept(chosen.token_id, self._eos)
            except CynosureError as error:
                self._fail(answer, error)
                continue
            answer.sequence.tell(TokenEvent(request_id, chosen.token_id, chosen.logprob, chosen.top_logprobs))
            self._finish(answer, reason)

    def _search(self, answer: Answer, logits: Float[Tensor, "lines vocab"]) -> None:
        """Prolong the beams of one answer."""
        try:
            reason = answer.search(logits, self._eos)
        except Exception as error:
            self._fail(answer, _as_fault(error))
        else:
            self._finish(answer, reason)

    def _finish(self, answer: Answer, reason: FinishReason | None) -> None:
        if reason is None:
            return
        if reason is not FinishReason.LENGTH:
            self._pace.note_answer(len(answer.sequence.generated))
        self._end(answer, Finished(answer.request.request_id, reason, answer.usage))

    def _fail(self, answer: Answer, error: CynosureError) -> None:
        self._end(answer, Failed(answer.request.request_id, error))

    def _end(self, answer: Answer, event: TerminalEvent) -> None:
        """Give everything back that an answer holds, then say how it ended; once."""
        request = answer.request
        if self._running.pop(request.request_id, None) or self._waiting.pop(request.request_id, None):
            self._served.depart(request.tenant)
            answer.release()
            if answer.input is not None:
                self.outputs.release(answer.input)
            answer.sequence.end(event)

    def _key_of(self, request: Request) -> CacheKey | None:
        if not self.settings.has_prefix_cache:
            return None
        shared = CacheKey(
            tenant=request.tenant,
            model=self._model_id,
            dtype=f"{self._runner.graph.dtype} in {self.cache.dtype}",
            is_reproducible=request.is_reproducible,
        )
        return key_of_input(shared, request.features or request.token_ids)

    def _num_input(self, request: Request) -> int:
        """Positions that the encoder gives for an input."""
        spec = self._runner.graph.spec.features
        return len(request.token_ids) if spec is None else spec.num_positions


def _as_fault(error: Exception) -> CynosureError:
    if isinstance(error, CynosureError):
        return error
    return EngineFault(f"the model failed on this request: {error}. The other requests go on.")
