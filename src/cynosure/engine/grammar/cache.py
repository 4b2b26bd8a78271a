"""Compile constraints beside the engine, each once, and keep those used last. Knows nothing of sequences.

Kept is kept per tenant: who sends a constraint can't tell by the clock whether another sent it before.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from queue import SimpleQueue

from cynosure.core.errors import EngineBusy
from cynosure.engine.constraints import Constraint, ConstraintKind
from cynosure.engine.grammar.grammar import Grammar, Vocabulary, load_llguidance, native_text
from cynosure.engine.grammar.matching import Compiled
from cynosure.engine.grammar.names import KnownNames
from cynosure.engine.grammar.process import GrammarLimits, GrammarProcess, TokenizerDefinition
from cynosure.engine.grammar.quotable import Crossings
from cynosure.engine.grammar.token_trie import TokenTrie
from cynosure.engine.grammar.verbatim import Verbatim

MAX_GRAMMARS = 64
MAX_KEPT_BYTES = 256 << 20

#: More that wait to be compiled are refused: a queue without an end serves nobody.
MAX_WAITING = 64

_NUM_WORKERS = 2

_Key = tuple[str, Constraint]


class GrammarCache:
    """The grammars of one tokenizer. For any thread."""

    def __init__(self, tokenizer: TokenizerDefinition, limits: GrammarLimits | None = None) -> None:
        """Start nothing: most engines never see a constraint."""
        self._tokenizer = tokenizer
        self._pool = ThreadPoolExecutor(_NUM_WORKERS, thread_name_prefix="grammar")
        self._processes = [GrammarProcess(tokenizer, limits or GrammarLimits()) for _ in range(_NUM_WORKERS)]
        self._idle: SimpleQueue[GrammarProcess] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)
        self._lock = threading.Lock()
        self._vocabulary_lock = threading.Lock()
        self._compiling: dict[_Key, Future[Compiled]] = {}
        self._kept: OrderedDict[_Key, Compiled] = OrderedDict()

    def __len__(self) -> int:
        """How many grammars are kept."""
        return len(self._kept)

    def request(self, constraint: Constraint, tenant: str = "") -> Future[Compiled]:
        """A grammar, at once where it is kept; the future may be shared, so cancel nothing.

        The future raises `InputError` where the constraint does not compile, or not within the limits.

        Raises:
            MissingPackage: llguidance is not installed.
            EngineBusy: too many constraints wait.
        """
        if not constraint.kind.is_plain:
            load_llguidance()
        key = (tenant, constraint)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                found: Future[Compiled] = Future()
                found.set_result(kept)
                return found
            if key in self._compiling:
                return self._compiling[key]
            if len(self._compiling) >= MAX_WAITING:
                raise EngineBusy(
                    f"{len(self._compiling)} constraints wait to be compiled, the limit. Try again soon."
                )
            future = self._compiling[key] = self._pool.submit(self._compile, constraint)
        future.add_done_callback(lambda done: self._keep(key, done))
        return future

    def close(self) -> None:
        """End the child processes; what is being compiled fails."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.interrupt()
        self._pool.shutdown(wait=True)
        for process in self._processes:
            process.close()

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._tokenizer)

    @cached_property
    def _tokens(self) -> TokenTrie:
        return TokenTrie(self._tokenizer)

    @cached_property
    def _crossings(self) -> Crossings:
        return Crossings(self._tokens)

    def _compile(self, constraint: Constraint) -> Compiled:
        if constraint.kind.is_plain:
            # No program of the caller's: what it takes is bounded by its length.
            with self._vocabulary_lock:
                tokens, crossings = self._tokens, self._crossings
            if constraint.kind is ConstraintKind.NAMES:
                return KnownNames.of(constraint, tokens)
            return Verbatim.of(constraint, tokens, crossings)
        text = native_text(constraint)
        process = self._idle.get()
        try:
            cost = process.cost(constraint, text)
        finally:
            self._idle.put(process)
        with self._vocabulary_lock:
            vocabulary = self._vocabulary
        return Grammar(vocabulary, text, cost)

    def _keep(self, key: _Key, done: Future[Compiled]) -> None:
        with self._lock:
            del self._compiling[key]
            if done.cancelled() or done.exception() is not None:
                return
            self._kept[key] = done.result()
            while len(self._kept) > MAX_GRAMMARS or self._num_bytes > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)

    @property
    def _num_bytes(self) -> int:
        return sum(grammar.num_bytes for grammar in self._kept.values())
