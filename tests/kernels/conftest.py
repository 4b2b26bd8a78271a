"""Give tests every variant of the kernels that this processor runs, and put things back. Knows no kernel."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cynosure.kernels import kernels, why_none
from cynosure.kernels.library import VARIANTS


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test on each variant; one that cannot run here is skipped, with the reason."""
    if reason := why_none():
        pytest.skip(reason)
    library = kernels().c
    before = library.cyn_active_variant()
    if not library.cyn_use_variant(VARIANTS.index(request.param)):
        pytest.skip(f"{request.param} was not compiled, or this processor lacks it")
    yield request.param
    library.cyn_use_variant(before)


@pytest.fixture
def threads() -> Iterator[None]:
    """Put the number of threads back."""
    if reason := why_none():
        pytest.skip(reason)
    before = kernels().num_threads
    yield
    kernels().set_num_threads(before)
