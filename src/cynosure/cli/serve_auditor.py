"""Read from options which share of citations is put to the test. Tests none itself."""

from __future__ import annotations

import argparse

from cynosure.core.errors import InputError
from cynosure.insight.citing.auditor import AuditorSettings

DEFAULT = AuditorSettings()


def add_auditor_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how many answers the auditor of citations tests, and how."""
    group = parser.add_argument_group("auditor of citations")
    group.add_argument(
        "--audit-share",
        type=float,
        default=DEFAULT.share,
        metavar="SHARE",
        help="share of watched answers of which a citation is tested while nobody is served, by taking away "
        f"what it cites; 0 tests none ({DEFAULT.share:g})",
    )
    group.add_argument(
        "--audit-late",
        action="store_true",
        help="hide what is cited from the sentence alone, and do not read the prompt again: cheap, and blind "
        "to what the rest of the prompt has absorbed",
    )


def auditor_of(arguments: argparse.Namespace) -> AuditorSettings | None:
    """What is audited; None where nothing is.

    Raises:
        InputError: the share is none, or `--audit-late` is in vain.
    """
    if arguments.audit_share == 0:
        if arguments.audit_late:
            raise InputError("--audit-late says how citations are tested, and --audit-share 0 tests none.")
        return None
    return AuditorSettings(share=arguments.audit_share, is_late=arguments.audit_late)
