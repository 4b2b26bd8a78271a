"""The limit is the machine's or the control group's, whichever is less."""

from __future__ import annotations

import os
from pathlib import Path

from cynosure.engine.pool.memory import give_back, memory_limit


def test_the_smaller_of_machine_and_group(tmp_path: Path) -> None:
    group, none, absent = tmp_path / "limit", tmp_path / "max", tmp_path / "absent"
    group.write_text("1048576\n")
    none.write_text("max\n")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_limit((none, absent)) == machine
    assert memory_limit((none, group)) == 1 << 20
    group.write_text(str(2**62))
    assert memory_limit((group,)) == machine
    give_back()
