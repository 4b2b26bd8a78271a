"""Say which adapter each request and each pass has. Knows nothing of files, or of how one is applied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from cynosure.core.errors import InputError
from cynosure.engine.request import Request
from cynosure.engine.task import Task
from cynosure.models.adapters.adapter import Adapter

#: An adapter by its name, or by its identity; raises `NotFound`.
FindAdapter: TypeAlias = Callable[[str], Adapter]


def no_adapters(name: str) -> Adapter:
    """Find none.

    Raises:
        InputError: always.
    """
    raise InputError(
        f"adapter {name[:100]!r} is asked for, and this engine takes none. Leave it out, or start with "
        "--enable-lora."
    )


def with_adapter(request: Request, find: FindAdapter) -> tuple[Request, Adapter | None]:
    """Return a request that names its adapter by identity, so that its pages do, and the adapter.

    Raises:
        InputError: there is no such adapter.
    """
    if request.adapter is None:
        return request, None
    adapter = find(request.adapter)
    return replace(request, adapter=adapter.identity), adapter


def passes_of(tasks: Sequence[Task]) -> tuple[list[Task], ...]:
    """Return the tasks of each pass of a step: those without an adapter, then all others together.

    So those without run as if there were no adapters, by the same kernels and with the same bits.
    """
    plain = [task for task in tasks if task.sequence.adapter is None]
    adapted = [task for task in tasks if task.sequence.adapter is not None]
    return plain, adapted
