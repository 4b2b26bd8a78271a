"""A trie walks many strings at once, and goes exactly where one of them goes on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cynosure.engine.grammar.byte_trie import NO_BYTE, NOWHERE, ByteTrie

STRINGS = st.lists(st.binary(max_size=6), max_size=12)


def walked(trie: ByteTrie, text: bytes) -> int:
    node = np.zeros(1, np.int64)
    for symbol in text:
        node = trie.step(node, np.array([symbol], np.int64))
    return int(node[0])


@given(STRINGS, st.binary(max_size=7))
def test_it_goes_where_a_string_goes(strings: list[bytes], text: bytes) -> None:
    trie = ByteTrie(strings)
    is_prefix = any(string.startswith(text) for string in [*strings, b""])
    assert (walked(trie, text) != NOWHERE) == is_prefix


@given(STRINGS)
def test_every_string_has_its_node_and_every_prefix_one(strings: list[bytes]) -> None:
    trie = ByteTrie(strings)
    assert [walked(trie, string) for string in strings] == trie.node_of.tolist()
    prefixes = {string[:length] for string in [*strings, b""] for length in range(len(string) + 1)}
    assert len(trie) == len(prefixes)
    assert sorted(trie.depths.tolist()) == sorted(map(len, prefixes))
    assert trie.depths.tolist() == sorted(trie.depths.tolist()), "level by level"


def test_nothing_goes_on_from_nowhere_or_by_what_is_no_byte() -> None:
    trie = ByteTrie([b"\x00\x00", b"\xff\x00", b"a"])
    nodes = np.array([NOWHERE, 0, 1, 2, 0], np.int64)
    symbols = np.array([0, NO_BYTE, NO_BYTE, NO_BYTE, 255], np.int64)
    assert trie.step(nodes, symbols).tolist() == [NOWHERE] * 4 + [walked(trie, b"\xff")]


def test_many_walks_are_one_call() -> None:
    strings = [bytes([first, second]) for first in range(40) for second in range(0, 256, 7)]
    trie = ByteTrie(strings)
    firsts = np.repeat(np.arange(256), 256)
    nodes = trie.step(np.zeros(256 * 256, np.int64), firsts)
    nodes = trie.step(nodes, np.tile(np.arange(256), 256))
    reached = {bytes([first, place % 256]) for place, first in enumerate(firsts) if nodes[place] != NOWHERE}
    assert reached == set(strings)
