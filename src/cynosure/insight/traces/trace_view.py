"""Show a trace to whoever may not read what it is of. Knows nothing of who that is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cynosure.insight.trace_level import TraceLevel
from cynosure.insight.traces.trace import NUM_OTHERS, Trace, TracePart, TraceShares, lowered

HIDDEN = "hidden"


def hidden(trace: Trace) -> Trace:
    """The trace as somebody else's: the caller's parts are one, their masses summed; no place, id or text.

    What sink, template and answer got stays, and so do shares by role, which say nothing of any text.
    """
    shown = lowered(trace, TraceLevel.L1)
    return replace(shown, shares=None if shown.shares is None else _joined(shown.shares), extra={})


def _joined(shares: TraceShares) -> TraceShares:
    callers, others = shares.masses[..., :-NUM_OTHERS], shares.masses[..., -NUM_OTHERS:]
    num_tokens = sum(part.num_tokens for part in shares.parts)
    masses = np.concatenate([callers.sum(-1, keepdims=True), others], axis=-1)
    return replace(shares, parts=(TracePart(HIDDEN, HIDDEN, num_tokens),), masses=masses)
