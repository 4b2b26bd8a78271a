"""Choose a backend by name, or the first that refuses nothing. Knows nothing of how they compute."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

from cynosure.attention.backends.call import AttentionCall, Backend
from cynosure.attention.backends.flex import FlexBackend
from cynosure.attention.backends.memory import MemoryBackend
from cynosure.attention.backends.native import NativeBackend
from cynosure.attention.backends.reference import ReferenceBackend
from cynosure.attention.backends.sdpa import SdpaBackend
from cynosure.attention.backends.seats import TritonBackend
from cynosure.attention.backends.tiled import TiledBackend
from cynosure.core.errors import UnknownOption, UnsupportedByBackend

AUTO = "auto"
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        NativeBackend(),
        TritonBackend(),
        SdpaBackend(),
        FlexBackend(),
        TiledBackend(),
        MemoryBackend(),
        ReferenceBackend(),
    )
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Choice:
    """The backend for one source, and why the ones before it were passed over."""

    name: str
    rejected: tuple[tuple[str, tuple[str, ...]], ...]


def choose(call: AttentionCall, wanted: str = AUTO) -> Choice:
    """Return the backend for `call`; depends on spec, plan and tensors, never on what is watched.

    Layers that share a plan and differ in nothing but their numbers share the choice.

    Raises:
        UnknownOption: no backend has that name.
        UnsupportedByBackend: the backend that was asked for by name refuses.
    """
    source = call.source
    alike = (wanted, call.spec, call.q.dtype, call.q.device, type(source), source.dtype, source.lies_well)
    return call.remembered(("choice", *alike, call.weights.bias is None), lambda: _choose(call, wanted))


def _choose(call: AttentionCall, wanted: str) -> Choice:
    if wanted != AUTO:
        if wanted not in BACKENDS:
            raise UnknownOption(
                f"no backend is called {wanted!r}; choose one of {', '.join([AUTO, *BACKENDS])}"
            )
        reasons = BACKENDS[wanted].refusals(call)
        if reasons:
            raise UnsupportedByBackend(f"backend {wanted} can't do this: {'; '.join(reasons)}. Use {AUTO!r}")
        return Choice(wanted, ())
    rejected = []
    for name, backend in BACKENDS.items():
        reasons = backend.refusals(call) + _passed_over(name, call)
        if not reasons:
            choice = Choice(name, tuple(rejected))
            _tell(choice)
            return choice
        rejected.append((name, reasons))
    raise AssertionError("the reference refuses nothing")


def _passed_over(name: str, call: AttentionCall) -> tuple[str, ...]:
    """Reasons for which `auto` leaves a backend that could serve."""
    if name == "flex" and call.q.device.type == "cpu":
        return ("on the CPU it materialises all scores and is kept as a witness",)
    return ()


@lru_cache(maxsize=256)
def _tell(choice: Choice) -> None:
    """Say each choice once."""
    _log.info("attention runs on %s; rejected: %s", choice.name, choice.rejected or "none")
