"""Write a conversation to a file that people, or requests, can go on from. Knows nothing of models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cynosure.core.errors import EnvironmentFault, InputError

_SPEAKERS = {"system": "System", "user": "You", "assistant": "Model"}


def save_conversation(path: Path, said: Sequence[tuple[str, str]]) -> None:
    """Write who said what: as `messages` of a request where the name ends with .json, else as Markdown.

    Raises:
        InputError: no file is named, or there is one of that name.
        EnvironmentFault: it can't be written.
    """
    if path.name in ("", ".", ".."):
        raise InputError("no file is named. Write /save FILE.")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_as_json(said) if path.suffix == ".json" else _as_markdown(said))
    except FileExistsError as error:
        raise InputError(f"{path} is there already, and is not written over. Name another.") from error
    except OSError as error:
        raise EnvironmentFault(f"{path} can't be written: {error.strerror}. Name another.") from error


def _as_json(said: Sequence[tuple[str, str]]) -> str:
    messages = [{"role": role, "content": text} for role, text in said]
    return json.dumps({"messages": messages}, ensure_ascii=False, indent=2) + "\n"


def _as_markdown(said: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"## {_SPEAKERS[role]}\n\n{text}\n" for role, text in said)
