"""Read one checkpoint's `config.json` strictly. Knows nothing of tensors, nor of any family's keys.

A family function takes every key that shapes its maths; `finish` then names each key that nobody took. So a
checkpoint with an idea that we do not know is refused instead of being served wrongly.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TypeVar, overload

from cynosure.core.errors import CheckpointNotFound, UnsupportedArchitecture, UnsupportedConfig
from cynosure.models.inert_keys import INERT_KEYS, NEUTRAL_VALUES
from cynosure.models.json_file import JsonValue, read_json_object

T = TypeVar("T", bool, int, float, str, list, dict)
D = TypeVar("D")


class _Missing(enum.Enum):
    """The default of a key that must be there."""

    REQUIRED = "required"


REQUIRED = _Missing.REQUIRED


def read_config(folder: Path) -> dict[str, JsonValue]:
    """The content of `folder/config.json`.

    Raises:
        CheckpointNotFound: The folder holds no config.json.
        CheckpointCorrupt: The file is no JSON object.
    """
    path = folder / "config.json"
    if not path.is_file() and (folder / "model_index.json").is_file():
        raise CheckpointNotFound(
            f"{folder} holds a pipeline of several networks; one is needed. Name the folder of one, such "
            "as unet, transformer or vae."
        )
    if not path.is_file():
        raise CheckpointNotFound(
            f"{folder} holds no config.json, so its architecture is unknown. Name the folder that holds "
            "config.json and the weights (*.safetensors)."
        )
    return read_json_object(path)


def architecture_of(config: Mapping[str, JsonValue]) -> str:
    """The one name in `architectures`, such as `LlamaForCausalLM`; diffusers writes it as `_class_name`.

    Raises:
        UnsupportedArchitecture: The key is absent, or does not hold exactly one name.
    """
    names = config.get("architectures")
    written = config.get("_class_name")
    if names is None and isinstance(written, str):
        return written
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        return names[0]
    raise UnsupportedArchitecture(
        f"config.json has architectures = {names!r}; exactly one name is needed. Add the class that wrote "
        f"the checkpoint (model_type is {config.get('model_type')!r})."
    )


class ConfigReader:
    """Hands out the values of a config, typed and checked, and remembers which keys were asked for.

    Args:
        values: The parsed JSON object.
        where: How error messages call it.
        aliases: Maps a checkpoint's own word to the key that the family asks for, as in
            `{"n_embd": "hidden_size"}`.

    A key whose value is null counts as absent.
    """

    def __init__(
        self,
        values: Mapping[str, JsonValue],
        where: str = "config.json",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        """Wrap `values`; no key counts as read yet."""
        self.where = where
        self._values = dict(values)
        self._read: set[str] = set()
        self._ignored: set[str] = set()
        self._subs: dict[str, ConfigReader] = {}
        for old, new in (aliases or {}).items():
            self._rename(old, new)

    def _rename(self, old: str, new: str) -> None:
        if old not in self._values:
            return
        value = self._values.pop(old)
        other = self._values.get(new)
        if value is None:
            return
        if other is not None and not _same(other, value):
            raise UnsupportedConfig(
                f"{self.where} has {old} = {value!r} and {new} = {other!r}, two names of one thing. Keep one."
            )
        self._values[new] = value

    def __contains__(self, key: str) -> bool:
        """Whether the key is present, be it null. Does not count as reading it."""
        return key in self._values

    def holds(self, key: str, kind: type) -> bool:
        """Whether the value is a `kind`, for keys that come as one value or a list. No read either."""
        return isinstance(self._values.get(key), kind)

    @property
    def unread(self) -> tuple[str, ...]:
        """The keys with a value that nobody took yet."""
        keys = self._values.keys() - self._read - self._ignored
        return tuple(sorted(key for key in keys if self._values[key] is not None))

    @property
    def ignored(self) -> tuple[str, ...]:
        """The keys that `finish` or `ignore` let pass unread, `auto_map` (never followed) among them."""
        return tuple(sorted(self._ignored))

    @overload
    def take(self, key: str, kind: type[T], *, positive: bool = False) -> T: ...
    @overload
    def take(self, key: str, kind: type[T], default: D, *, positive: bool = False) -> T | D: ...

    def take(self, key: str, kind: type, default: object = REQUIRED, *, positive: bool = False) -> object:
        """The value of `key` as `kind`: bool, int, float (an integer will do), str, list or dict.

        Args:
            key: The key.
            kind: The type; a bool is no int, a number must be finite.
            default: What an absent or null key means; without it the key is required.
            positive: Whether a number must be greater than zero.

        Raises:
            UnsupportedConfig: The key is missing, or its value is of another type or range.
        """
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            if default is REQUIRED:
                raise UnsupportedConfig(
                    f"{self.where} lacks {key} ({kind.__name__}); it has no default. Add it."
                )
            return default
        return self._typed(key, value, kind, positive)

    def take_list(
        self, key: str, kind: type[T], default: tuple[T, ...] | None = None
    ) -> tuple[T, ...] | None:
        """The list at `key` as a tuple of `kind`; `default` (or None) where it is absent."""
        values = self.take(key, list, None)
        if values is None:
            return default
        return tuple(self._typed(f"{key}[{i}]", value, kind, False) for i, value in enumerate(values))

    def expect(self, key: str, allowed: Collection[D], default: D | _Missing = REQUIRED) -> D:
        """The value of `key`, which must be one of `allowed`.

        An absent key means `default`, or, where only one value is allowed, that one.

        Raises:
            UnsupportedConfig: Another value, or no value and no way to tell which was meant.
        """
        self._read.add(key)
        value = self._values.get(key)
        if value is None:
            if not isinstance(default, _Missing):
                return default
            if len(allowed) == 1:
                return next(iter(allowed))
        for choice in allowed:
            if _same(choice, value):
                return choice
        names = ", ".join(sorted(repr(choice) for choice in allowed))
        raise UnsupportedConfig(
            f"{self.where} has {key} = {value!r}; only {names} is supported. Serve it with another engine, "
            "or report the checkpoint so that it can be added."
        )

    def ignore(self, *keys: str, neutral: Mapping[str, JsonValue] | None = None) -> None:
        """Let `keys` pass whatever they hold, and those of `neutral` only where they hold that value.

        Raises:
            UnsupportedConfig: A neutral key holds another value.
        """
        self._ignored.update(key for key in keys if key in self._values)
        for key, value in (neutral or {}).items():
            if key in self._values:
                self.expect(key, [value])
                self._ignored.add(key)

    def sub(self, key: str) -> ConfigReader | None:
        """A reader of the object at `key`, or None where it is absent; this reader's `finish` ends it too."""
        if key not in self._subs:
            values = self.take(key, dict, None)
            if values is None:
                return None
            self._subs[key] = ConfigReader(values, f"{self.where}: {key}")
        return self._subs[key]

    def finish(self) -> None:
        """Refuse what nobody read.

        Raises:
            UnsupportedConfig: Names every key that was neither taken nor known to be inert.
        """
        unknown = []
        for key in self.unread:
            value = self._values[key]
            if key in INERT_KEYS or (key in NEUTRAL_VALUES and _same(NEUTRAL_VALUES[key], value)):
                self._ignored.add(key)
            else:
                unknown.append(f"{key} = {_short(value)}")
        if unknown:
            raise UnsupportedConfig(
                f"{self.where} has {', '.join(unknown)}: not understood here, and could change the maths. "
                "Remove a key only if you know that it is inert; otherwise report the checkpoint."
            )
        for reader in self._subs.values():
            reader.finish()

    def _typed(self, key: str, value: JsonValue, kind: type[T], positive: bool) -> T:
        number: JsonValue = value
        if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
            number = float(value)
        if not isinstance(number, kind) or (kind is not bool and isinstance(number, bool)):
            raise UnsupportedConfig(
                f"{self.where} has {key} = {_short(value)}, a {type(value).__name__}; a {kind.__name__} is "
                "needed. Correct the file."
            )
        if isinstance(number, float) and not math.isfinite(number):
            raise UnsupportedConfig(
                f"{self.where} has {key} = {number}; it must be finite. Correct the file."
            )
        if positive and isinstance(number, (int, float)) and number <= 0:
            raise UnsupportedConfig(f"{self.where} has {key} = {number}; it must be > 0. Correct the file.")
        return number


def _same(left: object, right: object) -> bool:
    """Equality under which `True` is not 1, while 1 is 1.0."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right


def _short(value: JsonValue) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
