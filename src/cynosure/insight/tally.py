"""Add up what each token attended to, by part of a prompt. Knows nothing of tensors, requests or answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.insight.prompt_segments import SINK, TEMPLATE, PromptSegments


@dataclass(frozen=True)
class TokenShares:
    """What one token attended to, or many on average; all masses together are 1.

    `masses` are those of the caller's parts, in their order.
    """

    masses: tuple[float, ...]
    sink_mass: float
    template_mass: float
    generated_mass: float
    entropy_bits: float


def shares_by_part(
    segments: PromptSegments, masses: Sequence[float], sink: float, entropy_bits: float
) -> TokenShares:
    """Name an engine's numbers: a share for each part, one for what is generated, and the learned sinks'."""
    *of_parts, generated = masses
    by_role = {SINK: sink, TEMPLATE: 0.0}
    callers = []
    for part, mass in zip(segments.parts, of_parts, strict=True):
        if part.is_callers:
            callers.append(mass)
        else:
            by_role[part.role] += mass
    return TokenShares(tuple(callers), by_role[SINK], by_role[TEMPLATE], generated, entropy_bits)


class Tally:
    """The mean over all tokens that were added."""

    def __init__(self, num_parts: int) -> None:
        """Start with nothing; `num_parts` are the caller's."""
        self.num_tokens = 0
        self._sums = [0.0] * (num_parts + 4)

    def add(self, shares: TokenShares) -> None:
        """Count one token."""
        numbers = (
            *shares.masses,
            shares.sink_mass,
            shares.template_mass,
            shares.generated_mass,
            shares.entropy_bits,
        )
        self._sums = [total + number for total, number in zip(self._sums, numbers, strict=True)]
        self.num_tokens += 1

    @property
    def mean(self) -> TokenShares | None:
        """Each token counts the same; None before the first."""
        if not self.num_tokens:
            return None
        *masses, sink, template, generated, entropy = (total / self.num_tokens for total in self._sums)
        return TokenShares(tuple(masses), sink, template, generated, entropy)
