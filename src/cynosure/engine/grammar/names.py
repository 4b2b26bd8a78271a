"""Hold the names in generated Python to those that are known. Knows nothing of requests, files or models.

A name that is begun goes on as the beginning of a known one, and ends where it is whole. Numbers, strings and
comments are free. Python's own names are always known: its keywords, its builtins, what its types have.
"""

from __future__ import annotations

import builtins
import io
import json
import keyword
import types
from collections import OrderedDict
from collections.abc import Collection
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cynosure.core.errors import InputError
from cynosure.engine.constraints import Constraint
from cynosure.engine.grammar.byte_trie import NOWHERE, ByteTrie
from cynosure.engine.grammar.token_trie import TokenTrie
from cynosure.engine.python_lexer import (
    NUM_PLACES,
    NUM_SYMBOLS,
    STRING_PREFIXES,
    Place,
    is_in_name,
    is_quote,
    transitions,
)

#: States whose masks are kept: code, strings and the beginnings of names come back all the time.
MAX_KEPT_MASKS = 64

#: Behind the places of a reader come the beginnings of names, as nodes of their trie.
_FIRST_NODE = NUM_PLACES

_TYPES = (
    object, int, float, complex, str, bytes, bytearray, memoryview, list, tuple, dict, set, frozenset, range,
    slice, type, property, BaseException, OSError, StopIteration, UnicodeError, SyntaxError, ImportError,
    io.TextIOWrapper, io.BufferedReader, types.FunctionType, types.MethodType, types.ModuleType,
    types.GeneratorType, types.CoroutineType, types.TracebackType, types.FrameType, types.CodeType,
)  # fmt: skip


@lru_cache(maxsize=1)
def python_names() -> frozenset[str]:
    """Keywords, builtins and the attributes of builtin types, as the running interpreter has them."""
    attributes = {name for kind in _TYPES for name in dir(kind)}
    spoken = {"self", "cls", "__file__", "__all__", "__path__"}
    return frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *attributes, *spoken})


class KnownNames:
    """Names, and where a reader of Python stands when the answer begins.

    A state is a place of the reader; in a name, what was written of it.
    """

    def __init__(self, tokens: TokenTrie, names: Collection[str], after: str = "") -> None:
        """Number the beginnings of all names.

        Args:
            tokens: the vocabulary.
            names: what is known beside Python's own.
            after: what stands before the answer: a name that is begun, an open string. One that no name
                begins with is the caller's, and goes on freely.

        Raises:
            InputError: the vocabulary can't spell a name.
        """
        self.tokens = tokens
        known = sorted({*names, *python_names()})
        if not tokens.spells("".join(known)):
            mute = next(name for name in known if not tokens.spells(name))
            raise InputError(f"this model can't spell the name {mute[:100]!r}. Leave it out.")
        prefixes = sorted(STRING_PREFIXES) if any(map(tokens.spells, "'\"")) else []
        self._trie = ByteTrie([text.encode() for text in (*known, *prefixes)])
        self._is_name, self._is_prefix = (np.zeros(len(self._trie), np.bool_) for _ in range(2))
        self._is_name[self._trie.node_of[: len(known)]] = True
        self._is_prefix[self._trie.node_of[len(known) :]] = True
        self._places = np.array(transitions(), np.int64)
        self._in_name = np.array([is_in_name(symbol) for symbol in range(NUM_SYMBOLS)])
        self._is_quote = np.array([is_quote(symbol) for symbol in range(NUM_SYMBOLS)])
        self._masks: OrderedDict[tuple[int, bool], Bool[np.ndarray, " vocab"]] = OrderedDict()
        self.first_state = self._begin(after.encode())

    @classmethod
    def of(cls, constraint: Constraint, tokens: TokenTrie) -> KnownNames:
        """Read them from a constraint."""
        asked = json.loads(constraint.text)
        return cls(tokens, asked["names"], asked["after"])

    @property
    def num_bytes(self) -> int:
        """What it holds in memory, with the masks that it may come to keep."""
        return self._trie.num_bytes + 2 * len(self._trie) + MAX_KEPT_MASKS * self.tokens.size

    def matcher(self) -> NamesMatcher:
        """Stand before the first token of an answer."""
        return NamesMatcher(self)

    def mask(self, state: int, *, is_first: bool = False) -> Bool[np.ndarray, " vocab"]:
        """The tokens that may come next, or first in an answer; not to be written to. For one thread."""
        kept = self._masks.get((state, is_first))
        if kept is None:
            is_whole = state < _FIRST_NODE or bool(self._is_name[state - _FIRST_NODE])
            nodes = self.tokens.first_nodes if is_first else self.tokens.nodes
            kept = self.tokens.mask(self._reached(state)[nodes] != NOWHERE, may_end=is_whole)
            self._masks[state, is_first] = kept
        self._masks.move_to_end((state, is_first))
        if len(self._masks) > MAX_KEPT_MASKS:
            self._masks.popitem(last=False)
        return kept

    def read(self, state: int, text: bytes) -> int:
        """The state after more bytes; `NOWHERE` where they are not allowed."""
        states = np.array([state], np.int64)
        for symbol in text:
            states = self._step(states, np.array([symbol], np.int64))
        return int(states[0])

    def _begin(self, after: bytes) -> int:
        """Where the answer begins; what stands before it is nobody's to forbid."""
        place = int(Place.CODE)
        for symbol in after:
            place = int(self._places[place, symbol])
        if place != Place.NAME:
            return place
        begun = self.read(int(Place.CODE), after)
        return int(Place.NAME) if begun == NOWHERE else begun

    def _reached(self, state: int) -> Int[np.ndarray, " nodes"]:
        """The state behind every token, and every beginning of one, level by level."""
        trie = self.tokens.trie
        states = np.full(len(trie), NOWHERE, np.int64)
        states[0] = state
        for first, end in pairwise(trie.levels[1:]):
            before = states[trie.parents[first:end]]
            going = np.flatnonzero(before != NOWHERE)
            states[first + going] = self._step(before[going], trie.symbols[first + going])
        return states

    def _step(self, states: Int[np.ndarray, " n"], symbols: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """The state behind one more byte, of many walks at once."""
        is_in_name, nodes = states >= _FIRST_NODE, states - _FIRST_NODE
        places = np.where(is_in_name, Place.NAME, states)
        after = np.where(states == NOWHERE, NOWHERE, self._places[places, symbols])
        begins = (after == Place.NAME) & (is_in_name | (places != Place.NAME))
        behind = np.where(is_in_name, nodes, 0)[begins]
        children = self._trie.step(behind, symbols[begins])
        after[begins] = np.where(children == NOWHERE, NOWHERE, children + _FIRST_NODE)
        ends = is_in_name & ~self._in_name[symbols]
        at = nodes[ends]
        is_whole = self._is_name[at] | (self._is_prefix[at] & self._is_quote[symbols[ends]])
        after[ends] = np.where(is_whole, after[ends], NOWHERE)
        return after


class NamesMatcher:
    """Where one answer stands among the names. For one thread."""

    def __init__(self, names: KnownNames) -> None:
        """Stand before the first token."""
        self._names = names
        self._state = names.first_state
        self._is_first = True

    @property
    def is_complete(self) -> bool:
        """Code can always go on."""
        return False

    def allowed(self, vocab_size: int) -> Bool[Tensor, " vocab"]:
        """The tokens that may come next; end tokens are among them where no name is half written."""
        assert vocab_size <= self._names.tokens.size
        mask = self._names.mask(self._state, is_first=self._is_first)
        return torch.from_numpy(mask[:vocab_size].copy())

    def accept(self, token_id: int) -> None:
        """Go on by a token that was allowed.

        Raises:
            InputError: it was not.
        """
        tokens = self._names.tokens
        text = tokens.first_bytes_of(token_id) if self._is_first else tokens.bytes_of(token_id)
        self._state, self._is_first = self._names.read(self._state, text), False
        if self._state == NOWHERE:
            raise InputError(
                f"the constraint can't be followed any further: behind token {token_id} a name is not known. "
                "Leave out what has it chosen."
            )
