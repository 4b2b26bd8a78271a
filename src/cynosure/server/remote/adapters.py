"""Have adapters loaded in the engine's process, and serve them as models. Reads none of their files.

What is loaded here is loaded again in every process that follows one that ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from cynosure.core.errors import EngineDown, InputError, NotFound
from cynosure.engine.wire.messages import LoadAdapter, UnloadAdapter
from cynosure.observe import logs
from cynosure.server.remote.supervisor import Supervisor
from cynosure.server.services import CompletionModel

MAX_NAME_CHARS = 256

#: What is read of an adapter's folder.
FILES = "adapter_*"

_log = logging.getLogger(__name__)

#: Makes the model that an adapter is served as, from the names of its parent and its own.
Make = Callable[[str, str], CompletionModel]


@dataclass(frozen=True)
class NamedAdapter:
    """An adapter as whoever starts the server names it: of which model, and in which folder."""

    name: str
    model: str
    folder: Path


@final
class RemoteAdapters:
    """The adapters of one server. For its event loop."""

    def __init__(
        self,
        supervisor: Supervisor,
        models: Mapping[str, CompletionModel],
        decoders: Collection[str],
        roots: Sequence[Path],
        make: Make,
        taken: Collection[str] = (),
    ) -> None:
        """Serve none yet.

        Args:
            supervisor: of the process that loads.
            models: what completes without an adapter.
            decoders: those of them that can have one.
            roots: the folders below which adapters may be loaded.
            make: what serves an adapter.
            taken: names of models of other kinds.
        """
        self._supervisor = supervisor
        self._decoders = tuple(decoders)
        self._roots = tuple(root.expanduser().resolve() for root in roots)
        self._make = make
        self._models = dict(models)
        self._parents: dict[str, str] = {}
        self._coming: set[str] = set()
        self._taken = frozenset(taken)

    @property
    def parents(self) -> Mapping[str, str]:
        """The model that each adapter changes."""
        return self._parents

    @property
    def completers(self) -> Mapping[str, CompletionModel]:
        """All that completes, now and later: models, and their adapters."""
        return _Now(lambda: self._models)

    def serve(self, adapter: NamedAdapter) -> None:
        """Serve an adapter that the process has loaded at its start."""
        self._models = {**self._models, adapter.name: self._make(adapter.model, adapter.name)}
        self._parents = {**self._parents, adapter.name: adapter.model}

    async def load(self, name: str, folder: str, model: str | None) -> None:
        """Load an adapter from a folder below one of the roots, and serve it.

        Raises:
            InputError: the folder is not allowed, the name is in use, or a limit is passed.
            NotFound: no model of that name can have adapters.
            CheckpointError: the folder holds no adapter of this model.
            EngineDown: there is no process now.
        """
        adapter = NamedAdapter(name, self._base(model), self._allowed(folder))
        if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
            raise InputError(
                f"lora_name has {len(name)} characters; it may have 1 to {MAX_NAME_CHARS} that can be "
                "printed. Change it."
            )
        if name in self._models or name in self._coming or name in self._taken:
            raise InputError(f"the name {name!r} is in use. Unload it, or choose another.")
        self._coming.add(name)
        try:
            await self._loaded(adapter)
        finally:
            self._coming.discard(name)
        self.serve(adapter)
        logs.write(_log, logging.INFO, "an adapter was loaded", {"name": name, "model": adapter.model})

    async def unload(self, name: str) -> None:
        """Serve an adapter no longer.

        Raises:
            NotFound: there is none of that name.
        """
        if name not in self._parents:
            known = ", ".join(sorted(self._parents)) or "none"
            raise NotFound(f"no adapter is called {name[:100]!r}; here: {known}. Correct the name.")
        model = self._parents[name]
        self._models = {other: served for other, served in self._models.items() if other != name}
        self._parents = {other: parent for other, parent in self._parents.items() if other != name}
        self._supervisor.forget(name)
        try:
            link = self._supervisor.link
            await asyncio.wrap_future(link.call(lambda number: UnloadAdapter(number, model, name)))
        except (EngineDown, NotFound):
            # It went with its process.
            pass
        logs.write(_log, logging.INFO, "an adapter was unloaded", {"name": name, "model": model})

    async def _loaded(self, adapter: NamedAdapter) -> None:
        call = load_call(adapter)
        while True:
            link = self._supervisor.link
            await asyncio.wrap_future(link.call(call))
            self._supervisor.keep(adapter.name, call)
            # Another process may have begun before it was to be kept.
            if not self._supervisor.is_up or self._supervisor.link is link:
                return

    def _base(self, model: str | None) -> str:
        if model is None and len(self._decoders) == 1:
            return self._decoders[0]
        known = ", ".join(sorted(self._decoders)) or "none"
        if model is None:
            raise InputError(f"base_model_name is not given, and the decoders are: {known}. Name one.")
        if model not in self._decoders:
            raise NotFound(f"no decoder is called {model[:100]!r}; here: {known}. Correct base_model_name.")
        return model

    def _allowed(self, folder: str) -> Path:
        """The folder, where it and its files lie below a root; links are followed first."""
        if not self._roots:
            raise InputError(
                "no folder is named from which adapters may be loaded. Start with --lora-root FOLDER."
            )
        # What lies elsewhere is not told apart from what is nowhere.
        refused = InputError(
            f"lora_path {folder[:200]!r} is no folder below those that --lora-root names. Correct it."
        )
        try:
            resolved = Path(folder).expanduser().resolve(strict=True)
            files = [path.resolve(strict=True) for path in resolved.glob(FILES) if self._is_below(resolved)]
        except (OSError, RuntimeError, ValueError) as error:
            raise refused from error
        if not all(map(self._is_below, (resolved, *files))):
            raise refused
        return resolved

    def _is_below(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)


def load_call(adapter: NamedAdapter) -> Callable[[int], LoadAdapter]:
    """What has a process load an adapter, once the call has its number."""
    return lambda number: LoadAdapter(number, adapter.model, adapter.name, adapter.folder)


class _Now(Mapping[str, CompletionModel]):
    """What a mapping is at the moment; each one that it is never changes."""

    def __init__(self, look: Callable[[], Mapping[str, CompletionModel]]) -> None:
        self._look = look

    def __getitem__(self, name: str) -> CompletionModel:
        return self._look()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._look())

    def __len__(self) -> int:
        return len(self._look())
