"""The process that tries grammars out: what is said where it can't start. Its answers are test_cache's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.engine.constraints import regex
from cynosure.engine.grammar import process
from cynosure.engine.grammar.process import GrammarLimits, GrammarProcess, TokenizerDefinition

TOKENIZER = TokenizerDefinition("{}", 10, (1,))


def test_a_worker_that_ends_at_once_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = GrammarProcess(TOKENIZER, GrammarLimits())
    monkeypatch.setattr(process, "_WORKER", tmp_path / "absent.py")
    begun = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"exit status 2: .*absent\.py"):
        tried.cost(regex("a"), "a")
    assert time.monotonic() - begun < 20
    broken = tmp_path / "broken.py"
    broken.write_text("raise ImportError('no compiler is here')")
    monkeypatch.setattr(process, "_WORKER", broken)
    with pytest.raises(EnvironmentFault, match="exit status 1: ImportError: no compiler is here"):
        tried.cost(regex("a"), "a")
    tried.close()


def test_one_that_hangs_as_it_starts_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = tmp_path / "asleep.py"
    asleep.write_text("import time\ntime.sleep(60)")
    monkeypatch.setattr(process, "_WORKER", asleep)
    monkeypatch.setattr(process, "_START_SECONDS", 0.3)
    tried = GrammarProcess(TOKENIZER, GrammarLimits())
    with pytest.raises(EnvironmentFault, match=r"did not start within 0\.3 s"):
        tried.cost(regex("a"), "a")
    tried.close()
