from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.text import Span

from cynosure.cli.ask import marked
from cynosure.cli.main import main
from cynosure.server.schemas.ask import AskResponse
from cynosure.server.services import Attended, Highlight

MERGE = "how do I merge sorted iterables"


@pytest.fixture(autouse=True)
def _without_a_ranker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cynosure.cli.documentation.packed_ranker", lambda: None)


def test_quotes_are_printed_plain_where_nobody_looks(
    index_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", MERGE, "--index-dir", str(index_folder), "--max-results", "1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("heapq.merge(*iterables, key=None, reverse=False)  (function, score 0.")
    assert "  │ Merge multiple sorted inputs into a single sorted output.\n" in said
    # Verbatim, however wide: a terminal's width is not a docstring's.
    assert "  │     Similar to sorted(itertools.chain(*iterables)) but returns a generator,\n" in said
    assert "of its docstring" in said
    assert "\x1b" not in said


def test_json_is_what_the_server_answers(index_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", MERGE, "--index-dir", str(index_folder), "--json"]) == 0
    answer = AskResponse.model_validate(json.loads(capsys.readouterr().out))
    assert answer.answered
    assert answer.quotes[0].object == "heapq.merge"
    assert answer.quotes[0].attended


def test_nothing_fits_is_an_answer(index_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "which sourdough flour rises best", "--index-dir", str(index_folder)]) == 0
    assert capsys.readouterr().out.startswith("The documents do not say.\nThe best passage scores 0.")


@pytest.mark.parametrize(("question", "words"), [("", "empty"), ("x" * 10**6, "limit is 2000")])
def test_what_can_not_be_asked(
    index_folder: Path, question: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ask", question, "--index-dir", str(index_folder)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert words in said


def test_search_lists_every_score(index_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "sourdough", "--index-dir", str(index_folder), "--max-results", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main(["search", MERGE, "--index-dir", str(index_folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["object"] == "heapq.merge"


def test_words_are_styled_by_what_they_got() -> None:
    text = marked("[bold]a b c", (Attended(0, 6, 0.1), Attended(7, 8, 0.4), Attended(9, 10, 1.0)))
    assert text.plain == "[bold]a b c"
    assert text.spans == [Span(7, 8, "underline"), Span(9, 10, "bold underline")]
    answers = marked("a b c", (Attended(0, 1, 1.0),), Highlight(2, 5))
    assert answers.spans == [Span(2, 5, "bold"), Span(0, 1, "bold underline")]


def test_the_index_says_what_it_holds(
    index_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "status", "--index-dir", str(index_folder)]) == 0
    assert "objects" in capsys.readouterr().out
    assert main(["index", "status", "--index-dir", str(tmp_path)]) == 1
    assert "cynosure index build" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
