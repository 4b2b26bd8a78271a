from __future__ import annotations

from cynosure.cli.editor.python_code import Import, blanked, imports_in, names_in, without_begun

UNFINISHED = '''
import os.path, json as j
from . import sibling
from ..above.module import (first,
                            second as other)
from a import b; from c import *

TEXT = """import hidden
from hidden import all"""
NUMBER = 0xFFee + 1e5

def area(width):  # by height
    return f"{width} 'wide'" + undone(
'''


def test_names_are_those_of_code() -> None:
    names = names_in(blanked(UNFINISHED))
    assert {"os", "path", "j", "TEXT", "area", "width", "undone", "second", "other"} <= names
    assert names.isdisjoint({"hidden", "by", "height", "wide", "xFFee", "e5", "f"} - {"f"})


def test_imports_are_found_in_code_that_does_not_parse() -> None:
    assert imports_in(blanked(UNFINISHED)) == (
        Import("os.path"),
        Import("json"),
        Import("", 1, ("sibling",)),
        Import("above.module", 2, ("first", "second")),
        Import("a", 0, ("b",)),
        Import("c", 0, ("*",)),
    )


def test_a_string_that_is_not_closed_ends_with_its_line_or_the_text() -> None:
    assert names_in(blanked("a = 'b\nc = 1")) == {"a", "c"}
    assert names_in(blanked('a = """b\nc = 1')) == {"a"}
    assert names_in(blanked("a = 'it\\'s b'\nc")) == {"a", "c"}
    assert names_in(blanked("# it's\na")) == {"a"}


def test_a_line_that_goes_on_is_one() -> None:
    assert imports_in(blanked("from a import \\\n    b")) == (Import("a", 0, ("b",)),)


def test_the_name_that_is_being_written_is_not_known() -> None:
    code = without_begun("value = 1\nprint(val", "ue_of)\n")
    assert names_in(code) == {"value", "print"}
    assert names_in(without_begun("print(", "width)")) == {"print", "width"}
