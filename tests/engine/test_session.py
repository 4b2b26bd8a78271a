from __future__ import annotations

import pytest

from cynosure.core.errors import InputError
from cynosure.engine.session import MAX_NAME_CHARS, Session


@pytest.mark.parametrize("length", [1, MAX_NAME_CHARS])
def test_a_name_may_be_so_long(length: int) -> None:
    assert Session("x" * length).name == "x" * length


@pytest.mark.parametrize("length", [0, MAX_NAME_CHARS + 1])
def test_and_no_other(length: int) -> None:
    with pytest.raises(InputError, match=f"has {length} characters"):
        Session("x" * length)
