"""Count which tests that stock clients and tools drive pass, by client and tool.

python evals/conformance.py [--write] [-k EXPRESSION]

A test belongs to each client that its file imports. Nothing is counted that did not run: a client without a
passed test, or a test that was skipped, is a failure of the evaluation.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path

from cynosure.evaluate.results import write_result

ROOT = Path(__file__).parents[1]
CLIENTS = ("openai", "anthropic", "cohere", "lm_eval", "schemathesis")


def clients_of(file: Path) -> set[str]:
    """The clients that a test file drives: imported, or run as a command by its name."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names.intersection(CLIENTS)


def count(report: Path, driven: Mapping[str, set[str]]) -> dict[str, dict[str, int]]:
    """Passed, failed and skipped tests by client, of a report in JUnit's format."""
    counts = {client: {"passed": 0, "failed": 0, "skipped": 0} for client in CLIENTS}
    for case in ElementTree.parse(report).iter("testcase"):
        outcome = "passed"
        if case.find("skipped") is not None:
            outcome = "skipped"
        if case.find("failure") is not None or case.find("error") is not None:
            outcome = "failed"
        for client in driven[case.attrib["file"]]:
            counts[client][outcome] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-k", metavar="EXPRESSION", help="only these tests, as for pytest")
    parser.add_argument("--write", action="store_true", help="write results/conformance.json")
    options = parser.parse_args()
    if options.write and options.k:
        parser.error("--write counts all tests: leave -k out")
    files = {str(path.relative_to(ROOT)): clients_of(path) for path in sorted(ROOT.glob("tests/*/test_*.py"))}
    driven = {name: clients for name, clients in files.items() if clients}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not browser",
            "-o", "junit_family=xunit1", f"--junitxml={report}", *(["-k", options.k] if options.k else []),
            *driven,
        ]  # fmt: skip
        subprocess.run(command, cwd=ROOT, check=False)
        counts = count(report, driven)
    for client, outcomes in counts.items():
        print(f"{client:14}" + "".join(f"  {outcome} {number:4}" for outcome, number in outcomes.items()))
    if options.write:
        print(write_result("conformance", counts, "python evals/conformance.py --write", ROOT / "results"))
    is_whole = all(one["passed"] and not one["failed"] and not one["skipped"] for one in counts.values())
    return 0 if is_whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
