"""Schemathesis asks the live server what its own description allows, and what it forbids.

Every phase but the stateful one, with data that the schema allows and data that it does not: no failure of
ours, no answer that is not declared, nothing accepted that is forbidden, nothing refused that is allowed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.house.rules import ROOT
from tests.server.served_tiny import CHAT, EMBEDDER, LABELS, RANKER, STORE, served_apart

#: The refusals that count as such where a request breaks the schema.
CONFIG = """
[checks]
positive_data_acceptance.enabled = false
negative_data_rejection.expected-statuses = ["400", "401", "403", "404", "405", "413", "415", "422", "429"]

# A part of a form is bytes, whatever they say: none is of a wrong type.
[[operations]]
include-name = "POST /v1/files"
checks.negative_data_rejection.enabled = false
"""
#: Which models an address is asked for; the others converse.
MODELS = {
    "/v1/embeddings": [EMBEDDER],
    "/v1/rerank": [RANKER, EMBEDDER],
    "/v2/rerank": [RANKER, EMBEDDER],
    "/score": [RANKER],
    "/v1/score": [RANKER],
    "/v1/decisions": [CHAT, LABELS],
}
#: They name what nobody guesses: `tests/cli/test_serve_adapters.py` loads and unloads folders for real, and
#: `tests/server/test_files.py` fills stores and changes them.
UNGUESSED = (
    "POST /v1/load_lora_adapter",
    "POST /v1/unload_lora_adapter",
    "POST /v1/vector_stores/{store_id}",
    "POST /v1/vector_stores/{store_id}/files",
    "POST /v1/vector_stores/{store_id}/files/{file_id}",
    "POST /v1/vector_stores/{store_id}/file_batches",
)
#: What takes longest is apart, so that several processes share the work.
GROUPS = {
    "chat": r"^/v1/chat/",
    "responses": r"^/v1/responses",
    "messages": r"^/v1/messages",
    "others": r"^/(?!v1/chat/|v1/responses|v1/messages)",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tiny")
    with served_apart(folder) as address:
        yield address


@pytest.fixture(scope="module")
def description(url: str) -> dict[str, Any]:
    """The server's own, narrowed to names that exist here, so that requests reach what is behind them."""
    document = httpx.get(f"{url}/openapi.json").json()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if path.endswith("/search") and parameter["name"] == "store_id":
                    parameter["schema"] = {"enum": [STORE]}
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                _narrow(document, path, content["application/json"])
    return document


def _narrow(document: dict[str, Any], path: str, content: dict[str, Any]) -> None:
    narrow: dict[str, dict[str, Any]] = {
        "model": {"enum": MODELS.get(path, [CHAT])},
        # Short answers, and no deadline that a busy machine would miss.
        "max_tokens": {"enum": [1, 2, None] if path != "/v1/messages" else [1, 2]},
        "max_output_tokens": {"enum": [1, 2, None]},
        "deadline_ms": {"enum": [None, 600_000]},
        # Bounds of 64 bits are not exact where they are compared as floats.
        "seed": {"type": ["integer", "null"], "minimum": -9, "maximum": 9},
    }
    properties = document["components"]["schemas"][content["schema"]["$ref"].rpartition("/")[2]]["properties"]
    for name in narrow.keys() & properties.keys():
        properties[name] = narrow[name]
    for example in content.get("examples", {}).values():
        if "model" in example["value"]:
            example["value"]["model"] = MODELS.get(path, [CHAT])[0]
        for name in {"max_tokens", "max_output_tokens"} & example["value"].keys():
            example["value"][name] = 2


def run(url: str, document: dict[str, Any], folder: Path, phases: str, *options: str) -> tuple[int, str]:
    """Exit status and words of a run."""
    described, config = folder / "openapi.json", folder / "schemathesis.toml"
    described.write_text(json.dumps(document))
    config.write_text(CONFIG)
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(config),
        "run", str(described), "--url", url, "--phases", phases, "--mode", "all",
        "--max-examples", "5", "--seed", "1", "--no-shrink", "--continue-on-failure",
        "--suppress-health-check", "all", "--generation-database", "none", "--output-sanitize", "false",
        "--report", "ndjson", "--report-ndjson-path", str(folder / "events.ndjson"), *options,
    ]  # fmt: skip
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.server.openapi_checks", "PYTHONPATH": paths}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=170, check=False, env=environment, cwd=folder
    )
    return done.returncode, done.stdout + done.stderr


def statuses(folder: Path) -> dict[str, Counter[int]]:
    """How often each operation answered with each status."""
    counted: dict[str, Counter[int]] = {}

    def count(node: object, label: str) -> None:
        if isinstance(node, dict):
            label = node["label"] if isinstance(node.get("label"), str) else label
            if "status_code" in node:
                counted.setdefault(label, Counter())[node["status_code"]] += 1
            for value in node.values():
                count(value, label)
        elif isinstance(node, list):
            for value in node:
                count(value, label)

    for line in (folder / "events.ndjson").read_text().splitlines():
        count(json.loads(line), "")
    return counted


def test_the_description_is_true_of_a_few_requests(
    url: str, description: dict[str, Any], tmp_path: Path
) -> None:
    status, words = run(url, description, tmp_path, "examples,fuzzing")
    assert status == 0, _shown(words)


@pytest.mark.conformance
@pytest.mark.parametrize("group", GROUPS)
def test_the_description_is_true(url: str, description: dict[str, Any], tmp_path: Path, group: str) -> None:
    options = ("--include-path-regex", GROUPS[group])
    status, words = run(url, description, tmp_path, "examples,coverage,fuzzing", *options)
    assert status == 0, _shown(words)
    counted = statuses(tmp_path)
    posts = [label for label in counted if label.startswith("POST")]
    assert posts
    for label in posts:
        # Reached and refused, both: nothing is shown by requests that all fail.
        assert counted[label][200] or label in UNGUESSED, (label, counted[label])
        assert counted[label][400], (label, counted[label])


def _shown(words: str) -> str:
    """Without the bodies, which may have megabytes."""
    return "\n".join(line[:400] for line in words.splitlines() if line.strip())


def test_every_operation_belongs_to_one_group(description: dict[str, Any]) -> None:
    for path in description["paths"]:
        assert sum(bool(re.search(pattern, path)) for pattern in GROUPS.values()) == 1, path


@pytest.mark.parametrize("lie", ["forbids_what_is_served", "allows_what_is_refused"])
def test_a_lie_is_found(url: str, description: dict[str, Any], tmp_path: Path, lie: str) -> None:
    """The positive control: a field that is described wrongly, either way, fails the run."""
    document = json.loads(json.dumps(description))
    properties = document["components"]["schemas"]["AskRequest"]["properties"]
    maximum = {"forbids_what_is_served": 2, "allows_what_is_refused": 99}[lie]
    properties["max_results"] = {"type": "integer", "minimum": 1, "maximum": maximum}
    status, words = run(url, document, tmp_path, "examples,coverage,fuzzing", "--include-path", "/v1/ask")
    assert status == 1, words
    assert ("Schema-violating request accepted" if maximum == 2 else "no_schema_lie") in words
