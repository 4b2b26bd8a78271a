"""Pack each part of a decoder as soon as its weights were read. Knows nothing of files.

What a part is packed from is then let go: no more than one part is in memory twice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import final

from cynosure.kernels.memory import Arena
from cynosure.models.decoder import Decoder
from cynosure.models.native.graph import NativeReport, replace_head, replace_layer, replace_rest

HEAD, LAYERS = "head.", "layers."


@final
class PackedAsRead:
    """A decoder on the meta device whose weights come tensor by tensor: the head's, then each layer's."""

    def __init__(self, graph: Decoder, arena: Arena) -> None:
        """Pack into `arena`; the kernels take this graph."""
        self._graph, self._arena = graph, arena
        self._refused: dict[str, str] = {}
        self._missing: dict[str, set[str]] = {}
        for name in graph.state_dict():
            if part := _part_of(name):
                self._missing.setdefault(part, set()).add(name)

    def notice(self, names: Collection[str]) -> None:
        """Pack the parts that have all of theirs, now that the tensor of these names is in its place."""
        for name in names:
            part = _part_of(name)
            if part is None:
                continue
            self._missing[part].discard(name)
            if not self._missing[part]:
                self._pack(part)

    def finish(self) -> NativeReport:
        """Pack the rest; everything was read."""
        assert not any(self._missing.values())
        return replace_rest(self._graph, self._arena, self._refused)

    def _pack(self, part: str) -> None:
        if part == HEAD:
            replace_head(self._graph, self._arena, self._refused)
        else:
            replace_layer(self._graph, int(part.split(".")[1]), self._arena, self._refused)


def _part_of(name: str) -> str | None:
    """Return the beginning that all names of a part have; `None` where it is packed with the rest."""
    if name.startswith(HEAD):
        return HEAD
    return ".".join(name.split(".")[:2]) if name.startswith(LAYERS) else None
