"""Show that the session's guards are on. Knows nothing of any room."""

from __future__ import annotations

import importlib
import os
import random
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

SHAPED = """
from __future__ import annotations
from jaxtyping import Float
from numpy import ndarray

def double(x: Float[ndarray, "rows 2"]) -> Float[ndarray, "rows 2"]:
    return x + x
"""


def test_no_network_is_used() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_torch_threads_times_workers_fit_the_machine() -> None:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    threads = torch.get_num_threads()
    assert threads == int(os.environ["OMP_NUM_THREADS"])
    assert threads == 1 or threads * workers <= len(os.sched_getaffinity(0))


def test_each_test_starts_from_the_same_seed(seed: int) -> None:
    assert random.random() == random.Random(seed).random()
    assert np.random.random() == np.random.RandomState(seed).random()
    assert torch.equal(torch.randn(3), torch.randn(3, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("drawn", [float(torch.rand(()))])
def test_parameters_are_drawn_from_the_same_seed_by_every_worker(drawn: float, seed: int) -> None:
    """Workers must collect equal names: this one was drawn while the module was imported."""
    assert drawn == float(torch.rand((), generator=torch.Generator().manual_seed(seed)))


@given(st.integers())
def test_hypothesis_lives_with_the_seed_fixture(number: int) -> None:
    assert int(str(number)) == number


def test_the_hook_refuses_a_wrong_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive control for every shape in the house: a wrong one raises."""
    (tmp_path / "shaped_sample.py").write_text(SHAPED)
    monkeypatch.syspath_prepend(tmp_path)
    with jaxtyping.install_import_hook("shaped_sample", "beartype.beartype"):
        shaped_sample = importlib.import_module("shaped_sample")
    assert shaped_sample.double(np.ones((3, 2))).shape == (3, 2)
    with pytest.raises(jaxtyping.TypeCheckError):
        shaped_sample.double(np.ones((3, 4)))
