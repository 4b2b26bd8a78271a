"""Read where references of drift are kept, and check them before anybody is served. Compares nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cynosure.cli.assembly import ServeOptions
from cynosure.insight.drift.drift_features import watched_digest
from cynosure.server.answers.attention import default_choice
from cynosure.server.attended.drift_board import DriftBoard
from cynosure.server.attended.sentinels import SentinelPrompt, read_sentinels
from cynosure.server.runtime import Load, Report
from cynosure.server.services import Services


def add_drift_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the folder."""
    group = parser.add_argument_group("drift of what answers attended to")
    group.add_argument(
        "--drift-sentinels",
        type=Path,
        metavar="FILE",
        help="conversations of your own, a line each, that are asked again and again: what is computed "
        "otherwise shows in them at once",
    )
    group.add_argument(
        "--drift",
        type=Path,
        metavar="FOLDER",
        help="watch all answers, and compare them with the references that `cynosure drift freeze` puts here",
    )


def with_drift(options: ServeOptions, arguments: argparse.Namespace) -> ServeOptions:
    """The same options, that watch every answer where answers are compared."""
    if arguments.drift is None:
        return options
    return replace(options, insight=replace(options.insight, is_always=True))


def drift_of(arguments: argparse.Namespace) -> DriftBoard:
    """What compares answers; without a folder it keeps references as long as it runs.

    Raises:
        InputError: a file in the folder can't be used.
    """
    return DriftBoard(None if arguments.drift is None else arguments.drift.expanduser())


def sentinels_of(arguments: argparse.Namespace) -> tuple[SentinelPrompt, ...]:
    """What is asked again; nothing without a file.

    Raises:
        InputError: it can't be read, or a line of it is no conversation.
    """
    file = arguments.drift_sentinels
    return () if file is None else read_sentinels(file.expanduser())


def checked(load: Load, board: DriftBoard) -> Callable[[Report], Services]:
    """The same load, which fails where a reference is of no model here, or of heads that are not watched."""

    def loaded(report: Report) -> Services:
        services = load(report)
        try:
            board.check(_heads(services))
        except BaseException:
            services.close()
            raise
        return services

    return loaded


def _heads(services: Services) -> dict[str, str]:
    return {
        name: watched_digest(model.watching.choice or default_choice(model.watchable))
        for name, model in services.completers.items()
        if model.watchable is not None
    }
