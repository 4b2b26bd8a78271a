from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from cynosure.core import errors
from cynosure.core.errors import CynosureError, RateLimitExceeded, WireFault
from cynosure.engine.request import Request
from cynosure.engine.sampling import SamplingParams
from cynosure.engine.wire.types import codec_of
from cynosure.models.checkpoint import MissingTensor


class Colour(Enum):
    RED = 1
    BLUE = 2


class Pair(NamedTuple):
    left: int
    right: float


@dataclass(frozen=True)
class One:
    only: str


@dataclass(frozen=True)
class Nothing:
    """No field at all."""


@dataclass(frozen=True)
class Whole:
    name: str
    place: Path
    colour: Colour
    pairs: tuple[Pair, ...]
    sizes: dict[str, int]
    note: str | None
    inner: One | Nothing | None
    row: tuple[int, str]
    content: bytes
    is_on: bool


WHOLE = Whole(
    "naïve \ud800", Path("a/b"), Colour.BLUE, (Pair(1, 0.5), Pair(2, -1.0)), {"x": 1}, None, One("y"),
    (3, "z"), b"\x00\xff", True,
)  # fmt: skip


def test_every_kind_of_field_comes_back() -> None:
    codec = codec_of(Whole)
    assert codec.read(codec.write(WHOLE)) == WHOLE


@pytest.mark.parametrize("value", [One("x"), Nothing(), None])
def test_members_of_a_union_are_told_apart(value: object) -> None:
    codec = codec_of(One | Nothing | None)
    assert codec.read(codec.write(value)) == value


def test_a_whole_number_is_a_float_and_true_is_no_int() -> None:
    assert codec_of(float).read(2) == 2.0
    assert type(codec_of(float).read(2)) is float
    for declared, value in ((int, True), (float, True), (int, 1.0), (bool, 1), (str, b"x"), (bytes, "x")):
        with pytest.raises(WireFault, match="came, not"):
            codec_of(declared).read(value)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", 3, r"Whole\.name: int came, not str"),
        ("colour", "GREEN", r"Whole\.colour: str of 5 is no Colour"),
        ("pairs", ((1, 0.5), (1,)), r"Whole\.pairs: Pair: tuple of 1 came, not a list of 2 fields"),
        ("pairs", [(1, 0.5)], r"Whole\.pairs: list came"),
        ("sizes", {"x": "y"}, r"Whole\.sizes: str of 1 came, not int"),
        ("sizes", {1: 1}, r"Whole\.sizes: int came, not str"),
        ("inner", ("Whole", ()), r"Whole\.inner: tuple of 2 came, not one of One, Nothing"),
        ("inner", ("One", ("x", "y")), r"Whole\.inner: One: tuple of 2"),
        ("inner", (["One"], ("x",)), r"Whole\.inner"),
        ("row", (3, "z", 4), r"Whole\.row: tuple: tuple of 3 came"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(field: str, value: object, words: str) -> None:
    codec = codec_of(Whole)
    names = list(vars(WHOLE))
    written = list(codec.write(WHOLE))
    written[names.index(field)] = value
    with pytest.raises(WireFault, match=words):
        codec.read(tuple(written))


def test_no_content_is_in_a_refusal() -> None:
    with pytest.raises(WireFault) as refused:
        codec_of(One).read((["a secret"],))
    assert "secret" not in str(refused.value)


def test_a_class_checks_its_own_fields() -> None:
    written = list(codec_of(Request).write(Request("a", (1, 2), SamplingParams(max_tokens=1))))
    written[1] = (-1,)
    with pytest.raises(WireFault, match="Request refuses its fields"):
        codec_of(Request).read(tuple(written))


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 4), (0, 5), ()])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_arrays_come_back_bit_for_bit(shape: tuple[int, ...], dtype: str) -> None:
    codec = codec_of(np.ndarray)
    array = (np.random.default_rng(0).normal(size=shape) * 9).astype(dtype)
    again = codec.read(codec.write(array.T if array.ndim == 2 else array))
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array.T if array.ndim == 2 else array)


@pytest.mark.parametrize(
    "written",
    [
        ("float32", (2,), b"1234"),
        ("float32", (-1, -1), b"1234"),
        ("float32", (2**62, 4), b""),
        ("object", (1,), b"12345678"),
        ("<f4", (1,), b"1234"),
        ("float32", (1,), "1234"),
    ],
)
def test_an_array_that_is_none_is_refused(written: object) -> None:
    with pytest.raises(WireFault):
        codec_of(np.ndarray).read(written)


@pytest.mark.parametrize(
    "name", [name for name, value in vars(errors).items() if isinstance(value, type) and value is not Any]
)
def test_every_error_of_the_tree_comes_back(name: str) -> None:
    cls = vars(errors)[name]
    if not issubclass(cls, CynosureError):
        return
    codec = codec_of(CynosureError)
    error = cls.__new__(cls, "what, got, limit, remedy.")
    again = codec.read(codec.write(error))
    assert type(again) is cls
    assert str(again) == "what, got, limit, remedy."


def test_fields_of_an_error_come_along() -> None:
    codec = codec_of(CynosureError)
    again = codec.read(codec.write(RateLimitExceeded("slow down", 7.5)))
    assert again.retry_after_s == 7.5


def test_an_error_of_another_room_comes_as_the_nearest_of_the_tree() -> None:
    codec = codec_of(CynosureError)
    again = codec.read(codec.write(MissingTensor("no tensor x. Fetch it again.")))
    assert type(again) is errors.CheckpointCorrupt
    assert str(again) == "no tensor x. Fetch it again."


@pytest.mark.parametrize("name", ["Exception", "SystemExit", "os.system", ""])
def test_an_error_that_is_not_of_the_tree_is_refused(name: str) -> None:
    with pytest.raises(WireFault, match="the tree has none"):
        codec_of(CynosureError).read((name, "x", {}))


def test_a_type_without_a_form_is_a_fault_of_ours() -> None:
    with pytest.raises(TypeError, match="no form on the wire"):
        codec_of(object)


def test_what_is_told_of_a_type_changes_with_every_field() -> None:
    @dataclass(frozen=True)
    class Two:
        only: str
        other: int

    told = {codec_of(declared).told for declared in (One, Two, Nothing, Pair, One | Two, One | None)}
    assert len(told) == 6
