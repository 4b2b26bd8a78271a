"""Ask ADWIN whether the mean of a stream has changed. Imports river when it is asked to; knows no feature.

Adaptive windowing (Bifet and Gavalda, SDM 2007), by river. It watches one number at a time and bounds false
alarms per test, not per ten thousand answers: it stands beside the alarm, and is no part of it.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from cynosure.core.errors import MissingPackage


@runtime_checkable
class ChangeDetector(Protocol):
    """Takes a number at a time."""

    def changed(self, value: float) -> bool:
        """Whether the stream changed with this value."""
        ...


class Adwin:
    """One stream. `delta` bounds how likely each of its tests sees a change in a stationary stream."""

    def __init__(self, delta: float = 0.002) -> None:
        """Begin with nothing.

        Raises:
            MissingPackage: river is not installed.
        """
        self._adwin: Any = _river().ADWIN(delta=delta)

    def changed(self, value: float) -> bool:
        """Take a value; whether a change was seen."""
        self._adwin.update(value)
        return bool(self._adwin.drift_detected)


def has_adwin() -> bool:
    """Whether river is installed; it is not imported, which takes a second."""
    return importlib.util.find_spec("river") is not None


def _river() -> ModuleType:
    try:
        return importlib.import_module("river.drift")
    except ModuleNotFoundError as error:
        raise MissingPackage(
            'ADWIN needs river, which is not installed. Install it: pip install "cynosure[drift]".'
        ) from error
