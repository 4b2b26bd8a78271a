"""Put the figures of insight into one file, with the baselines beside them. Measures nothing.

    python -m evals.insight [--write]

Each part is measured by a command of its own, which its file in results/ names: masses and provenance
(`insight_masses`), watching's price (`insight_watching`), a trace's size and canaries (`insight_traces`),
planted tasks (`insight_citations`, `insight_auditor`, `insight_risk`, `insight_focus`), the documentation
(`insight_docs`), head profiles, drift and the page. A part that was not measured is named, and nothing is
written then.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from cynosure.core.errors import CynosureError
from cynosure.evaluate.results import read_result, write_result

#: A name here: the part it is of, and its path there; `""` is the whole part.
FIGURES: Mapping[str, tuple[str, str]] = {
    "mass_max_error": ("insight_masses", "mass_max_error"),
    "mass_control_min": ("insight_masses", "mass_control_min"),
    "num_prompts": ("insight_masses", "num_prompts"),
    "num_prompt_tokens": ("insight_masses", "num_prompt_tokens"),
    "provenance_faults": ("insight_masses", "provenance_faults"),
    "overhead_tpot": ("insight_watching", "overhead_tpot"),
    "overhead_off": ("insight_watching", "off_overhead"),
    "bytes_per_token": ("insight_traces", "bytes_per_token"),
    "bytes_per_token_worst": ("insight_traces", "bytes_per_token_worst"),
    "canaries_found": ("insight_traces", "canaries_found"),
    "canaries_control_found": ("insight_traces", "canaries_control_found"),
    "cross_tenant_told": ("insight_traces", "cross_tenant_told"),
    "citation_top1": ("insight_citations", "citation_top1"),
    "citation_gain_over_mean": ("insight_citations", "citation_gain_over_mean"),
    "abstains": ("insight_citations", "abstains"),
    "citations": ("insight_citations", ""),
    "docs_citations": ("insight_docs", "ways"),
    "auditor_spearman": ("insight_auditor", "auditor_spearman"),
    "alarm_audits_max": ("insight_auditor", "alarm_audits_max"),
    "auditor_false_alarms": ("insight_auditor", "false_alarms"),
    "risk_auroc_in": ("insight_risk", "risk_auroc_in"),
    "risk_auroc_shift": ("insight_risk", "risk_auroc_shift"),
    "risk_ece": ("insight_risk", "risk_ece"),
    "risk_unknown_shift": ("insight_risk", "unknown_share_shift"),
    "risk_logprob_auroc_in": ("insight_risk", "logprob_auroc_in"),
    "risk_logprob_auroc_shift": ("insight_risk", "logprob_auroc_shift"),
    "risk_hidden_auroc_in": ("insight_risk", "hidden_auroc_in"),
    "risk_hidden_auroc_shift": ("insight_risk", "hidden_auroc_shift"),
    "injection_auroc": ("insight_focus", "injection_auroc"),
    "injection_plain_focus_auroc": ("insight_focus", "plain_focus_auroc"),
    "injection_logprob_auroc": ("insight_focus", "logprob_auroc"),
    "injection_keyword_auroc": ("insight_focus", "keyword_auroc"),
    "injection_adaptive_auroc": ("insight_focus", "adaptive_auroc"),
    "injection_adaptive_success": ("insight_focus", "adaptive_success"),
    "gate_stopped": ("insight_focus", "gate_stopped"),
    "gate_false_stops": ("insight_focus", "gate_false_stops"),
    "induction_first": ("insight_profiles", "induction_first"),
    "induction_confirmed": ("insight_profiles", "induction_confirmed"),
    "drift_detect_requests": ("insight_drift", "drift_detect_requests"),
    "drift_false_alarms_per_10000": ("insight_drift", "false_alarms_per_10000"),
    "drift_baselines": ("insight_drift", "baselines"),
    "page": ("insight_page", ""),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write results/insight.json")
    chosen = parser.parse_args()
    figures: dict[str, object] = {}
    missing: list[str] = []
    for name, (part, path) in FIGURES.items():
        try:
            found: object = read_result(part).metrics
            for step in path.split(".") if path else ():
                assert isinstance(found, Mapping)
                found = found[step]
        except (CynosureError, KeyError) as fault:
            missing.append(f"{name}: {part} has no {path!r} ({type(fault).__name__})")
            continue
        figures[name] = found
        print(f"{name:32} {found if not isinstance(found, Mapping) else '...'}")
    if missing:
        raise SystemExit("\n".join(["not measured:", *missing]))
    if chosen.write:
        write_result("insight", figures, "python -m evals.insight --write")


if __name__ == "__main__":
    main()
