"""Say what loads adapters of models while a server runs. Loads none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class ModelAdapters(Protocol):
    """Adapters that are served as models of their own."""

    @property
    def parents(self) -> Mapping[str, str]:
        """The model that each adapter changes, by the adapter's name."""
        ...

    async def load(self, name: str, folder: str, model: str | None) -> None:
        """Serve an adapter; without a `model`, of the only one that can have any."""
        ...

    async def unload(self, name: str) -> None:
        """Serve an adapter no longer; returns once the requests under way with it have ended."""
        ...
