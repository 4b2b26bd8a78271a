"""Say what this machine has and what is missing. Repairs nothing."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path

from cynosure.cli.doctor_machine import machine, native_kernels
from cynosure.cli.doctor_packages import SERVED_BY, missing_extras, packages
from cynosure.cli.finding import Finding, Weight
from cynosure.cli.home import data_home

#: Late: it needs packages that may be what is missing.
_SERVER = "cynosure.cli.doctor_server"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what may differ from the defaults."""
    parser.add_argument("--port", type=int, default=8000, help="the port to try (8000)")
    parser.add_argument("--index-dir", type=Path, metavar="FOLDER", help="where the index lies")


def run(arguments: argparse.Namespace) -> int:
    """Print a line a finding; fail where something does not work."""
    findings = [*machine(), *native_kernels(), *packages()]
    if not SERVED_BY & missing_extras():
        folder = arguments.index_dir or data_home(os.environ) / "index"
        findings += importlib.import_module(_SERVER).serving(folder, arguments.port, os.environ)
    for finding in findings:
        print(finding.line)
    return _told(findings)


def _told(findings: list[Finding]) -> int:
    broken = sum(finding.weight is Weight.BROKEN for finding in findings)
    less = sum(finding.weight is Weight.LESS for finding in findings)
    if broken or less:
        print(f"{broken} of {len(findings)} do not work, {less} could be better.")
    else:
        print(f"All {len(findings)} are well.")
    return 1 if broken else 0
