"""A reader of Python knows where it stands, as Python's own does."""

from __future__ import annotations

import io
import keyword
import tokenize
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.engine import python_lexer
from cynosure.engine.python_lexer import STRING_PREFIXES, Place, end_of, transitions


def place_after(text: str) -> int:
    place = int(Place.CODE)
    for symbol in text.encode():
        place = transitions()[place][symbol]
    return place


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("x = ", ""),
        ("self.he", "he"),
        ("größe", "größe"),
        ("2 + x2", "x2"),
        ("1_000", "0"),
        ("0xFF", "0"),
        ("1.5e", "0"),
        ("x # it's", "#"),
        ("# it's\nfoo", "foo"),
        ("'", "'"),
        ('""', '""'),
        ("f('a", "'."),
        ("f('a')", ""),
        (r"'\'", "'."),
        ("'\\", "'\\"),
        ("'''a'b''", "'''.''"),
        ("'''a''' + b", "b"),
        ('"""a\n"', '"""."'),
        ("rb'x' y", "y"),
        ("'broken\nname", "name"),
        ("'a\\\nb", "'."),
        ("\ud800 x", "x"),
    ],
)
def test_the_end_of_a_text_is_told_shortly(text: str, expected: str) -> None:
    assert end_of(text) == expected


@given(st.text("ab1'\"\\#\n .é", max_size=40))
def test_what_is_told_leads_to_the_same_place(text: str) -> None:
    assert place_after(end_of(text)) == place_after(text)
    assert end_of(end_of(text)) == end_of(text)


def test_names_of_a_real_module_are_those_that_python_finds() -> None:
    source = Path(python_lexer.__file__).read_text()
    expected = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.NAME
    ]
    found, place, begun = [], int(Place.CODE), 0
    for at, symbol in enumerate((source + "\n").encode()):
        after = transitions()[place][symbol]
        if after == Place.NAME and place != Place.NAME:
            begun = at
        if place == Place.NAME and after != Place.NAME:
            name = source.encode()[begun:at].decode()
            if not (name in STRING_PREFIXES and chr(symbol) in "'\""):
                found.append(name)
        place = after
    # Strings with fields are tokens in parts from Python 3.12 on; here they are strings.
    in_fields = {"quote", "shift", "place"}
    assert [name for name in found if name not in in_fields] == [
        name for name in expected if name not in in_fields
    ]
    assert set(found) & set(keyword.kwlist)
