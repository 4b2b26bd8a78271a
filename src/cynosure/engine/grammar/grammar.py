"""Follow a grammar token by token. Knows nothing of requests, batches or processes."""

from __future__ import annotations

import importlib
import json
import time
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from cynosure.core.errors import EngineFault, InputError, MissingPackage
from cynosure.engine.constraints import Constraint, ConstraintKind
from cynosure.engine.grammar.process import PARSER_LIMITS, GrammarCost, TokenizerDefinition

if TYPE_CHECKING:
    from llguidance import LLMatcher

#: Between the parts of JSON; unbounded, a model could say nothing else for the rest of its tokens.
WHITESPACE = r"[ \n\r\t]{0,20}"

#: CPU time, so that a busy machine fails nobody; masks of 150,000 tokens usually take below 5 ms.
MAX_MASK_SECONDS = 0.05

#: A grammar that compiles in this time is compiled anew where its lexer is full, while the others wait.
MAX_RENEWAL_SECONDS = 0.05


class Vocabulary:
    """A tokenizer, prepared for grammars; read-only, and safe to share between threads."""

    def __init__(self, tokenizer: TokenizerDefinition) -> None:
        """Prepare it; of 150,000 tokens this takes about a second.

        Raises:
            MissingPackage: llguidance is not installed.
            InputError: the tokenizer is of a kind that can't be constrained.
        """
        library = load_llguidance()
        try:
            self.native = library.LLTokenizer(
                tokenizer.text, n_vocab=tokenizer.vocab_size, eos_token=list(tokenizer.eos_token_ids) or None
            )
        except ValueError as error:
            raise InputError(
                f"answers of this model can't be constrained: {error}. Leave the constraint out, or take a "
                "model with another tokenizer."
            ) from error
        self.size = tokenizer.vocab_size


class Grammar:
    """A compiled constraint.

    Its matchers share a lexer, which grows with all that any of them reads; a full one is made anew.
    """

    def __init__(self, vocabulary: Vocabulary, native_text: str, cost: GrammarCost) -> None:
        """Compile what was tried out before, at this cost; other threads go on meanwhile."""
        self.vocabulary = vocabulary
        self.cost = cost
        self.generation = 0
        self._text = native_text
        self._pristine = self._compile()

    def _compile(self) -> LLMatcher:
        library = load_llguidance()
        limits = library.LLParserLimits(**PARSER_LIMITS)
        compiled = library.LLMatcher(self.vocabulary.native, self._text, log_level=0, limits=limits)
        if compiled.is_error():
            raise InputError(f"the constraint does not compile: {compiled.get_error()}. Correct it.")
        return compiled

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        return self.cost.num_bytes

    def matcher(self) -> GrammarMatcher:
        """Stand before the first token of an answer."""
        return GrammarMatcher(self)

    def start(self) -> LLMatcher:
        """A native matcher before the first token."""
        return self._pristine.deep_copy()

    def renew(self, generation: int) -> bool:
        """Make the lexer anew unless that was done since `generation`; False where it would take too long."""
        if self.generation == generation:
            if self.cost.seconds > MAX_RENEWAL_SECONDS:
                return False
            self._pristine = self._compile()
            self.generation += 1
        return True


class GrammarMatcher:
    """Where one answer stands in its grammar. For one thread."""

    def __init__(self, grammar: Grammar) -> None:
        """Stand before the first token."""
        self._grammar = grammar
        self._generation = grammar.generation
        self._native = grammar.start()
        self._token_ids: list[int] = []

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole and nothing may follow."""
        return self._native.is_stopped() and not self._native.is_error()

    def allowed(self, vocab_size: int) -> Bool[Tensor, " vocab"]:
        """The tokens that may come next; end tokens are among them exactly where the answer may end.

        Raises:
            InputError: finding them takes too much.
        """
        assert vocab_size <= self._grammar.vocabulary.size
        start = time.thread_time()
        bits = self._native.compute_bitmask()
        seconds = time.thread_time() - start
        if self._native.is_error():
            self._recover()
            bits = self._native.compute_bitmask()
            self._check()
        if seconds > MAX_MASK_SECONDS:
            raise InputError(
                f"the constraint took {seconds:.2f} s for one token; the limit is {MAX_MASK_SECONDS:g} s. "
                "Make it less ambiguous."
            )
        flags = np.unpackbits(np.frombuffer(bits, np.uint8), count=vocab_size, bitorder="little")
        return torch.from_numpy(flags.view(np.bool_))

    def accept(self, token_id: int) -> None:
        """Go on by a token that was allowed.

        Raises:
            InputError: the grammar is too large where the token leads.
        """
        self._token_ids.append(token_id)
        if not self._native.consume_token(token_id):
            self._recover()
            self._check()

    def _recover(self) -> None:
        """Read the answer again with an empty lexer: the full one may be the work of others."""
        if self._grammar.renew(self._generation):
            self._generation = self._grammar.generation
            self._native = self._grammar.start()
            self._native.consume_tokens(self._token_ids)

    def _check(self) -> None:
        if self._native.is_error():
            reason = self._native.get_error().partition("\n")[0][:200].rstrip(" .")
            raise InputError(f"the constraint can't be followed any further: {reason}. Make it simpler.")


def native_text(constraint: Constraint) -> str:
    """A constraint in the compiler's own form; nothing is compiled.

    Raises:
        MissingPackage: llguidance is not installed.
        InputError: it can't be written so.
    """
    inner = _form_text(constraint)
    if constraint.around is None:
        return inner
    # A form is a list of grammars, or the text of one.
    [answer] = json.loads(inner)["grammars"] if inner.lstrip().startswith("{") else [{"lark_grammar": inner}]
    return json.dumps({"grammars": [{"lark_grammar": constraint.around}, {**answer, "name": "answer"}]})


def _form_text(constraint: Constraint) -> str:
    """What a text is held to, without what is around it."""
    library, text = load_llguidance(), constraint.text
    matcher = library.LLMatcher
    try:
        match constraint.kind:
            case ConstraintKind.JSON_SCHEMA:
                return matcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": WHITESPACE})
            case ConstraintKind.REGEX:
                # As JSON Schema, and most people, read it: digits are 0 to 9.
                return matcher.grammar_from_lark(f"start: /{library.regex_to_lark(text, 'dws')}/")
            case ConstraintKind.GRAMMAR:
                return matcher.grammar_from_lark(text)
            case ConstraintKind.CHOICE:
                # Lark spells strings as JSON does.
                return matcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, json.loads(text))))
    except ValueError as error:
        raise InputError(f"the {constraint.kind.value} can't be read: {error}. Correct it.") from error
    raise EngineFault(f"constraints of kind {constraint.kind} have no compiler. Report it.")


def load_llguidance() -> ModuleType:
    """The library.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        return importlib.import_module("llguidance")
    except ModuleNotFoundError as error:
        raise MissingPackage(
            "constrained answers need the package llguidance, which is not installed. Install it: "
            'pip install "cynosure[constraints]".'
        ) from error
