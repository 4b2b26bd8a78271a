"""The tree of errors is the one that its docstring draws."""

from __future__ import annotations

import re

from cynosure.core import errors


def drawn() -> dict[str, int]:
    """Depth of each class in the drawing: four columns of indentation a level."""
    tree = re.findall(r"^    ([│├└─ ]*)([A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    return {name: len(lead) // 4 for lead, name in tree}


def defined() -> dict[str, int]:
    """Depth of each class in the code, counted from the root."""
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    return {item.__name__: item.__mro__.index(errors.CynosureError) for item in classes}


def test_the_drawing_shows_every_error_at_its_depth() -> None:
    assert drawn() == defined()
    assert len(drawn()) > 10


def test_every_error_is_documented_and_grows_from_the_root() -> None:
    for name in defined():
        error = getattr(errors, name)
        assert issubclass(error, errors.CynosureError)
        assert error.__doc__
