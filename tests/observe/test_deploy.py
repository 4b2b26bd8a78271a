"""The dashboard and the alert rules ask for metrics that are there, and all of attention are shown."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cynosure.observe.attention_metrics import AnswerNumbers, AttentionMetrics, DriftNumbers
from cynosure.observe.audit_metrics import AuditMetrics, AuditNumbers, AuditState
from cynosure.observe.load import EngineLoad
from cynosure.observe.metrics import ServingMetrics
from cynosure.observe.process_metrics import ProcessMetrics, ProcessState
from tests.house.rules import ROOT

DASHBOARD = ROOT / "deploy" / "grafana" / "cynosure.json"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
_NAME = re.compile(r"\b(?:cynosure|process)_[a-z_]+\b")
_PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(_PROMTOOL is None, reason="promtool is of Debian's package prometheus")


@pytest.fixture(scope="module")
def written() -> set[str]:
    """The names of all samples of a server that has answered."""
    serving, attention = (
        ServingMetrics(lambda: {"m": EngineLoad()}),
        AttentionMetrics(lambda: {"m": DriftNumbers(False, 0, 0.0, {"entropy": 0.0})}),
    )
    serving.watch(attention)
    serving.watch(ProcessMetrics(lambda: ProcessState(True, 0)))
    serving.watch(AuditMetrics(lambda: AuditState({"m": AuditNumbers(9, 0.5, 0.1, False)}, {"busy": 1})))
    attention.answered("m", AnswerNumbers(1, {"user": 1.0}, 1.0, 1.0, 1.0, 1.0))
    attention.took("Desk", 0.1, 0)
    serving.responded(200)
    serving.found("input", "card", "mask", 1)
    families = text_string_to_metric_families(serving.written().decode())
    return {sample.name for family in families for sample in family.samples}


def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_dashboard", ROOT / "docs" / "draw_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def panel_queries() -> Iterator[str]:
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def rules() -> list[dict[str, object]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def asked(queries: Iterator[str]) -> set[str]:
    return {name for query in queries for name in _NAME.findall(query)}


def test_the_dashboard_is_what_its_command_draws() -> None:
    assert json.loads(DASHBOARD.read_text()) == drawing().dashboard(), "run python docs/draw_dashboard.py"


def test_panels_lie_apart_and_have_numbers_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_what_is_asked_for_is_there(written: set[str]) -> None:
    missing = asked(panel_queries()) - written
    assert not missing
    assert not asked(str(rule["expr"]) for rule in rules()) - written
    # The comparison can fail.
    assert asked(iter(["cynosure_attn_no_such_thing > 0"])) - written


def test_every_metric_of_attention_is_shown(written: set[str]) -> None:
    def families(names: set[str]) -> set[str]:
        return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names if "_attn_" in name}

    assert families(written) == families(asked(panel_queries()))


def test_the_page_names_every_metric_of_attention_and_no_other(written: set[str]) -> None:
    page = (ROOT / "docs" / "drift.md").read_text()
    told = {re.sub(r"_(bucket|sum|count)$", "", name) for name in written if "_attn_" in name}
    assert set(re.findall(r"`(cynosure_attn_\w+)", page)) == told


def test_rules_say_what_a_person_needs() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names) >= 10
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"] in ({"severity": "warning"}, {"severity": "critical"})
        assert str(dict(rule["annotations"])["summary"]).endswith(".")  # type: ignore[call-overload]


def test_every_rule_has_a_test_of_its_own() -> None:
    tests = yaml.safe_load(RULES.with_name("rules_test.yml").read_text())["tests"]
    fired = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one.get("exp_alerts")}
    assert fired == {rule["alert"] for rule in rules()}


@needs_promtool
def test_prometheus_takes_the_rules_and_they_fire() -> None:
    for command in (["check", "rules", RULES.name], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run([str(_PROMTOOL), *command], cwd=RULES.parent, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = [query.replace("$__rate_interval", "5m").replace("$model", ".*") for query in panel_queries()]

    def check(all_queries: list[str]) -> int:
        made = [{"record": f"panel:{at}", "expr": query} for at, query in enumerate(all_queries)]
        path = tmp_path / "queries.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}))
        return subprocess.run([str(_PROMTOOL), "check", "rules", str(path)], capture_output=True).returncode

    assert check(queries) == 0
    assert check([*queries, "sum by (("]) != 0
