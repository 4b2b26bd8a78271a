"""What options say of the auditor of citations."""

from __future__ import annotations

import argparse

import pytest

from cynosure.cli.serve_auditor import add_auditor_arguments, auditor_of
from cynosure.core.errors import InputError
from cynosure.insight.citing.auditor import AuditorSettings


def auditor(*given: str) -> AuditorSettings | None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_auditor_arguments(parser)
    return auditor_of(parser.parse_args(list(given)))


def test_two_answers_of_a_hundred_where_nothing_is_said() -> None:
    assert auditor() == AuditorSettings(share=0.02, is_late=False)


def test_all_or_none() -> None:
    assert auditor("--audit-share", "1", "--audit-late") == AuditorSettings(share=1.0, is_late=True)
    assert auditor("--audit-share", "0") is None


@pytest.mark.parametrize(
    "given", [["--audit-share", "1.1"], ["--audit-share", "-0.1"], ["--audit-share", "nan"]]
)
def test_what_is_no_share(given: list[str]) -> None:
    with pytest.raises(InputError, match="share of audited answers"):
        auditor(*given)


def test_how_where_nothing_is_tested() -> None:
    with pytest.raises(InputError, match="tests none"):
        auditor("--audit-share", "0", "--audit-late")
