"""Hold one thing that was looked at. Looks at nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Weight(Enum):
    """What a finding means: all is well, something works less well than it could, or does not work."""

    FINE = "ok"
    LESS = "note"
    BROKEN = "FAIL"


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do about it."""

    what: str
    found: str
    weight: Weight = Weight.FINE
    remedy: str = ""

    @property
    def line(self) -> str:
        """It in words."""
        return f"{self.weight.value:<4} {self.what}: {self.found}{f'. {self.remedy}' if self.remedy else ''}"
