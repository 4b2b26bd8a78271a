"""Lines are masked so that they can be put back, and what judges a proposal tells right from wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.train.corpus import library_folder
from evals import code_lines
from evals.code_baselines import NgramCache, by_jedi, nearest_line
from evals.code_execution import Changed, all_pass, passes
from evals.code_lines import Masked, edit_similarity, existing_names, name_share
from evals.code_lines import code_lines as lines_of

LIBRARY = library_folder()


def gap(prefix: str, line: str, suffix: str) -> Masked:
    return Masked("some", "some.py", 1, prefix, line, suffix, is_whole=True)


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Masked]:
    # Modules that a training sees: those of the evaluation are read by it alone.
    listed = tmp_path / "modules.txt"
    listed.write_text("keyword\nhmac\nzoneinfo\n")
    monkeypatch.setattr(code_lines, "MODULES", listed)
    return code_lines.masked_lines(LIBRARY, 30)


def test_a_masked_line_can_be_put_back(lines: list[Masked]) -> None:
    assert len(lines) == 30
    assert {masked.module for masked in lines} == {"keyword", "hmac", "zoneinfo"}
    for masked in lines:
        assert masked.filled(masked.line) == (LIBRARY / masked.path).read_text()
        assert masked.line.strip()
        assert "\n" not in masked.line
        assert masked.suffix[:1] in ("\n", "")
        assert masked.is_whole == (not masked.typed.strip()) or masked.is_whole
    assert 10 <= sum(masked.is_whole for masked in lines) <= 20
    assert lines == code_lines.masked_lines(LIBRARY, 30)
    assert lines != code_lines.masked_lines(LIBRARY, 30, seed=1)


def test_prose_and_short_lines_are_not_masked() -> None:
    prose = '"""Say what it is for.\n\nAt length, in prose."""\n# a long comment here\n'
    source = f'{prose}x = 1\nvalue = other + 1\n"alone, in a line"\n'
    assert lines_of(source) == [5]


def test_judges_tell_right_from_wrong() -> None:
    assert edit_similarity("  a = b", "a = b") == 1.0
    assert edit_similarity("xyz", "a = b") < edit_similarity("a = c", "a = b") < 1
    masked = gap("import shutil\nvalue = 1\n", "", "\nprint(value)\n")
    known = existing_names(masked)
    assert {"shutil", "copytree", "value", "len", "return", "append"} <= known
    assert name_share("value.append(len(copytree))", known) == 1.0
    assert name_share("valeu.append(1)", known) == 0.5
    assert name_share("print('no such names') # at all", known) == 1.0
    assert name_share(") + 1", known) is None
    assert code_lines.imported_modules("import os, sys as s\nfrom .near import x\nimported = 1\n") == [
        ".near", "os", "sys",
    ]  # fmt: skip


def test_baselines_propose_what_they_have_seen() -> None:
    training = ["for item in items:\n    total += item.price\n"] * 2
    cache = NgramCache(training)
    assert cache.propose(gap("x = 1\nfor item in ", "items:", "\n")) == "items:"
    assert cache.propose(gap("y = 2\nz = first(y)\nw = 3\nz = ", "", "\n")) == "first(y)", (
        "the file comes first"
    )
    near = gap("self.a = call(2)\nb = 2\nself.", "", "\nself.z = 0\n")
    assert nearest_line(near) == "z = 0"
    assert nearest_line(gap("nothing\n    ", "", "\n")) == ""
    assert by_jedi(gap("import shutil\nshutil.copytr", "ee", "\n"), LIBRARY) == "ee"


def test_a_module_s_tests_pass_over_its_own_text_only() -> None:
    text = (LIBRARY / "keyword.py").read_text()
    own, wrong = Changed("keyword", "keyword.py", text), text.replace("'True',", "")
    assert wrong != text
    assert all_pass([own, Changed("keyword", "keyword.py", wrong), own], LIBRARY, 2) == [True, False, True]
    assert not passes(Changed("keyword", "keyword.py", "while True: pass\n"), LIBRARY, max_seconds=0.5)
