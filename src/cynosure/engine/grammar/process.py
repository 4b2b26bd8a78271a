"""Keep the child process that tries grammars out within its limits. Knows nothing of what they mean.

A grammar is a program from the net, and compiling one is native code that no thread can stop. What came
through the child in time may be compiled here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cynosure.core.errors import EnvironmentFault, InputError
from cynosure.core.json_child import JsonChild
from cynosure.engine.constraints import Constraint
from cynosure.engine.grammar.faults import explained

_WORKER = Path(__file__).with_name("worker.py")

# Starting an interpreter and reading a large vocabulary on a busy machine is not the grammar's fault.
_START_SECONDS = 60.0

PARSER_LIMITS: Mapping[str, int | bool] = {
    "max_lexer_states": 16_384,  # of 1 to 2 kB each; they grow while an answer does
    "step_lexer_fuel": 100_000,
    "step_max_items": 20_000,
    "verbose_errors": False,  # they would quote what was generated
}


@dataclass(frozen=True)
class GrammarLimits:
    """What compiling one grammar may use.

    - `max_seconds`: wall-clock time.
    - `max_bytes`: memory while it compiles; `max_kept_bytes`: afterwards.
    """

    max_seconds: float = 5.0
    max_bytes: int = 512 << 20
    max_kept_bytes: int = 64 << 20


@dataclass(frozen=True)
class TokenizerDefinition:
    """A tokenizer as a compiler of grammars needs it: `tokenizer.json` as text, and its end tokens.

    `vocab_size` is at least that of the model and that of the tokenizer.
    """

    text: str
    vocab_size: int
    eos_token_ids: tuple[int, ...]


@dataclass(frozen=True)
class GrammarCost:
    """What a grammar took to compile, and what it holds."""

    seconds: float
    num_bytes: int


class GrammarProcess:
    """A child for one tokenizer; starts when first needed, and again after it was ended. For one thread."""

    def __init__(self, tokenizer: TokenizerDefinition, limits: GrammarLimits) -> None:
        """Start nothing yet."""
        self._tokenizer = tokenizer
        self._limits = limits
        self._child: JsonChild | None = None
        self._is_over = False

    def cost(self, constraint: Constraint, native_text: str) -> GrammarCost:
        """Compile a constraint in the child, and forget it; `native_text` is its form for the compiler.

        Raises:
            InputError: it does not compile, or not within the limits; or the tokenizer
                is of a kind that can't be constrained.
            EnvironmentFault: no child process can be started.
        """
        if self._child is None or not self._child.is_running:
            self._start()
        answer = self._ask(json.dumps(native_text), self._limits.max_seconds)
        if answer is None:
            raise InputError(
                "the constraint takes more to compile than is allowed: the limits are "
                f"{self._limits.max_seconds:g} s and {self._limits.max_bytes >> 20} MB. Make it simpler."
            )
        if "error" in answer:
            reason = explained(constraint, answer["error"])
            raise InputError(f"the {constraint.kind.value} does not compile: {reason}. Correct it.")
        cost = GrammarCost(answer["seconds"], answer["num_bytes"])
        if cost.num_bytes > self._limits.max_kept_bytes:
            raise InputError(
                f"the constraint holds {cost.num_bytes >> 20} MB when compiled; the limit is "
                f"{self._limits.max_kept_bytes >> 20} MB. Make it simpler."
            )
        return cost

    def interrupt(self) -> None:
        """End the child for good, from another thread; what it compiles fails."""
        self._is_over = True
        child = self._child
        if child is not None:
            child.kill()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def _start(self) -> None:
        self.close()
        try:
            self._child = JsonChild(_WORKER)
        except OSError as error:
            raise EnvironmentFault(
                f"no process for the constraint can be started: {error.strerror}. Free memory."
            ) from error
        if self._is_over:
            # Interrupted while it started.
            self._child.kill()
        setup = {
            "tokenizer": self._tokenizer.text,
            "vocab_size": self._tokenizer.vocab_size,
            "eos_token_ids": self._tokenizer.eos_token_ids,
            "parser_limits": PARSER_LIMITS,
            "max_bytes": self._limits.max_bytes,
        }
        child = self._child
        answer = self._ask(json.dumps(setup), _START_SECONDS)
        if answer is None and not child.has_timed_out:
            raise EnvironmentFault(
                f"the process for the constraint ended as it started ({child.last_words}). Free memory, or "
                "install cynosure again."
            )
        if answer is None:
            raise EnvironmentFault(
                f"the process for the constraint did not start within {_START_SECONDS:g} s. Free memory."
            )
        if "error" in answer:
            raise InputError(
                f"answers of this model can't be constrained: {answer['error'].strip(' .')}. Leave the "
                "constraint out, or take a model with another tokenizer."
            )

    def _ask(self, line: str, max_seconds: float) -> dict[str, Any] | None:
        """The child's answer to a line; None where it died or was ended, which it then is."""
        assert self._child is not None, "no child was started"
        return self._child.ask(line, max_seconds)
