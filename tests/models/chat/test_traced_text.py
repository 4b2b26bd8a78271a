"""Test that text remembers where it came from, whatever is done to it. Knows nothing of templates."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.models.chat.traced_text import Run, Traced, computed, concat, written

TEXT = st.text(alphabet="ab \n|<é🙂", max_size=12)
SMALL = st.text(alphabet="ab \n|", max_size=2)


def made(text: str, source: int = 0) -> Traced:
    return Traced(text, [Run(0, len(text), source, 0)] if text else [])


def check(result: str, *sources: str) -> None:
    """Every run that says where it is from is right about it."""
    runs = result.runs if isinstance(result, Traced) else ()
    end = 0
    for run in runs:
        assert end <= run.start < run.end <= len(result)
        end = run.end
        if run.offset is not None:
            source = sources[run.source]
            assert (
                source[run.offset : run.offset + run.end - run.start]
                == str.__str__(result)[run.start : run.end]
            )


METHODS: dict[str, Callable[[str, str], object]] = {
    "strip": lambda text, _: text.strip(),
    "strip of": lambda text, other: text.strip(other),
    "lstrip": lambda text, other: text.lstrip(other),
    "rstrip": lambda text, _: text.rstrip(),
    "split": lambda text, _: text.split(),
    "split of": lambda text, other: text.split(other or "x"),
    "split once": lambda text, other: text.split(other or "x", 1),
    "rsplit": lambda text, _: text.rsplit(None, 1),
    "rsplit of": lambda text, other: text.rsplit(other or "x", 1),
    "lines": lambda text, _: text.splitlines(),
    "whole lines": lambda text, _: text.splitlines(True),
    "partition": lambda text, other: text.partition(other or "x"),
    "rpartition": lambda text, other: text.rpartition(other or "x"),
    "prefix": lambda text, other: text.removeprefix(other),
    "suffix": lambda text, other: text.removesuffix(other),
    "replace": lambda text, other: text.replace("a", other),
    "replace nothing": lambda text, other: text.replace("", other),
    "replace one": lambda text, other: text.replace("a", other, 1),
    "add": lambda text, other: text + other,
    "add before": lambda text, other: other + text,
    "slice": lambda text, other: text[len(other) : -1],
    "backwards": lambda text, _: text[::-1],
    "last": lambda text, _: text[-1:] and text[-1],
    "letters": lambda text, _: list(text),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@given(TEXT, SMALL)
def test_methods_give_what_plain_strings_give(
    method: Callable[[str, str], object], text: str, other: str
) -> None:
    got, wanted = method(made(text), made(other, 1)), method(text, other)
    assert got == wanted
    for part in got if isinstance(got, (list, tuple)) else [got]:
        assert isinstance(part, str)
        check(part, text, other)
        # Nothing that a caller wrote gets lost: both strings are traced whole.
        covered = sum(run.end - run.start for run in part.runs) if isinstance(part, Traced) else 0
        assert covered == len(part)


@given(st.lists(TEXT, max_size=4))
def test_parts_keep_their_origin(texts: list[str]) -> None:
    result = concat([part for number, text in enumerate(texts) for part in ("#", made(text, number))])
    assert result == "".join(f"#{text}" for text in texts)
    check(result, *texts)


@pytest.mark.parametrize(
    ("function", "wanted", "runs"),
    [
        (lambda text: "%s-%s" % (text, text), "ab-ab", [(0, 2, 0), (3, 5, 0)]),  # noqa: UP031
        (lambda text: "<{}>".format(text), "<ab>", [(1, 3, 0)]),  # noqa: UP032
        (lambda text: text.upper(), "AB", [(0, 2, None)]),
        (lambda text: text.center(6), "  ab  ", [(0, 6, None)]),
        (lambda text: text * 2, "abab", [(0, 2, 0), (2, 4, 0)]),
    ],
)
def test_what_is_computed_is_traced(
    function: Callable[[str], str], wanted: str, runs: list[tuple[int, int, int | None]]
) -> None:
    result = computed(function, made("ab"))
    assert result == wanted
    assert isinstance(result, Traced)
    assert [(run.start, run.end, run.offset) for run in result.runs] == runs


def test_what_no_caller_wrote_is_plain() -> None:
    assert type(computed(str.upper, "ab")) is str
    assert type(concat(["a", "b"])) is str
    assert type(written(3)) is int
    assert computed(len, made("ab")) == 2
    assert type(computed(lambda text: "x" if text else "", made("ab"))) is str


def test_lists_are_written_with_their_traces() -> None:
    result = written(["x", made("ab")])
    assert result == "['x', 'ab']"
    assert isinstance(result, Traced)
    assert [(run.start, run.end) for run in result.runs] == [(7, 9)]
