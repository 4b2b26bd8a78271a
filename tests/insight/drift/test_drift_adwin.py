from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from cynosure.core.errors import MissingPackage
from cynosure.insight.drift.drift_adwin import Adwin, has_adwin


@pytest.mark.skipif(importlib.util.find_spec("river") is None, reason="river is of the extra drift")
def test_a_jump_is_seen() -> None:
    assert has_adwin()
    detector, dice = Adwin(), np.random.default_rng(0)
    flags = [detector.changed(float(value)) for value in dice.normal(0, 1, 500)]
    assert sum(flags) <= 1
    assert any(detector.changed(float(value)) for value in dice.normal(3, 1, 200))


def test_without_the_package_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "river.drift", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not has_adwin()
    with pytest.raises(MissingPackage, match=r"cynosure\[drift\]"):
        Adwin()
