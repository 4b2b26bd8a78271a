"""Figures: a page shows what the results say, and a wrong digit or a missing result is a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.core.errors import InputError, NotFound
from cynosure.evaluate.figures import check_page, compute, fill_figures, find_figures, main
from cynosure.evaluate.results import write_result

PAGE = """# Search
MRR@10 is <!-- figure: docs_search.mrr10 .3f -->?<!-- /figure -->, of BM25
<!-- figure: docs_search.by.bm25 .1% -->?<!-- /figure -->
over <!-- figure: docs_search.n d -->?<!-- /figure -->.

<!-- table: parity .1e | Architecture | Largest error -->
<!-- /table -->
"""
FILLED = """# Search
MRR@10 is <!-- figure: docs_search.mrr10 .3f -->0.512<!-- /figure -->, of BM25
<!-- figure: docs_search.by.bm25 .1% -->31.0%<!-- /figure -->
over <!-- figure: docs_search.n d -->60<!-- /figure -->.

<!-- table: parity .1e | Architecture | Largest error -->
| Architecture | Largest error |
| --- | ---: |
| gpt2 | 1.5e-06 |
| llama | 2.0e-05 |
<!-- /table -->
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    metrics = {"mrr10": 0.5123, "n": 60, "by": {"bm25": 0.31, "embedder": 0.39}}
    write_result("docs_search", metrics, "python evals/docs_search.py --write", folder)
    write_result("parity", {"gpt2": 1.5e-6, "llama": 2e-5}, "make test", folder)
    write_result("laws", {"sdpa": {"fp32": 1e-6, "n": 9}, "flex": {"fp32": 2e-6}}, "make test", folder)
    return folder


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(FILLED)
    return path


def test_figures_and_tables_are_filled_and_filling_again_changes_nothing(results: Path) -> None:
    assert fill_figures(PAGE, results) == FILLED
    assert fill_figures(FILLED, results) == FILLED


def test_a_page_that_agrees_passes(page: Path, results: Path) -> None:
    assert check_page(page, results) == []
    assert len(find_figures(FILLED, results)) == 4


@pytest.mark.parametrize(
    ("right", "wrong"), [("0.512", "0.513"), ("31.0%", "32.0%"), ("2.0e-05", "2.0e-06"), ("60<", "61<")]
)
def test_a_wrong_digit_fails(page: Path, results: Path, right: str, wrong: str) -> None:
    page.write_text(FILLED.replace(right, wrong))
    (fault,) = check_page(page, results)
    assert "make docs" in fault
    assert f"{page}:" in fault


def test_a_result_that_changed_fails_until_the_page_is_written(page: Path, results: Path) -> None:
    write_result("parity", {"gpt2": 1.6e-6, "llama": 2e-5}, "make test", results)
    assert main(["--check", "--results", str(results), str(page)]) == 1
    assert main(["--write", "--results", str(results), str(page)]) == 0
    assert main(["--check", "--results", str(results), str(page)]) == 0
    assert "1.6e-06" in page.read_text()


def test_a_missing_result_fails_and_leaves_the_page_alone(page: Path, results: Path) -> None:
    (results / "parity.json").unlink()
    assert "does not exist" in check_page(page, results)[0]
    assert main(["--write", "--results", str(results), str(page)]) == 1
    assert page.read_text() == FILLED


@pytest.mark.parametrize(
    "text",
    [
        "<!-- figure: docs_search.mrr10 .3f -->0.512",
        "0.512<!-- /figure -->",
        "<!-- figure: docs_search.mrr10 .3f -->0.5 and <!-- figure: docs_search.n d -->60<!-- /figure -->",
        "<!-- figure: docs_search.mrr10 .3f -->0.512<!-- /table -->",
    ],
)
def test_half_a_marker_is_an_error_and_swallows_nothing(results: Path, text: str) -> None:
    with pytest.raises(InputError, match="one half only"):
        fill_figures(text, results)


def test_code_shows_the_syntax_without_being_filled(results: Path) -> None:
    text = "`<!-- figure: no.such -->`\n\n```\n<!-- table: no.such -->\n```\n"
    assert fill_figures(text, results) == text


@pytest.mark.parametrize(
    ("ask", "shown"),
    [
        ("docs_search@command", "python evals/docs_search.py --write"),
        ("docs_search@metrics.n", "60"),
        ("docs_search.by.embedder .2f", "0.39"),
    ],
)
def test_a_path_leads_through_the_metrics_or_the_record(results: Path, ask: str, shown: str) -> None:
    assert compute("figure", ask, results) == shown


def test_a_nested_mapping_gets_a_column_each(results: Path) -> None:
    assert compute("table", "laws .0e", results) == (
        "\n|  | fp32 | n |\n| --- | ---: | ---: |\n| sdpa | 1e-06 | 9 |\n| flex | 2e-06 | not measured |\n"
    )


@pytest.mark.parametrize(
    ("kind", "ask", "message"),
    [
        ("figure", "docs_search.mrr .3f", "at 'mrr' there is mrr10, n, by"),
        ("figure", "docs_search.mrr10.x .3f", "at 'x' there is 0.5123"),
        ("figure", "docs_search.by .3f", "is a mapping of bm25, embedder"),
        ("figure", "docs_search.mrr10 .3q", "does not take the format"),
        ("figure", "Docs Search is great", "is not understood"),
        ("table", "docs_search.n d", "single value"),
        ("table", "docs_search", "mixes"),
        ("table", "parity .1e | one | two | three", "3 headings"),
    ],
)
def test_an_unusable_marker_says_what_is_wrong(results: Path, kind: str, ask: str, message: str) -> None:
    with pytest.raises((InputError, NotFound), match=message):
        compute(kind, ask, results)


def test_a_page_that_does_not_exist_is_said(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--check", "--results", str(results), "absent.md"])
    assert "no such page: absent.md" in capsys.readouterr().err
