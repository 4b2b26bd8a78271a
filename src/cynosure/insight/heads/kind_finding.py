"""Hold what was found of one kind of head, with its numbers. Knows nothing of how it was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cynosure.core.errors import ProfileError
from cynosure.insight.heads.head_ablation import Ablation
from cynosure.insight.probing import Head

#: - `confirmed`: heads do it, and the model foretells less without them than without others.
#: - `found`: heads do it, and leaving them out tells nothing, so that nothing stands on them.
#: - `not found`: no head does it more than the threshold.
#: - `not probed`: there is no probe of it for such a model.
Status = Literal["confirmed", "found", "not found", "not probed"]


@dataclass(frozen=True)
class KindFinding:
    """Whether a model has heads of a kind, and which.

    - `reason`: in a sentence.
    - `heads`, best first; `scores`, and what leaving out each alone costs (`drops`), in their order.
    - `best`, `best_score`: the head that comes nearest, also where none is of the kind.
    - `threshold`: what a score must reach: the larger of a `floor`, by convention, and `chance`.
    - `num_cases`: sequences of the probe; `accuracy`: which share of what they foretell the model generates.
    - `ablation`: what leaving all `heads` out together costs, beside other groups of as many.
    """

    status: Status
    reason: str
    heads: tuple[Head, ...] = ()
    scores: tuple[float, ...] = ()
    drops: tuple[float, ...] = ()
    best: Head | None = None
    best_score: float = 0.0
    floor: float = 0.0
    chance: float = 0.0
    num_cases: int = 0
    accuracy: float = 0.0
    ablation: Ablation | None = None

    @property
    def threshold(self) -> float:
        """What a score must reach."""
        return max(self.floor, self.chance)

    def as_json(self) -> dict[str, object]:
        """What a profile keeps of it."""
        fields = asdict(self)
        return fields | {
            "confirmed": self.status == "confirmed",
            "heads": [list(head) for head in self.heads],
            "scores": list(self.scores),
            "drops": list(self.drops),
            "best": None if self.best is None else list(self.best),
        }

    @classmethod
    def of_json(cls, kind: str, written: Mapping[str, Any]) -> KindFinding:
        """What a profile kept.

        Raises:
            ProfileError: it is no finding of ours.
        """
        try:
            fields: dict[str, Any] = {name: value for name, value in written.items() if name != "confirmed"}
            fields |= {name: tuple(fields[name]) for name in ("scores", "drops")}
            fields["heads"] = tuple((layer, head) for layer, head in fields["heads"])
            if fields["best"] is not None:
                fields["best"] = fields["best"][0], fields["best"][1]
            if fields["ablation"] is not None:
                fields["ablation"] = Ablation(**fields["ablation"])
            return cls(**fields)
        except (KeyError, TypeError, ValueError, IndexError) as fault:
            raise ProfileError(
                f"what a profile says of {kind!r} heads can't be read ({fault}). Make it again: "
                "`cynosure profile MODEL --out FILE`."
            ) from fault
