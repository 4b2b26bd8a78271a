"""Threads share work whatever else the machine does: neighbours, forks, callers at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from cynosure.kernels import kernels
from cynosure.kernels.linear import Type
from tests.kernels.packed import Matrix, run

CORES = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def four_threads(threads: None) -> None:
    kernels().set_num_threads(4)


def matrix_of(rows: int, columns: int) -> Matrix:
    return Matrix(Type.INT8, rows, columns)


def seconds(matrix: Matrix, num_calls: int) -> float:
    """Return the median time of a call."""
    packed, x = matrix.packed(), np.random.randn(1, matrix.columns).astype(np.float32)
    times = []
    for _ in range(num_calls):
        start = time.perf_counter()
        run(packed, x)
        times.append(time.perf_counter() - start)
    return sorted(times)[num_calls // 2]


def test_callers_at_once_get_their_own_results() -> None:
    matrices = [matrix_of(100 + 16 * i, 64 + i) for i in range(6)]
    inputs = [np.random.randn(1 + i, matrix.columns).astype(np.float32) for i, matrix in enumerate(matrices)]
    packed = [matrix.packed() for matrix in matrices]
    expected = [run(one, x) for one, x in zip(packed, inputs, strict=True)]
    faults: list[int] = []

    def call(index: int) -> None:
        for _ in range(200):
            if not np.array_equal(run(packed[index], inputs[index]), expected[index]):
                faults.append(index)

    callers = [threading.Thread(target=call, args=(index,)) for index in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not faults


def test_sleeping_workers_wake() -> None:
    matrix = matrix_of(400, 128)
    packed, x = matrix.packed(), np.random.randn(2, 128).astype(np.float32)
    first = run(packed, x)
    for pause in (0, 1e-4, 1e-3, 2e-2) * 5:
        time.sleep(pause)
        assert np.array_equal(run(packed, x), first)


def test_the_number_of_threads_changes_while_it_runs() -> None:
    matrix = matrix_of(400, 128)
    packed, x = matrix.packed(), np.random.randn(2, 128).astype(np.float32)
    first = run(packed, x)
    for num_threads in [1, 8, 2, 5, 1, 3] * 10:
        kernels().set_num_threads(num_threads)
        assert np.array_equal(run(packed, x), first)


def test_a_forked_child_has_threads_of_its_own() -> None:
    """Also when the parent forks in the middle of its work, as a server under load does."""
    matrix = matrix_of(400, 128)
    packed, x = matrix.packed(), np.random.randn(2, 128).astype(np.float32)
    first = run(packed, x)
    code = """
import os, sys, threading
import numpy as np
from cynosure.kernels import kernels
from cynosure.kernels.linear import Type
from tests.kernels.packed import Matrix, run
kernels().set_num_threads(4)
matrix = Matrix(Type.INT8, 400, 128)
packed, x = matrix.packed(), np.ones((2, 128), np.float32)
first = run(packed, x)
is_over = threading.Event()
def busy():
    while not is_over.is_set():
        run(packed, x)
threading.Thread(target=busy, daemon=True).start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if all(np.array_equal(run(packed, x), first) for _ in range(20)) else 1)
    assert os.waitpid(child, 0)[1] == 0
is_over.set()
print("fine")
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "fine", done.stderr
    assert np.array_equal(run(packed, x), first)


@pytest.mark.skipif(CORES < 2, reason="a neighbour needs a core to take")
def test_a_busy_neighbour_does_not_stop_the_others() -> None:
    """A barrier that only spins gets slower by a hundred and more here."""
    kernels().set_num_threads(CORES)
    matrix = matrix_of(2048, 1024)
    quiet = seconds(matrix, 300)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        busy = seconds(matrix, 300)
    finally:
        neighbour.kill()
        neighbour.wait()
    # The median of a shared machine; what collapses is off by far more.
    assert busy < 10 * quiet + 1e-4
