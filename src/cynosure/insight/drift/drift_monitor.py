"""Compare a model's answers with its reference, one by one, and say when they have shifted. Keeps no text."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from cynosure.insight.drift.drift_adwin import ChangeDetector
from cynosure.insight.drift.drift_features import FEATURES, AnswerFeatures
from cynosure.insight.drift.drift_reference import DriftReference
from cynosure.insight.drift.drift_rule import Cusum
from cynosure.insight.drift.drift_sentinel import SentinelAnswer, SentinelWatch

#: The last answers that distances are measured over; of how many a point of the history is; points kept.
WINDOW, HISTORY_EVERY, MAX_HISTORY = 200, 50, 120
MAX_PAST_ALARMS = 20
_SHOWN_WEIGHTS = 4


AlarmKind = Literal["feature", "joint", "sentinel"]
#: What is said of a sentinel by its state.
_SAID = {
    "moved": "frozen prompts are answered with the same tokens, and attended to otherwise (by {far:.2g})",
    "answer": "frozen prompts are answered with other tokens than when the reference was made",
    "prompt": "frozen prompts are rendered to other tokens: the template or the tokenizer changed",
}


@dataclass(frozen=True)
class DriftAlarm:
    """A shift that was found.

    - `at_answer`: how many answers had been compared; `chart`: what moved, by its name.
    - `ended_s`: when all had gone back; None while it has not.
    """

    since_s: float
    at_answer: int
    kind: AlarmKind
    chart: str
    message: str
    ended_s: float | None = None


@dataclass
class ChangesSeen:
    """What a second opinion said of one feature."""

    detector: ChangeDetector
    num_changes: int = 0
    last_change: int | None = None


class DriftMonitor:
    """One model's answers since its reference was made. For one thread at a time."""

    def __init__(
        self, reference: DriftReference, make_detector: Callable[[], ChangeDetector] | None = None
    ) -> None:
        """Begin with no answer."""
        self.reference = reference
        self.num_answers = 0
        self.num_alarms = 0
        self.alarm: DriftAlarm | None = None
        self.past_alarms: deque[DriftAlarm] = deque(maxlen=MAX_PAST_ALARMS)
        self.history: deque[Float64[np.ndarray, " features"]] = deque(maxlen=MAX_HISTORY)
        self.cusum = Cusum(len(reference.chart_names), reference.limit)
        self.changes = [] if make_detector is None else [ChangesSeen(make_detector()) for _ in FEATURES]
        self.sentinels = SentinelWatch(reference.sentinels)
        self._window: deque[AnswerFeatures] = deque(maxlen=WINDOW)

    def add(self, answer: AnswerFeatures, now_s: float) -> DriftAlarm | None:
        """Compare one answer; an alarm where it is the one at which a shift was found."""
        self.num_answers += 1
        self._window.append(answer)
        rows, lengths = _arrays([answer])
        scores = self.reference.scale.scores(rows, lengths)[0]
        is_over = self.cusum.add(scores)
        for seen, score in zip(self.changes, scores, strict=False):
            if seen.detector.changed(float(score)):
                seen.num_changes += 1
                seen.last_change = self.num_answers
        if self.num_answers % HISTORY_EVERY == 0:
            self.history.append(self.window[0][-HISTORY_EVERY:].mean(0))
        if self.alarm is None and is_over:
            chart, size = self.cusum.worst(len(FEATURES))
            name = self.reference.chart_names[chart]
            kind = "feature" if chart < len(FEATURES) else "joint"
            return self._raised(now_s, kind, name, self._told(chart, size))
        self._ended(now_s)
        return None

    def add_sentinel(self, place: int, answer: SentinelAnswer, now_s: float) -> DriftAlarm | None:
        """Compare the answer to a sentinel; an alarm where it is the one at which a change was certain."""
        reading = self.sentinels.add(place, answer)
        if self.alarm is None and self.sentinels.is_moved:
            name = self.sentinels.frozen[place].id
            return self._raised(now_s, "sentinel", name, _SAID[reading.state].format(far=reading.distance))
        self._ended(now_s)
        return None

    def _raised(self, now_s: float, kind: AlarmKind, chart: str, message: str) -> DriftAlarm:
        self.num_alarms += 1
        self.alarm = DriftAlarm(now_s, self.num_answers, kind, chart, message)
        return self.alarm

    def _ended(self, now_s: float) -> None:
        if self.alarm is not None and self.cusum.is_calm and not self.sentinels.is_moved:
            self.past_alarms.append(replace(self.alarm, ended_s=now_s))
            self.alarm = None

    @property
    def window(self) -> tuple[Float64[np.ndarray, "n features"], Int64[np.ndarray, " n"]]:
        """The last answers, and how long their prompts were."""
        return _arrays(list(self._window))

    def direction(self, at: int) -> dict[str, float]:
        """The features that make most of a joint direction, largest first."""
        weights = self.reference.scale.directions[at]
        largest = np.argsort(-np.abs(weights))[:_SHOWN_WEIGHTS]
        return {FEATURES[place].name: float(weights[place]) for place in largest}

    def _told(self, chart: int, size: float) -> str:
        way = "more" if size > 0 else "less"
        if chart < len(FEATURES):
            feature = FEATURES[chart]
            middle = len(self.reference.plain[chart]) // 2
            before = float(self.reference.plain[chart][middle])
            now = float(np.median(self.window[0][:, chart]))
            what = f"{feature.title}: {way} than answers to prompts of like length in the reference"
            return f"{what} (median {before:.4g} {feature.unit} then, {now:.4g} in the last answers)"
        if chart < len(self.reference.chart_names) - 1:
            weights = ", ".join(self.direction(chart - len(FEATURES)))
            return f"{weights} no longer go together as in the reference"
        return f"answers lie {way} far from the middle of the reference, over all features together"


def _arrays(
    answers: list[AnswerFeatures],
) -> tuple[Float64[np.ndarray, "n features"], Int64[np.ndarray, " n"]]:
    rows = np.array([one.values for one in answers], dtype=np.float64).reshape(-1, len(FEATURES))
    return rows, np.array([one.num_prompt_tokens for one in answers], dtype=np.int64)
