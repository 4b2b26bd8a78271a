"""Turn values of declared types into plain ones for msgpack, and back. Knows nothing of sockets or messages.

A codec is compiled from a type: numbers, strings, enums, tuples, mappings, unions, frozen dataclasses, arrays
and errors of our tree. What comes in is what is declared, or refused; no name in it chooses what is called.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from enum import Enum
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import numpy as np

from cynosure.core import errors
from cynosure.core.errors import CynosureError, WireFault

#: What arrays may hold; the first is what models give.
_DTYPES = ("float32", "float64", "int64")

_ERRORS: Mapping[str, type[CynosureError]] = {
    name: cls
    for name, cls in vars(errors).items()
    if isinstance(cls, type) and issubclass(cls, CynosureError)
}


class Codec(NamedTuple):
    """How values of one type are written and read; `told` says the type in words, down to its last field."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    told: str


def codec_of(declared: Any) -> Codec:  # noqa: ANN401 - any annotation
    """The codec of a type.

    Raises:
        TypeError: a type that has none; a fault of ours.
    """
    if declared in _PLAIN:
        return _PLAIN[declared]
    origin, parts = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return _union(parts)
    if origin is tuple:
        return _sequence(parts[0]) if parts[1:] == (Ellipsis,) else _row("tuple", parts)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(*parts)
    if isinstance(declared, type) and issubclass(declared, Enum):
        return _enum(declared)
    if isinstance(declared, type) and dataclasses.is_dataclass(declared):
        return _record(declared, [field.name for field in dataclasses.fields(declared)])
    if isinstance(declared, type) and issubclass(declared, tuple):
        return _record(declared, list(declared._fields))  # type: ignore[attr-defined] - a NamedTuple
    raise TypeError(f"{declared!r} has no form on the wire; declare a plain type.")


def shown(value: object) -> str:
    """What came, for an error: its type and size, since its content may be a caller's."""
    size = f" of {len(value)}" if isinstance(value, str | bytes | tuple | dict) else ""
    return f"{type(value).__name__}{size}"


def _exact(*kinds: type) -> Codec:
    told = " or ".join(kind.__name__ for kind in kinds)

    def read(value: object) -> object:
        # Not isinstance: True is no int.
        if type(value) not in kinds:
            raise WireFault(f"{shown(value)} came, not {told}")
        return value

    return Codec(lambda value: value, read, told)


def _float() -> Codec:
    either = _exact(float, int)
    return Codec(float, lambda value: float(either.read(value)), "float")


def _path() -> Codec:
    text = _exact(str)
    return Codec(str, lambda value: Path(text.read(value)), "path")


def _enum(declared: type[Enum]) -> Codec:
    members = declared.__members__

    def read(value: object) -> Enum:
        if not isinstance(value, str) or value not in members:
            raise WireFault(f"{shown(value)} is no {declared.__name__}")
        return members[value]

    return Codec(lambda value: value.name, read, f"{declared.__name__}({', '.join(members)})")


def _sequence(part: Any) -> Codec:  # noqa: ANN401
    codec = codec_of(part)
    if part in (int, str):
        # The hot path: thousands of token ids.
        kinds = {part}

        def read_all(value: object) -> object:
            if type(value) is not tuple or not set(map(type, value)) <= kinds:
                raise WireFault(f"{shown(value)} came, not a list of {codec.told}")
            return value

        return Codec(tuple, read_all, f"[{codec.told}]")

    def read(value: object) -> object:
        if type(value) is not tuple:
            raise WireFault(f"{shown(value)} came, not a list of {codec.told}")
        return tuple(map(codec.read, value))

    return Codec(lambda value: tuple(map(codec.write, value)), read, f"[{codec.told}]")


def _mapping(key: Any, part: Any) -> Codec:  # noqa: ANN401
    keys, codec = codec_of(key), codec_of(part)

    def read(value: object) -> object:
        if type(value) is not dict:
            raise WireFault(f"{shown(value)} came, not a map")
        return {keys.read(name): codec.read(item) for name, item in value.items()}

    def write(value: Mapping[Any, Any]) -> object:
        return {keys.write(name): codec.write(item) for name, item in value.items()}

    return Codec(write, read, f"{{{keys.told}: {codec.told}}}")


def _union(parts: tuple[Any, ...]) -> Codec:
    """`X | None` is X or nil; several classes are told apart by their names."""
    is_optional = type(None) in parts
    named = {part.__name__: (part, codec_of(part)) for part in parts if part is not type(None)}
    one = next(iter(named.values()))[1] if len(named) == 1 else None
    by_class = {part: (name, codec) for name, (part, codec) in named.items()}

    def write(value: object) -> object:
        if value is None and is_optional:
            return None
        if one is not None:
            return one.write(value)
        name, codec = by_class[type(value)]
        return name, codec.write(value)

    def read(value: object) -> object:
        if value is None and is_optional:
            return None
        if one is not None:
            return one.read(value)
        name, content = value if isinstance(value, tuple) and len(value) == 2 else (None, None)
        # What is no string may be nothing that can be looked up.
        if not isinstance(name, str) or name not in named:
            raise WireFault(f"{shown(value)} came, not one of {', '.join(named)}")
        return named[name][1].read(content)

    told = " | ".join(codec.told for _, codec in named.values())
    return Codec(write, read, f"({told}{' | None' if is_optional else ''})")


def _record(declared: type, names: list[str]) -> Codec:
    """A class by its fields, in their order."""
    hints = get_type_hints(declared)
    row = _row(declared.__name__, [hints[name] for name in names], names)
    # Of one name alone, attrgetter gives no tuple; of none, it takes no such call.
    fields_of = attrgetter(*names) if len(names) > 1 else lambda value: [vars(value)[name] for name in names]

    def write(value: object) -> object:
        return row.write(fields_of(value))

    def read(value: object) -> object:
        fields = row.read(value)
        try:
            return declared(*fields)
        except CynosureError as refused:
            raise WireFault(f"{declared.__name__} refuses its fields: {refused}") from refused

    return Codec(write, read, row.told)


def _row(what: str, parts: Any, names: list[str] | None = None) -> Codec:  # noqa: ANN401
    codecs = [codec_of(part) for part in parts]
    names = names or [str(place) for place in range(len(codecs))]
    writers = [codec.write for codec in codecs]

    def write(value: Any) -> object:  # noqa: ANN401
        return tuple(writer(item) for writer, item in zip(writers, value, strict=True))

    def read(value: object) -> object:
        if type(value) is not tuple or len(value) != len(codecs):
            raise WireFault(f"{what}: {shown(value)} came, not a list of {len(codecs)} fields")
        place, fields = 0, []
        try:
            for place, (codec, item) in enumerate(zip(codecs, value, strict=True)):  # noqa: B007
                fields.append(codec.read(item))
        except WireFault as fault:
            raise WireFault(f"{what}.{names[place]}: {fault}") from None
        return tuple(fields)

    told = ", ".join(f"{name}: {codec.told}" for name, codec in zip(names, codecs, strict=True))
    return Codec(write, read, f"{what}({told})")


def _write_array(value: np.ndarray) -> object:
    return str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes()


def _read_array(value: object) -> np.ndarray:
    dtype, shape, content = _ARRAY.read(value)
    if dtype not in _DTYPES:
        raise WireFault(f"an array of {dtype[:20]!r} came, not of one of {', '.join(_DTYPES)}")
    if any(size < 0 for size in shape) or len(content) != np.dtype(dtype).itemsize * prod(shape):
        raise WireFault(f"an array of shape {shape[:8]} came with {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape)


def _write_error(error: CynosureError) -> object:
    """Class, message and fields; a class of another room goes as the nearest one of the tree."""
    nearest = next(cls for cls in type(error).__mro__ if _ERRORS.get(cls.__name__) is cls)
    fields = {
        name: value if isinstance(value, str) else float(value)
        for name, value in vars(error).items()
        if isinstance(value, str | int | float)
    }
    return _ERROR.write((nearest.__name__, str(error), fields))


def _read_error(value: object) -> CynosureError:
    name, message, fields = _ERROR.read(value)
    cls = _ERRORS.get(name)
    if cls is None:
        raise WireFault(f"an error called {name[:60]!r} came; the tree has none")
    error = cls.__new__(cls, message)
    # Past __init__, whose parameters are each class's own.
    error.args = (message,)
    vars(error).update(fields)
    return error


_PLAIN: Mapping[Any, Codec] = {
    bool: _exact(bool),
    int: _exact(int),
    str: _exact(str),
    bytes: _exact(bytes),
    float: _float(),
    Path: _path(),
    np.ndarray: Codec(_write_array, _read_array, "array"),
    CynosureError: Codec(_write_error, _read_error, f"error({', '.join(_ERRORS)})"),
}
_ARRAY = codec_of(tuple[str, tuple[int, ...], bytes])
_ERROR = codec_of(tuple[str, str, dict[str, str | float]])
