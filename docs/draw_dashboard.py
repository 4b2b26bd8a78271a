"""Write the dashboard that Grafana imports. Knows nothing of what a server has counted.

    python docs/draw_dashboard.py

Panels stand in rows of three. Every metric of attention has one; a test compares names with those of
`/metrics`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

TARGET = Path(__file__).parents[1] / "deploy" / "grafana" / "cynosure.json"
_WIDTH, _HEIGHT, _A_ROW = 8, 8, 3
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_MODEL = 'model_name=~"$model"'


class Line(NamedTuple):
    """A query, and what its series are called."""

    query: str
    legend: str = "{{model_name}}"


class Panel(NamedTuple):
    """A chart: what it shows, in which unit of Grafana's, and whether series lie on each other."""

    title: str
    told: str
    unit: str
    lines: Sequence[Line]
    is_stacked: bool = False
    most: float | None = None


def rate(name: str, by: str = "model_name") -> str:
    """The sum of counters' growth in a second."""
    return f"sum by ({by}) (rate(cynosure_{name}{{{_MODEL}}}[$__rate_interval]))"


def mean(name: str, by: str = "model_name") -> str:
    """The mean of a histogram's values."""
    return f"{rate(f'{name}_sum', by)} / {rate(f'{name}_count', by)}"


def quantile(level: float, name: str) -> str:
    """A quantile of a histogram's values."""
    return f"histogram_quantile({level}, {rate(f'{name}_bucket', 'model_name, le')})"


def spread(name: str, *levels: float) -> list[Line]:
    """The mean and quantiles of a histogram's values."""
    lines = [Line(quantile(level, name), f"{{{{model_name}}}} p{level * 100:g}") for level in levels]
    return [Line(mean(name), "{{model_name}} mean"), *lines]


def gauge(name: str, legend: str = "{{model_name}}") -> list[Line]:
    """A gauge as it is."""
    return [Line(f"cynosure_{name}{{{_MODEL}}}", legend)]


SERVING = (
    Panel(
        "Answers by how they ended",
        "Answers a second; abort: the client left.",
        "reqps",
        [Line(rate("request_success_total", "finished_reason"), "{{finished_reason}}")],
        is_stacked=True,
    ),
    Panel("Time to the first token", "From arrival.", "s", spread("time_to_first_token_seconds", 0.5, 0.95)),
    Panel("Time per output token", "", "s", spread("time_per_output_token_seconds", 0.5, 0.95)),
    Panel("Whole answers", "From arrival to the end.", "s", spread("e2e_request_latency_seconds", 0.5, 0.95)),
    Panel(
        "Tokens",
        "Read and chosen, a second.",
        "short",
        [
            Line(rate("prompt_tokens_total"), "{{model_name}} read"),
            Line(rate("generation_tokens_total"), "{{model_name}} chosen"),
        ],
    ),
    Panel(
        "Requests under way",
        "",
        "short",
        [
            *gauge("num_requests_running", "{{model_name}} running"),
            *gauge("num_requests_waiting", "{{model_name}} waiting"),
        ],
    ),
    Panel(
        "Cache in use",
        "Share of pages that requests hold.",
        "percentunit",
        gauge("kv_cache_usage_perc"),
        most=1,
    ),
    Panel(
        "Prompt tokens found",
        "Share of full pages' tokens that the prefix cache had.",
        "percentunit",
        [Line(f"{rate('prefix_cache_hits_total')} / {rate('prefix_cache_queries_total')}")],
        most=1,
    ),
    Panel(
        "HTTP responses",
        "",
        "reqps",
        [Line("sum by (status) (rate(cynosure_http_responses_total[$__rate_interval]))", "{{status}}")],
        is_stacked=True,
    ),
    Panel(
        "Engine",
        "Up, and how often it was started again in an hour.",
        "short",
        [
            Line("cynosure_engine_up", "up"),
            Line("increase(cynosure_engine_restarts_total[1h])", "restarts in 1 h"),
        ],
    ),
    Panel(
        "Findings of the guard",
        "",
        "short",
        [
            Line(
                "sum by (kind, action) (rate(cynosure_guard_findings_total[$__rate_interval]))",
                "{{kind}} {{action}}",
            )
        ],
    ),
    Panel(
        "Memory of the server",
        "Of its own process, without the engine's.",
        "bytes",
        [Line("process_resident_memory_bytes", "resident")],
    ),
)
ATTENTION = (
    Panel(
        "Attended to, by role",
        "Share of attention that the parts of each role got, on average over watched answers.",
        "percentunit",
        [
            Line(
                f"{rate('attn_segment_mass_sum', 'role')} / ignoring(role) group_left "
                f"sum(rate(cynosure_attn_answers_total{{{_MODEL}}}[$__rate_interval]))",
                "{{role}}",
            )
        ],
        is_stacked=True,
        most=1,
    ),
    Panel(
        "Sink",
        "Where heads look that have nothing to tell.",
        "percentunit",
        spread("attn_sink_mass", 0.95),
        most=1,
    ),
    Panel(
        "Entropy", "In bits: how spread out attention was.", "none", spread("attn_entropy_bits", 0.05, 0.95)
    ),
    Panel(
        "Lookback",
        "The prompt's share of what went to prompt and answer.",
        "percentunit",
        spread("attn_lookback", 0.05),
        most=1,
    ),
    Panel(
        "Focus",
        "Trusted parts' share beside documents and tools, of answers with both.",
        "percentunit",
        spread("attn_focus", 0.05),
        most=1,
    ),
    Panel(
        "Grounding risk",
        "Largest of an answer's sentences; no score of truth.",
        "percentunit",
        [
            *spread("attn_risk", 0.95),
            Line(
                f"{rate('attn_risk_unknown_total')} / {rate('attn_answers_total')}", "{{model_name}} unknown"
            ),
        ],
    ),
    Panel(
        "Citations",
        "Given and audited, a second; audits that were given up, by reason.",
        "short",
        [
            Line(rate("attn_citations_total"), "{{model_name}} given"),
            Line(rate("attn_citation_audits_total"), "{{model_name}} audited"),
            Line(
                "sum by (reason) (rate(cynosure_attn_citation_audits_skipped_total[$__rate_interval]))",
                "skipped: {{reason}}",
            ),
        ],
    ),
    Panel(
        "Citations that held",
        "Share of audits in which the cited part mattered more than another; 1 at the alarm.",
        "percentunit",
        [
            *gauge("attn_citation_held_ratio", "{{model_name}} held"),
            *gauge("attn_citation_alarm", "{{model_name}} alarm"),
        ],
        most=1,
    ),
    Panel(
        "What citations are worth",
        "How much less likely a sentence is without what it cites, in nats on average.",
        "none",
        gauge("attn_citation_drop_nats"),
    ),
    Panel(
        "Watched",
        "Answers and tokens whose attention was watched, a second.",
        "short",
        [
            Line(rate("attn_answers_total"), "{{model_name}} answers"),
            Line(rate("attn_tokens_total"), "{{model_name}} tokens"),
        ],
    ),
    Panel(
        "What watching costs answers",
        "Seconds in which answers waited for what keeps and counts, by second; and reports dropped.",
        "short",
        [
            Line(
                "sum by (sink) (rate(cynosure_attn_capture_seconds_total[$__rate_interval]))", "{{sink}} s/s"
            ),
            Line(
                "sum by (sink) (rate(cynosure_attn_capture_drops_total[$__rate_interval]))",
                "{{sink}} dropped",
            ),
        ],
    ),
)
DRIFT = (
    Panel(
        "Drift: largest chart",
        "In shares of the limit; at 1 there is an alarm. /v1/drift says of what.",
        "percentunit",
        gauge("attn_drift_statistic"),
    ),
    Panel(
        "Drift: alarms",
        "Under way, and found in a day.",
        "short",
        [
            *gauge("attn_drift_alarm", "{{model_name}} now"),
            Line(f"increase(cynosure_attn_drift_alarms_total{{{_MODEL}}}[1d])", "{{model_name}} in 1 d"),
        ],
    ),
    Panel(
        "Drift: PSI by feature",
        "Over the last 200 answers. Below 0.1 nothing, from 0.25 much; it raises no alarm.",
        "none",
        gauge("attn_drift_psi", "{{model_name}} {{feature}}"),
    ),
)


def drawn(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    """A panel as Grafana has it."""
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal" if panel.is_stacked else "none"}}
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0, "custom": custom}
    if panel.most is not None:
        defaults["max"] = panel.most
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.told,
        "datasource": _SOURCE,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _SOURCE,
                "expr": line.query,
                "legendFormat": line.legend,
            }
            for at, line in enumerate(panel.lines)
        ],
    }


def dashboard() -> dict[str, Any]:
    """All of it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, group in (("Serving", SERVING), ("Attended to", ATTENTION), ("Drift", DRIFT)):
        place = {"h": 1, "w": _WIDTH * _A_ROW, "x": 0, "y": y}
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": place,
                "panels": [],
            }
        )
        y += 1
        for at, panel in enumerate(group):
            x = at % _A_ROW * _WIDTH
            panels.append(drawn(panel, len(panels) + 1, x, y + at // _A_ROW * _HEIGHT))
        y += -(-len(group) // _A_ROW) * _HEIGHT
    source = {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}
    model = {
        "name": "model",
        "type": "query",
        "label": "Model",
        "datasource": _SOURCE,
        "query": "label_values(cynosure_prompt_tokens_total, model_name)",
        "includeAll": True,
        "multi": True,
        "refresh": 2,
        "current": {"text": "All", "value": "$__all"},
    }
    return {
        "title": "Cynosure",
        "uid": "cynosure",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "tags": ["cynosure"],
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": [source, model]},
        "panels": panels,
    }


def main() -> None:
    """Write it."""
    TARGET.write_text(json.dumps(dashboard(), indent=1) + "\n")


if __name__ == "__main__":
    main()
