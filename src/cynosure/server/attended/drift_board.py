"""Keep what models' answers attended to, and compare it with references. Knows nothing of HTTP or text."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cynosure.core.errors import InputError, NotFound
from cynosure.insight.drift.drift_adwin import Adwin, ChangeDetector, has_adwin
from cynosure.insight.drift.drift_distance import psi
from cynosure.insight.drift.drift_features import FEATURES, AnswerFeatures
from cynosure.insight.drift.drift_monitor import DriftAlarm, DriftMonitor
from cynosure.insight.drift.drift_reference import (
    DriftReference,
    check_identity,
    freeze,
    read_reference,
    write_reference,
)
from cynosure.insight.drift.drift_sentinel import FrozenSentinel, SentinelAnswer
from cynosure.observe.attention_metrics import DriftNumbers

#: Answers of a model that a reference may be made of, for each choice of heads; choices and models at most.
MAX_RECENT, MAX_CHOICES, MAX_MODELS = 5000, 4, 64
#: Distances are computed anew after so many answers: the alarm's sums are, after each.
PSI_EVERY = 25
_SUFFIX = ".drift.json"

_log = logging.getLogger(__name__)


@dataclass
class WatchedModel:
    """One model: its last answers by the heads that were watched, and what compares them."""

    recent: OrderedDict[str, deque[AnswerFeatures]] = field(default_factory=OrderedDict)
    monitor: DriftMonitor | None = None
    digest: str = ""
    is_kept: bool = False
    num_answers: int = 0
    num_left_out: int = 0
    psi: dict[str, float] = field(default_factory=dict)

    def keep(self, heads: str, answer: AnswerFeatures) -> None:
        """Keep an answer for a reference; of too many choices of heads, the oldest in use gives way."""
        if heads not in self.recent and len(self.recent) == MAX_CHOICES:
            self.recent.popitem(last=False)
        self.recent.setdefault(heads, deque(maxlen=MAX_RECENT)).append(answer)
        self.recent.move_to_end(heads)

    @property
    def usual(self) -> tuple[str, Sequence[AnswerFeatures]]:
        """The heads that most of the last answers were watched on, and these answers."""
        heads = max(self.recent, key=lambda one: len(self.recent[one]))
        return heads, list(self.recent[heads])


class DriftBoard:
    """All models of one server, for any thread. With a folder, references outlive the server."""

    def __init__(self, folder: Path | None = None) -> None:
        """Read the folder's references.

        Raises:
            InputError: a file in it that can't be used.
        """
        self._folder = folder
        self._lock = threading.RLock()
        self._models: dict[str, WatchedModel] = {}
        self._detector: Callable[[], ChangeDetector] | None = Adwin if has_adwin() else None
        self.num_unfollowed = 0
        for path in sorted(folder.glob(f"*{_SUFFIX}")) if folder is not None else ():
            reference = read_reference(path)
            monitor = self._monitor(reference)
            self._models[reference.model] = WatchedModel(
                monitor=monitor, digest=reference.digest, is_kept=True
            )

    @property
    def is_kept(self) -> bool:
        """Whether references outlive the server."""
        return self._folder is not None

    @property
    def has_adwin(self) -> bool:
        """Whether there is a second opinion."""
        return self._detector is not None

    @property
    def references(self) -> tuple[DriftReference, ...]:
        """What models are compared with."""
        with self._lock:
            monitors = [one.monitor for one in self._models.values()]
            return tuple(one.reference for one in monitors if one is not None)

    def check(self, heads: Mapping[str, str]) -> None:
        """Refuse references that are of no model here, or of other heads; `heads` are digests by model.

        Raises:
            InputError: there is one.
        """
        for reference in self.references:
            if reference.model not in heads:
                known = ", ".join(sorted(heads)) or "none"
                raise InputError(
                    f"a drift reference is of model {reference.model!r}; models that can be watched here: "
                    f"{known}. Remove it, or serve the model."
                )
            check_identity(reference, reference.model, heads[reference.model])

    def numbers(self) -> dict[str, DriftNumbers]:
        """How far each model has moved that has a reference, for the metrics."""
        with self._lock:
            return {
                name: _numbers(kept.monitor, kept.psi)
                for name, kept in self._models.items()
                if kept.monitor is not None
            }

    def add(self, model: str, heads: str, answer: AnswerFeatures, now_s: float) -> None:
        """Take an answer, and compare it where its model has a reference."""
        with self._lock:
            if model not in self._models and len(self._models) == MAX_MODELS:
                self.num_unfollowed += 1
                return
            kept = self._models.setdefault(model, WatchedModel())
            kept.keep(heads, answer)
            monitor = kept.monitor
            if monitor is None:
                kept.num_answers += 1
                return
            if heads != monitor.reference.heads:
                if not kept.num_left_out:
                    _log.warning(
                        "answers of %s are watched on other heads than its drift reference has: these are "
                        "not compared. Freeze a new one.",
                        model,
                    )
                kept.num_left_out += 1
                return
            alarm = monitor.add(answer, now_s)
            _tell(model, alarm)
            if monitor.num_answers % PSI_EVERY == 0:
                kept.psi = _psi_of(monitor)

    def freeze(self, model: str, now_s: float, sentinels: Sequence[FrozenSentinel] = ()) -> DriftReference:
        """Make the last answers of a model its reference, and begin to compare. Takes seconds.

        Raises:
            NotFound: no answer of such a model was watched.
            InputError: there are too few.
        """
        with self._lock:
            if model not in self._models or not self._models[model].recent:
                raise NotFound(
                    f"no answer of a model {model[:100]!r} was watched. Start the server with --drift, or "
                    "ask with attention."
                )
            heads, answers = self._models[model].usual
        # Answers go on meanwhile.
        reference = freeze(model, heads, answers, now_s, sentinels)
        if self._folder is not None:
            write_reference(reference, self._folder / _file_name(model))
        with self._lock:
            kept = self._models[model]
            kept.monitor, kept.is_kept = self._monitor(reference), self._folder is not None
            kept.digest = reference.digest
            kept.num_answers = kept.num_left_out = 0
            kept.psi = {}
        return reference

    def sentinels_of(self, model: str) -> tuple[str, int, tuple[str, ...]] | None:
        """The reference's digest, how many answers were compared, and its sentinels' ids; None without."""
        # Without the lock: requests pass here, and must not wait for somebody who draws the board.
        kept = self._models.get(model)
        monitor = None if kept is None else kept.monitor
        if kept is None or monitor is None or not monitor.sentinels.frozen:
            return None
        return kept.digest, monitor.num_answers, tuple(one.id for one in monitor.sentinels.frozen)

    def read_sentinel(self, model: str, place: int, answer: SentinelAnswer, now_s: float) -> bool:
        """Take the answer to a sentinel; whether another one is needed to be certain."""
        with self._lock:
            monitor = self._models[model].monitor
            if monitor is None or place >= len(monitor.sentinels.frozen):
                return False
            _tell(model, monitor.add_sentinel(place, answer, now_s))
            return monitor.sentinels.is_in_doubt

    @contextmanager
    def models(self) -> Iterator[Mapping[str, WatchedModel]]:
        """Everything, while no answer changes it."""
        with self._lock:
            yield self._models

    def _monitor(self, reference: DriftReference) -> DriftMonitor:
        return DriftMonitor(reference, self._detector)


def _tell(model: str, alarm: DriftAlarm | None) -> None:
    if alarm is not None:
        _log.warning("drift: %s, at answer %d: %s", model, alarm.at_answer, alarm.message)


def _psi_of(monitor: DriftMonitor) -> dict[str, float]:
    rows, lengths = monitor.window
    standard = monitor.reference.scale.standard(rows, lengths)
    columns = zip(FEATURES, standard.T, monitor.reference.pooled, strict=True)
    return {feature.name: psi(column, quantiles) for feature, column, quantiles in columns}


def _numbers(monitor: DriftMonitor, by_feature: Mapping[str, float]) -> DriftNumbers:
    num_alarms = monitor.num_alarms
    largest = float(monitor.cusum.sums.max()) / monitor.reference.limit
    return DriftNumbers(monitor.alarm is not None, num_alarms, largest, by_feature)


def _file_name(model: str) -> str:
    """A name that any file system takes, and no two models share."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", model)[:80]
    return f"{plain}-{hashlib.sha256(model.encode()).hexdigest()[:8]}{_SUFFIX}"
