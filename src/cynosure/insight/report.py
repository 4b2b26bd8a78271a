"""Hold what one answer attended to, token by token, for whoever keeps or judges it. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

from cynosure.insight.head_choice import HeadChoice
from cynosure.insight.profile import HeadProfile
from cynosure.insight.prompt_segments import GENERATED, SINK, TEMPLATE, PromptSegments
from cynosure.insight.tally import Tally, TokenShares
from cynosure.insight.trace_level import TraceLevel


@dataclass(frozen=True, eq=False)
class Reading:
    """What is watched of a prompt while it is answered.

    - `segments`: to which part each token belongs; `choice`: the heads that are watched, and their groups.
    - `num_heads`: query heads of each layer of the model.
    - `is_asked`: whether the request asked to be told; else the server watches on its own account.
    - `profile`: what is known of the model's heads, where the server has it.
    - `trace`: the most that the request lets be kept of it; None leaves it to the server.
    """

    segments: PromptSegments
    choice: HeadChoice
    num_heads: tuple[int, ...]
    is_asked: bool = True
    profile: HeadProfile | None = None
    trace: TraceLevel | None = None


@dataclass(frozen=True, eq=False)
class ReadToken:
    """A token of an answer.

    - `text`: what it added to the answer, nothing where its characters came with a later one; `start` is its
      place in the answer, in code points.
    - `logprob`: in nats, where the request asked for it.
    - `shares`: what the query that chose it attended to; None where it was not watched.
    - `folds`: for each group of the choice, its number for each part of the prompt, and last for what was
      generated before.
    """

    token_id: int
    text: str
    start: int
    logprob: float | None = None
    shares: TokenShares | None = None
    folds: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class AttentionReport:
    """One answer, and what it attended to.

    - `request_id`: the server's; `index`: which answer of the request, from 0.
    - `tenant`: who asked, `""` on an open server; `route`: the pattern that answered; `model`: its name.
    - `created_s`: seconds since 1970; `finish`: why it ended, or None where nobody read it to its end.
    - `bias`: `(first token, end, nats)` of what was weighed in the prompt, `-inf` where it was denied.
    """

    request_id: str
    index: int
    tenant: str
    model: str
    route: str
    created_s: float
    reading: Reading
    prompt_ids: tuple[int, ...]
    tokens: tuple[ReadToken, ...] = field(repr=False)
    finish: str | None
    bias: tuple[tuple[int, int, float], ...] = ()

    @property
    def text(self) -> str:
        """The answer."""
        return "".join(token.text for token in self.tokens)

    @cached_property
    def mean(self) -> TokenShares | None:
        """The average over watched tokens; None where none is."""
        tally = Tally(sum(part.is_callers for part in self.reading.segments.parts))
        for token in self.tokens:
            if token.shares is not None:
                tally.add(token.shares)
        return tally.mean

    @property
    def mass_by_role(self) -> dict[str, float]:
        """The average share of each role: `system`, `document`, ..., `template`, `sink`, `generated`."""
        return {} if self.mean is None else mass_by_role(self.reading.segments, self.mean)

    def fold(self, group: str) -> list[tuple[float, ...] | None]:
        """What each token has under a group's weights, by part and last what was generated; None unwatched.

        Raises:
            KeyError: the choice has no such group.
        """
        names = [one.name for one in self.reading.choice.groups]
        if group not in names:
            raise KeyError(group)
        place = names.index(group)
        return [token.folds[place] if token.folds else None for token in self.tokens]


def mass_by_role(segments: PromptSegments, shares: TokenShares) -> dict[str, float]:
    """Add masses up by who wrote what was attended to; all together are 1."""
    roles = [part.role for part in segments.parts if part.is_callers]
    masses = dict.fromkeys(roles, 0.0)
    for role, mass in zip(roles, shares.masses, strict=True):
        masses[role] += mass
    return masses | {
        TEMPLATE: shares.template_mass,
        SINK: shares.sink_mass,
        GENERATED: shares.generated_mass,
    }


def lookback(shares: TokenShares) -> float:
    """The prompt's share of what went to prompt and answer: Lookback Lens (2407.07071), over all heads.

    The template counts with the prompt, and the sink with neither; 1 where nothing was generated yet.
    """
    prompt = sum(shares.masses) + shares.template_mass
    both = prompt + shares.generated_mass
    return prompt / both if both else 1.0


@runtime_checkable
class ReportSink(Protocol):
    """Takes the report of every answer that was watched, when it ends."""

    def told(self, report: AttentionReport) -> None:
        """Take it, at once: a sink that has much to do does it on a thread of its own. Never raises."""
        ...


def tell_all(sinks: Sequence[ReportSink], report: AttentionReport) -> None:
    """Hand a report to every sink."""
    for sink in sinks:
        sink.told(report)
