from __future__ import annotations

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cynosure.observe.load import EngineLoad
from cynosure.observe.metrics import FINISHES, ServingMetrics
from cynosure.observe.process_metrics import ProcessMetrics, ProcessState
from tests.house.rules import ROOT

NAMES = {
    "cynosure_time_to_first_token_seconds": "histogram",
    "cynosure_time_per_output_token_seconds": "histogram",
    "cynosure_inter_token_latency_seconds": "histogram",
    "cynosure_e2e_request_latency_seconds": "histogram",
    "cynosure_request_queue_time_seconds": "histogram",
    "cynosure_request_prefill_time_seconds": "histogram",
    "cynosure_request_decode_time_seconds": "histogram",
    "cynosure_request_inference_time_seconds": "histogram",
    "cynosure_request_prompt_tokens": "histogram",
    "cynosure_request_generation_tokens": "histogram",
    "cynosure_num_preemptions": "counter",
    "cynosure_num_requests_running": "gauge",
    "cynosure_num_requests_waiting": "gauge",
    "cynosure_kv_cache_usage_perc": "gauge",
    "cynosure_prompt_tokens": "counter",
    "cynosure_generation_tokens": "counter",
    "cynosure_prefix_cache_hits": "counter",
    "cynosure_prefix_cache_queries": "counter",
    "cynosure_request_success": "counter",
}


def values(metrics: ServingMetrics) -> dict[str, float]:
    """Every sample, as `name{label=value}`."""
    found = {}
    for family in text_string_to_metric_families(metrics.written().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_every_instrument_of_a_loaded_model_is_there_before_its_first_request() -> None:
    metrics = ServingMetrics(lambda: {"tiny": EngineLoad(3, 2, 0.25, 640, 320)})
    families = {family.name: family for family in text_string_to_metric_families(metrics.written().decode())}
    assert {name: families[name].type for name in NAMES} == NAMES
    found = values(metrics)
    assert found["cynosure_num_requests_running{model_name=tiny}"] == 3
    assert found["cynosure_num_requests_waiting{model_name=tiny}"] == 2
    assert found["cynosure_kv_cache_usage_perc{model_name=tiny}"] == 0.25
    assert found["cynosure_prefix_cache_queries_total{model_name=tiny}"] == 640
    assert found["cynosure_prefix_cache_hits_total{model_name=tiny}"] == 320
    for finish in FINISHES:
        assert found[f"cynosure_request_success_total{{finished_reason={finish},model_name=tiny}}"] == 0


def test_an_answer_is_counted_and_timed() -> None:
    metrics = ServingMetrics()
    model = metrics.of_model("tiny")
    model.read(7)
    model.chose_first(0.3)
    model.chose_next(0.02)
    model.chose_next(0.04)
    model.finish("length", 0.36, 7, 3)
    model.went(queue_s=0.01, prefill_s=0.3, decode_s=0.06, num_preemptions=1)
    found = values(metrics)
    assert found["cynosure_prompt_tokens_total{model_name=tiny}"] == 7
    assert found["cynosure_generation_tokens_total{model_name=tiny}"] == 3
    assert found["cynosure_time_to_first_token_seconds_sum{model_name=tiny}"] == pytest.approx(0.3)
    assert found["cynosure_time_to_first_token_seconds_bucket{le=0.25,model_name=tiny}"] == 0
    assert found["cynosure_time_to_first_token_seconds_bucket{le=0.5,model_name=tiny}"] == 1
    assert found["cynosure_time_per_output_token_seconds_count{model_name=tiny}"] == 2
    assert found["cynosure_e2e_request_latency_seconds_sum{model_name=tiny}"] == pytest.approx(0.36)
    assert found["cynosure_request_success_total{finished_reason=length,model_name=tiny}"] == 1
    assert metrics.of_model("tiny") is model


def test_two_servers_do_not_count_each_other() -> None:
    one, other = ServingMetrics(), ServingMetrics()
    one.responded(200)
    assert values(one)["cynosure_http_responses_total{status=200}"] == 1
    assert "cynosure_http_responses_total{status=200}" not in values(other)


def test_the_load_is_read_when_asked() -> None:
    loads = {"tiny": EngineLoad()}
    metrics = ServingMetrics(lambda: loads)
    assert values(metrics)["cynosure_num_requests_running{model_name=tiny}"] == 0
    loads["tiny"] = EngineLoad(num_running=5)
    assert values(metrics)["cynosure_num_requests_running{model_name=tiny}"] == 5
    assert all(math.isfinite(value) for value in values(metrics).values())


def test_the_operator_s_page_names_every_metric_and_no_other() -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    metrics = ServingMetrics(lambda: {"tiny": EngineLoad()})
    metrics.watch(ProcessMetrics(lambda: ProcessState(True, 0)))
    metrics.responded(200)
    metrics.found("input", "card", "redact", 1)
    families = text_string_to_metric_families(metrics.written().decode())
    written = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in families
        if family.name.startswith("cynosure_") and not family.name.endswith("_created")
    }
    # Those of attention have a page of their own (test_deploy.py).
    named = {name for name in re.findall(r"`(cynosure_[a-z]\w+)", page) if "_attn_" not in name}
    assert named == written
