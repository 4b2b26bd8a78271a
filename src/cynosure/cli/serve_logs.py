"""Read what is logged, and how, from options. Knows nothing of what happens."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping

from cynosure.observe import logs

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare format and level."""
    group = parser.add_argument_group("logs")
    group.add_argument("--log-format", choices=["text", "json"], default="text", help="of log lines (text)")
    group.add_argument(
        "--log-level",
        choices=list(LEVELS),
        help="lowest level that is logged; requests are info (warning for text, info for json)",
    )
    group.add_argument(
        "--log-content",
        action="store_true",
        help="also log the words of unexpected failures, which may quote requests",
    )


def configure_logs(arguments: argparse.Namespace) -> None:
    """Log to standard error as the options say."""
    handler = logging.StreamHandler()
    logs.configure(handler, arguments.log_format, level_of(arguments), with_content=arguments.log_content)


def level_of(arguments: argparse.Namespace) -> int:
    """The lowest level that is logged."""
    return LEVELS[arguments.log_level or ("info" if arguments.log_format == "json" else "warning")]
