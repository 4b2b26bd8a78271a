"""What `benchmarks/serving.py` and `benchmarks/peers.py` decide without running anybody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import peers, serving


def test_medians_are_taken_by_figure_and_load() -> None:
    runs = [
        {"clients 1": {"ttft_p50_s": value}, "rate 2": {"ttft_p50_s": 10 * value}}
        for value in (3.0, 1.0, 2.0)
    ]
    assert serving.medians(runs, "clients") == {"1": {"ttft_p50_s": 2.0}}
    assert serving.medians(runs, "rate") == {"2": {"ttft_p50_s": 20.0}}


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting = serving.Setting("toy", tmp_path, tmp_path / "peers", 1)
    (setting.peers / "llama").mkdir(parents=True)
    assert serving.installed(setting, list(serving.STARTS)) == ["cynosure", "llama_cpp_python"]
    assert "left out: transformers" in capsys.readouterr().out


DEBIAN_12 = {
    "clang": "Debian clang version 14.0.6",
    "clang++": "Debian clang version 14.0.6",
    "gcc": "gcc (Debian 12.2.0-14+deb12u1) 12.2.0",
    "g++": "g++ (Debian 12.2.0-14+deb12u1) 12.2.0",
}
CLANG_19 = {"clang-19": "Debian clang version 19.1.7", "clang++-19": "Debian clang version 19.1.7"}
GCC_13 = {"gcc": "gcc (GCC) 13.2.1 20231011", "g++": "g++ (GCC) 13.2.1 20231011"}


@pytest.mark.parametrize(
    ("here", "taken"),
    [
        (DEBIAN_12, None),
        (DEBIAN_12 | CLANG_19, ("clang-19", "clang++-19")),
        (DEBIAN_12 | {"clang-19": CLANG_19["clang-19"]}, None),  # no C++ compiler of that release
        (GCC_13, ("gcc", "g++")),
        ({"clang": "Apple clang version 15.0.0", "clang++": "x"}, ("clang", "clang++")),
        ({}, None),
    ],
)
def test_compilers_that_build_wrong_are_not_taken(
    here: dict[str, str], taken: tuple[str, str] | None
) -> None:
    ask: Callable[[str], str] = lambda program: here.get(program, "")  # noqa: E731 - a table as a function
    assert peers.find_compiler(ask) == taken
