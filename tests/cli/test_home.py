from __future__ import annotations

from pathlib import Path

from cynosure.cli.home import data_home


def test_the_first_that_is_set_decides() -> None:
    assert data_home({"CYNOSURE_HOME": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert data_home({"CYNOSURE_HOME": "", "XDG_CACHE_HOME": "/b"}) == Path("/b/cynosure")
    assert data_home({}) == Path.home() / ".cache" / "cynosure"


def test_a_relative_folder_is_made_whole_or_not_taken() -> None:
    assert data_home({"CYNOSURE_HOME": "here"}) == Path.cwd() / "here"
    # The XDG specification has relative paths ignored.
    assert data_home({"XDG_CACHE_HOME": "here"}) == Path.home() / ".cache" / "cynosure"
