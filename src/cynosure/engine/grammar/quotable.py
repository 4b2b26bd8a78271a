"""Follow all places at once where a quote of given texts may stand. Knows nothing of answers or batches.

What was quoted so far is told by the set of its places: where it ends in each of the texts. Strings with the
same set go on alike, so that the sets are the states of the texts' suffix automaton. They are kept as arrays,
each state made when it is reached: of most, a few numbers are left after a token or two.

Here a state may hold several readings of an answer, since a line break may be quoted or stand between quotes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from cynosure.engine.grammar.byte_trie import NO_BYTE, NOWHERE
from cynosure.engine.grammar.token_trie import TokenTrie, firsts_of

#: What stands between two quotes, and neither begins nor ends one.
BREAK = 10


@dataclass(frozen=True, eq=False)
class Places:
    """Where a quote may stand.

    `at`: the bytes that may come next; `due`: for each the place from which on the quote may end. Where a
    quote may begin at any place beside them, it `is_new`.
    """

    at: Int[np.ndarray, " n"]
    due: Int[np.ndarray, " n"]
    is_new: bool

    @property
    def is_lost(self) -> bool:
        """Whether no quote is left that reads so."""
        return not self.is_new and not len(self.at)


NEW_QUOTE = Places(np.zeros(0, np.int64), np.zeros(0, np.int64), True)


class Crossings:
    """Tokens in which one quote ends and the next begins: `.` and a line break, say.

    - `tokens`: which of the vocabulary's texts; `nodes`: where its part before the break ends in the trie.
    - `rests`: what may follow a break in a token; `rest_of`: which of them is this token's.

    A token with several breaks stands here several times.
    """

    def __init__(self, tokens: TokenTrie) -> None:
        """Find them."""
        found: list[tuple[int, int, bytes]] = []
        for number, text in enumerate(tokens.strings):
            if BREAK not in text:
                continue
            path = tokens.nodes_before(int(tokens.nodes[number]))
            cuts = [cut for cut, symbol in enumerate(text) if symbol == BREAK]
            found += [(number, path[cut], text[cut + 1 :]) for cut in cuts]
        numbers = {rest: place for place, rest in enumerate(dict.fromkeys(rest for _, _, rest in found))}
        self.rests = tuple(numbers)
        self.tokens = np.array([number for number, _, _ in found], np.int64)
        self.nodes = np.array([node for _, node, _ in found], np.int64)
        self.rest_of = np.array([numbers[rest] for _, _, rest in found], np.int64)


class Quotable:
    """Texts that may be quoted, by a vocabulary."""

    def __init__(self, tokens: TokenTrie, crossings: Crossings, texts: Sequence[str], min_chars: int) -> None:
        """Find which tokens stand where; takes about half a second for 250,000 bytes."""
        self._tokens, self._crossings = tokens, crossings
        self._symbols = np.concatenate(
            [part for text in texts for part in (np.frombuffer(text.encode(), np.uint8), [NO_BYTE])]
        ).astype(np.int16)
        is_char = (self._symbols & 0xC0) != 0x80
        before = np.concatenate([[NO_BYTE], self._symbols[:-1]])
        self._may_end_at = is_char & (before != BREAK) & (before != NO_BYTE)
        self._depths = tokens.trie.depths
        self._found()
        self._find_reach(all(bytes([byte]) in tokens for text in texts for byte in set(text.encode())))
        self._find_starts(np.flatnonzero(is_char), min_chars)
        #: What may begin a quote, by node: to be read on, and to end behind it.
        self._new = self._seen(self._starts, self._start_dues)
        self._follows = np.array([self._may_follow(rest) for rest in crossings.rests], np.bool_)

    @property
    def has_starts(self) -> bool:
        """Whether there is anything to quote."""
        return bool(len(self._starts))

    @property
    def num_bytes(self) -> int:
        """What it holds in memory."""
        arrays = (self._symbols, self._may_end_at, self._nodes, self._firsts, self._reach, self._starts)
        return sum(array.nbytes for array in (*arrays, self._start_dues, *self._new))

    def may_end(self, places: Places) -> bool:
        """Whether what was quoted is long enough, and ends with a whole character that is no line break."""
        return bool((self._may_end_at[places.at] & (places.at >= places.due)).any())

    def allowed(self, places: Places) -> Bool[np.ndarray, " tokens"]:
        """Which texts of the vocabulary may come next."""
        goes_on, ends = self._seen(places.at, places.due)
        if places.is_new:
            goes_on, ends = goes_on | self._new[0], ends | self._new[1]
        # A token may begin with the break.
        ends[0] = self.may_end(places)
        allowed = goes_on[self._tokens.nodes]
        crossings = self._crossings
        crosses = ends[crossings.nodes] & self._follows[crossings.rest_of]
        allowed[crossings.tokens[crosses]] = True
        return allowed

    def allowed_first(self) -> Bool[np.ndarray, " tokens"]:
        """Which may begin an answer: a space that the decoder drops need not stand in a text."""
        goes_on = self._new[0].copy()
        # It may drop all that the token is.
        goes_on[0] = self.has_starts
        tokens = self._tokens
        is_other = tokens.first_nodes != tokens.nodes
        return np.where(is_other, goes_on[tokens.first_nodes], self.allowed(NEW_QUOTE))

    def read(self, places: Places, text: bytes) -> Places:
        """Where a quote may stand after more bytes."""
        for symbol in text:
            is_new = symbol == BREAK and self.may_end(places)
            goes_on = self._symbols[places.at] == symbol
            at, due = places.at[goes_on] + 1, places.due[goes_on]
            if places.is_new:
                begun = slice(self._first_starts[symbol], self._first_starts[symbol + 1])
                at = np.concatenate([at, self._starts[begun] + 1])
                due = np.concatenate([due, self._start_dues[begun]])
            places = Places(*_each_once(at, due), is_new)
        return places

    def _found(self) -> None:
        """For each place the nodes of tokens, and of parts before a break, that stand there."""
        trie = self._tokens.trie
        is_kept = np.zeros(len(trie), np.bool_)
        for kept in (self._tokens.nodes, self._tokens.first_nodes, self._crossings.nodes):
            is_kept[kept] = True
        at = np.flatnonzero(self._symbols != NO_BYTE)
        nodes = np.zeros(len(at), np.int64)
        found_at, found, depth = [at[:0]], [nodes[:0]], 0
        while len(at):
            nodes = trie.step(nodes, self._symbols[at + depth])
            at, nodes = at[nodes != NOWHERE], nodes[nodes != NOWHERE]
            kept = is_kept[nodes]
            found_at.append(at[kept])
            found.append(nodes[kept])
            depth += 1
        starts = np.concatenate(found_at)
        order = np.argsort(starts, kind="stable")
        self._nodes = np.concatenate(found)[order].astype(np.int32)
        self._firsts = firsts_of(starts, len(self._symbols))

    def _find_reach(self, is_spelled: bool) -> None:
        """The furthest end that a quote can come to from each place, by a token or more; -1 where none."""
        size = len(self._symbols)
        ends = np.flatnonzero(self._may_end_at)
        text_ends = np.flatnonzero(self._symbols == NO_BYTE)
        if is_spelled:
            own_end = text_ends[np.searchsorted(text_ends, np.arange(size))]
            last = np.searchsorted(ends, own_end, side="right") - 1
            furthest = np.where(last < 0, -1, ends[np.maximum(last, 0)] if len(ends) else -1)
            self._reach = np.where(furthest > np.arange(size), furthest, -1)
            return
        # Not every token can be told here: what a place leads to is known once all places behind it are.
        is_token = np.zeros(len(self._tokens.trie), np.bool_)
        is_token[self._tokens.nodes] = True
        reach, may_end = [-1] * size, self._may_end_at.tolist()
        firsts, lengths = self._firsts.tolist(), self._depths[self._nodes].tolist()
        told = is_token[self._nodes].tolist()
        for place in range(size - 1, -1, -1):
            for found in range(firsts[place], firsts[place + 1]):
                end = place + lengths[found]
                if told[found]:
                    reach[place] = max(reach[place], reach[end], end if may_end[end] else -1)
        self._reach = np.array(reach, np.int64)

    def _find_starts(self, chars: Int[np.ndarray, " chars"], min_chars: int) -> None:
        """Where a quote can begin that comes to an end, and from where on it may; sorted by first byte."""
        text_ends = np.flatnonzero(self._symbols[chars] == NO_BYTE)
        first_due = np.arange(len(chars)) + min_chars
        fits = first_due <= text_ends[np.searchsorted(text_ends, np.arange(len(chars)))]
        starts, dues = chars[fits], chars[first_due[fits]]
        usable = (self._symbols[starts] != BREAK) & (self._reach[starts] >= dues)
        starts, dues = starts[usable], dues[usable]
        order = np.argsort(self._symbols[starts], kind="stable")
        self._starts, self._start_dues = starts[order], dues[order]
        self._first_starts = firsts_of(self._symbols[self._starts], NO_BYTE)

    def _seen(
        self, at: Int[np.ndarray, " n"], due: Int[np.ndarray, " n"]
    ) -> tuple[Bool[np.ndarray, " nodes"], Bool[np.ndarray, " nodes"]]:
        """Which nodes stand at some of the places and come to an end, now or later; and which end now."""
        counts = self._firsts[at + 1] - self._firsts[at]
        which = np.repeat(np.arange(len(at)), counts)
        skipped = np.cumsum(counts) - counts
        nodes = self._nodes[(self._firsts[at] - skipped)[which] + np.arange(len(which))]
        after, owed = at[which] + self._depths[nodes], due[which]
        ends_here = self._may_end_at[after] & (after >= owed)
        goes_on, ends = (np.zeros(len(self._tokens.trie), np.bool_) for _ in range(2))
        goes_on[nodes[ends_here | (self._reach[after] >= owed)]] = True
        ends[nodes[ends_here]] = True
        return goes_on, ends

    def _may_follow(self, rest: bytes) -> bool:
        """Whether a quote that begins so comes to an end."""
        places = self.read(NEW_QUOTE, rest)
        if places.is_new:
            return self.has_starts
        comes_to_end = self._may_end_at[places.at] & (places.at >= places.due)
        return bool((comes_to_end | (self._reach[places.at] >= places.due)).any())


def _each_once(
    at: Int[np.ndarray, " n"], due: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """Places without repetition; what is not due any more is no difference."""
    due = np.where(at >= due, 0, due)
    if len(at) < 2 or not (np.diff(at) <= 0).any():
        return at, due
    stride = int(due.max()) + 1
    pairs = np.unique(at * stride + due)
    return pairs // stride, pairs % stride
