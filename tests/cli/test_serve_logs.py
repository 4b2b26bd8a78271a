from __future__ import annotations

import argparse
import logging

import pytest

from cynosure.cli.serve_logs import add_log_arguments, configure_logs
from cynosure.observe.logs import JsonLines, TextLines
from tests.observe.test_logs import bare_root


@pytest.mark.parametrize(
    ("words", "formatter", "level"),
    [
        ([], TextLines, logging.WARNING),
        (["--log-format", "json"], JsonLines, logging.INFO),
        (["--log-format", "json", "--log-level", "error"], JsonLines, logging.ERROR),
        (["--log-level", "debug"], TextLines, logging.DEBUG),
    ],
)
def test_what_is_logged_is_said_by_options(
    words: list[str], formatter: type[logging.Formatter], level: int
) -> None:
    parser = argparse.ArgumentParser()
    add_log_arguments(parser)
    with bare_root() as root:
        configure_logs(parser.parse_args(words))
        assert root.level == level
        [handler] = root.handlers
        assert isinstance(handler.formatter, formatter)
