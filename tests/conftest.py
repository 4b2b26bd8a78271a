"""Prepare a test session: no network, few threads, fixed seeds, checked shapes. Knows nothing of rooms."""

from __future__ import annotations

import os
import random
import tempfile

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch

SEED = 0

# Workers times threads never exceed the cores; the variables are for child processes.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_THREADS = max(1, min(2, len(os.sched_getaffinity(0)) // _WORKERS))
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(_THREADS)
torch.set_num_threads(_THREADS)
# A barrier that spins starves its neighbours where other processes hold the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Servers that tests start keep their audit log here: never the user's own, nor another worker's.
_STATE = tempfile.TemporaryDirectory()
os.environ["XDG_STATE_HOME"] = _STATE.name

# Every shape that a signature states is checked at run time. The rooms of coroutines stay out:
# the hook would hide from their framework that a function is async.
CHECKED_ROOMS = ["core", "observe", "attention", "cache", "models", "retrieval", "insight", "evaluate"]
jaxtyping.install_import_hook([f"cynosure.{room}" for room in CHECKED_ROOMS], "beartype.beartype")

hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collectstart() -> None:
    """Seed before a module is imported: workers that draw other parameters collect other tests."""
    _seed_all()


@pytest.fixture(autouse=True)
def seed() -> int:
    """Seed every generator, so that a test gives the same numbers alone and in any order."""
    _seed_all()
    return SEED


def _seed_all() -> None:
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
