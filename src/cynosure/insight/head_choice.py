"""Choose the heads to watch where nobody names any, and admit what is not. Knows nothing of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cynosure.insight.audit_summary import KnowsAudits
from cynosure.insight.focus_rule import FocusRule
from cynosure.insight.profile import HeadProfile

#: Heads that are watched where a request names none.
DEFAULT_NUM_HEADS = 32
#: Where in a model's depth heads that carry content are found most often, until a profile says it.
LOWEST, CENTRE, HIGHEST = 1 / 2, 2 / 3, 5 / 6


@dataclass(frozen=True)
class HeadGroup:
    """A weight for each watched head, in their order: what it folds out of their shares is one number each.

    A profile names groups: heads of one kind on average, or weights that were fitted. They may be negative.
    """

    name: str
    weights: tuple[float, ...]


@dataclass(frozen=True)
class HeadChoice:
    """Heads as `(layer, head)`, sorted, and why it is these; `groups` are told beside their average."""

    heads: tuple[tuple[int, int], ...]
    reason: str
    groups: tuple[HeadGroup, ...] = ()


@dataclass(frozen=True)
class WatchPolicy:
    """What a server watches of a model: these heads, where a profile chose them, and of which requests.

    - `choice`: the heads to watch where a request names none; None leaves it to `default_heads`.
    - `is_always`: whether requests are watched that do not ask for it, for traces and metrics.
    - `profile`: the one that chose; its sections say what the groups' numbers mean.
    - `calls`: what calls of functions must keep to.
    - `audits`: who knows how far its citations have held.
    """

    choice: HeadChoice | None = None
    is_always: bool = False
    profile: HeadProfile | None = None
    calls: FocusRule | None = None
    audits: KnowsAudits | None = None


def default_heads(
    num_heads: Sequence[int], full_layers: Sequence[int], limit: int = DEFAULT_NUM_HEADS
) -> HeadChoice:
    """Take whole layers from the middle to the upper third, those around two thirds first.

    Args:
        num_heads: Query heads of each layer; 0 where a layer has none.
        full_layers: Layers that see a whole sequence; a window tells nothing of what lies before it.
        limit: How many heads to take at most; of a layer that has more, every so manieth.
    """
    depth = len(num_heads)
    seeing = [layer for layer in full_layers if num_heads[layer]] or [
        layer for layer, count in enumerate(num_heads) if count
    ]
    upper = [layer for layer in seeing if LOWEST * depth <= layer < HIGHEST * depth] or seeing
    nearest = sorted(upper, key=lambda layer: (abs(layer + 0.5 - CENTRE * depth), layer))
    taken = nearest[:1]
    for layer in nearest[1:]:
        if sum(num_heads[one] for one in [*taken, layer]) <= limit:
            taken.append(layer)
    taken.sort()
    heads = [(layer, head) for layer in taken for head in range(num_heads[layer])]
    if len(heads) > limit:
        heads = [heads[place * len(heads) // limit] for place in range(limit)]
    where = f"layer{'s' if len(taken) > 1 else ''} {', '.join(map(str, taken))}"
    reason = f"no profile says which heads tell most; {len(heads)} heads of {where} are watched"
    return HeadChoice(tuple(heads), reason)


@dataclass(frozen=True)
class Coverage:
    """Which share of heads, layers and chosen tokens was watched, and why it is these."""

    heads: float
    layers: float
    tokens: float
    reason: str


def coverage_of(choice: HeadChoice, num_heads: Sequence[int], num_watched: int, num_tokens: int) -> Coverage:
    """Say what was watched of a model with so many heads, and of an answer of so many tokens."""
    layers = {layer for layer, _ in choice.heads}
    return Coverage(
        heads=len(choice.heads) / sum(num_heads),
        layers=len(layers) / len(num_heads),
        tokens=num_watched / num_tokens if num_tokens else 0.0,
        reason=choice.reason,
    )
