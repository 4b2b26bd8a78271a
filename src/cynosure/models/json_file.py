"""Read one JSON object from a checkpoint's folder. Knows nothing of what its keys mean."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound

JsonValue: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

#: A tokenizer_config.json with thousands of added tokens has about 1 MB; an index of 100k tensors 10 MB.
MAX_BYTES = 64 * 2**20


def parse_json_object(data: bytes | str, where: str) -> dict[str, JsonValue]:
    """The object in `data`: duplicate keys are refused, so are NaN and Infinity.

    Raises:
        CheckpointCorrupt: The text is no JSON object; the message starts with `where`.
    """
    try:
        value = json.loads(data, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointCorrupt(f"{where} is no valid JSON: {error}. Fetch the file again.") from error
    if not isinstance(value, dict):
        raise CheckpointCorrupt(
            f"{where} holds a JSON {type(value).__name__}; not an object. Fetch it again."
        )
    return value


def read_json_object(path: Path) -> dict[str, JsonValue]:
    """The object in the file at `path`.

    Raises:
        CheckpointNotFound: The file can't be read.
        CheckpointCorrupt: It is over `MAX_BYTES`, or no JSON object.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CheckpointCorrupt(f"{path} has {size} bytes; the limit is {MAX_BYTES}. Fetch it again.")
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointNotFound(
            f"{path} can't be read: {error.strerror}. Check the folder and your rights to it."
        ) from error
    return parse_json_object(data, str(path))


def _without_duplicates(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    result = dict(pairs)
    if len(result) != len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {key!r} appears twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
