"""Tell afterwards how a request went: what it waited for, found, computed. Knows nothing of how it is noted.

A terminal event carries a report: plain values, which may cross to another process.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Why no page was looked for.
OFF, REPRODUCIBLE, PROMPT_LOGPROBS, NOT_ADMITTED = "off", "reproducible", "prompt_logprobs", "not_admitted"


@dataclass(frozen=True)
class RequestReport:
    """How one sequence went through the engine; times are in seconds.

    - `constraint_s`: until its constraint was compiled; `queue_s`: from then until its first step.
    - `prefill_s`: from its first step to its first token; `decode_s`: from there to its last.
    - `chunks`: prompt tokens computed in each step; what a preemption had computed again is among them.
    - `num_pages_found` of `num_pages_sought` full pages before the prompt's last token were kept from
      earlier requests of the tenant; `page_end` says why no more were (`MatchEnd`), or why none was sought.
    - `num_drafted` tokens were guessed from what was said before, and `num_accepted` of them were chosen.
    - `num_page_choices` steps attended to chosen pages, and `num_page_checks` of them to all, which told that
      the chosen ones have the share `recalled` of the attention on average, and `least_recalled` in the worst
      head.
    - `num_constrained` tokens were chosen under a constraint, which left one choice for `num_forced`.
    """

    constraint_s: float = 0.0
    queue_s: float = 0.0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    chunks: tuple[int, ...] = ()
    num_decode_steps: int = 0
    page_size: int = 0
    num_pages_sought: int = 0
    num_pages_found: int = 0
    page_end: str = NOT_ADMITTED
    num_preemptions: int = 0
    num_constrained: int = 0
    num_forced: int = 0
    num_drafted: int = 0
    num_accepted: int = 0
    num_page_choices: int = 0
    num_page_checks: int = 0
    recalled: float | None = None
    least_recalled: float | None = None
