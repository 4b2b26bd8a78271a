"""The process that renders a template: what is said where it can't start. Renderings are tested beside it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cynosure.core.errors import EnvironmentFault
from cynosure.models.chat import template_process
from cynosure.models.chat.template_process import TemplateLimits, TemplateProcess


def test_a_worker_that_ends_at_once_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_process, "_WORKER", tmp_path / "absent.py")
    rendering = TemplateProcess("{{ x }}", TemplateLimits())
    begun = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"exit status 2: .*absent\.py"):
        rendering.render({}, {"x": "y"})
    assert time.monotonic() - begun < 20
    # Once it is there again, it serves.
    monkeypatch.undo()
    assert rendering.render({}, {"x": "y"}).text == "y"
    rendering.close()


def test_one_that_hangs_as_it_starts_is_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep = tmp_path / "asleep.py"
    asleep.write_text("import time\ntime.sleep(60)")
    monkeypatch.setattr(template_process, "_WORKER", asleep)
    monkeypatch.setattr(template_process, "_START_SECONDS", 0.3)
    with pytest.raises(EnvironmentFault, match=r"did not start within 0\.3 s"):
        TemplateProcess("{{ x }}", TemplateLimits()).render({}, {"x": "y"})
