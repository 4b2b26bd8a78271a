"""Sum up when answers began, went on and ended. Knows nothing of who gave them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One answer, on a clock in seconds: when it was asked for, when its first and last tokens came."""

    begun_s: float
    first_s: float
    last_s: float
    num_prompt_tokens: int
    num_tokens: int

    @property
    def ttft_s(self) -> float:
        """Time to the first token."""
        return self.first_s - self.begun_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None where there is no other."""
        return (self.last_s - self.first_s) / (self.num_tokens - 1) if self.num_tokens > 1 else None


@dataclass(frozen=True)
class Summary:
    """What a load came to. Rates are over the time from the first question to the last token.

    `prefill_tokens_per_s` are the prompts' tokens over the time until every answer had begun; None where not
    all were asked at once.
    """

    num_answers: int
    num_failed: int
    prompt_tokens: float
    output_tokens: float
    ttft_p50_s: float
    ttft_p99_s: float
    tpot_p50_s: float | None
    tpot_p99_s: float | None
    prefill_tokens_per_s: float | None
    tokens_per_s: float
    requests_per_s: float


def summarise(timings: Sequence[Timing], num_failed: int = 0) -> Summary:
    """Sum answers up; there must be one."""
    begun = min(timing.begun_s for timing in timings)
    wall_s = max(max(timing.last_s for timing in timings) - begun, 1e-9)
    ttft = [timing.ttft_s for timing in timings]
    tpot = [timing.tpot_s for timing in timings if timing.tpot_s is not None]
    num_prompt = sum(timing.num_prompt_tokens for timing in timings)
    num_tokens = sum(timing.num_tokens for timing in timings)
    reading_s = max(max(timing.first_s for timing in timings) - begun, 1e-9)
    return Summary(
        num_answers=len(timings),
        num_failed=num_failed,
        prompt_tokens=num_prompt / len(timings),
        output_tokens=num_tokens / len(timings),
        ttft_p50_s=percentile(ttft, 50),
        ttft_p99_s=percentile(ttft, 99),
        tpot_p50_s=percentile(tpot, 50) if tpot else None,
        tpot_p99_s=percentile(tpot, 99) if tpot else None,
        prefill_tokens_per_s=num_prompt / reading_s,
        tokens_per_s=num_tokens / wall_s,
        requests_per_s=len(timings) / wall_s,
    )


def percentile(values: Sequence[float], share: int) -> float:
    """The smallest value that `share` percent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)]
