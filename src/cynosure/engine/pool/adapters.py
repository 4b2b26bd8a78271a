"""Load adapters beside a pool's models, and lend them to requests. Knows nothing of threads that compute."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from cynosure.core.errors import InputError
from cynosure.engine.adapters import FindAdapter, no_adapters
from cynosure.engine.pool.card import ModelCard, ModelRole, ServedModel
from cynosure.engine.request import Request
from cynosure.models.adapters.bank import AdapterBank
from cynosure.models.adapters.folder import read_adapter
from cynosure.models.adapters.limits import AdapterLimits
from cynosure.models.adapters.targets import Base
from cynosure.models.load import read_spec
from cynosure.models.stored_config import stored_config


class PoolAdapters:
    """The adapters of all models of a pool. For any thread; files are read on one of its own.

    They stay in memory whether their models do or not, within a limit that is no model's to use.
    """

    def __init__(self, limits: AdapterLimits | None) -> None:
        """Hold none yet; without limits, take none."""
        self._bank = None if limits is None else AdapterBank(limits)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="adapters")

    def load(self, served: ServedModel, card: ModelCard, name: str, folder: Path) -> Future[None]:
        """Have an adapter of a model in memory; one of the same name is taken out.

        The future raises `CheckpointError`, and `InputError` where a limit is passed.

        Raises:
            InputError: the model takes no adapters.
        """
        bank = self._taking(served.name, card)

        def read() -> None:
            source = Path(card.folder)
            base = Base(*read_spec(source, stored_config(source), served.max_model_len))
            bank.add(served.name, read_adapter(name, folder, base, bank.limits))

        return self._reader.submit(read)

    def unload(self, served: ServedModel, card: ModelCard, name: str) -> Future[None]:
        """Take an adapter out; the future ends once no request uses it any more.

        Raises:
            InputError: the model takes no adapters.
            NotFound: it has none of that name.
        """
        return self._taking(served.name, card).remove(served.name, name)

    def lend(self, model: str, request: Request) -> tuple[Request, Callable[[], None]]:
        """Return a request that names its adapter by identity, and what is called once it has ended.

        Raises:
            InputError: the model takes no adapters.
            NotFound: it has none of that name.
        """
        if request.adapter is None:
            return request, _nothing
        if self._bank is None:
            no_adapters(request.adapter)
        assert self._bank is not None
        adapter, give_back = self._bank.borrow(model, request.adapter)
        return replace(request, adapter=adapter.identity), give_back

    def finder(self, model: str) -> FindAdapter:
        """What an engine finds the adapters of its model by."""
        return no_adapters if self._bank is None else partial(self._bank.find, model)

    def close(self) -> None:
        """Read no more."""
        self._reader.shutdown(wait=True, cancel_futures=True)

    def _taking(self, model: str, card: ModelCard) -> AdapterBank:
        if card.role is not ModelRole.DECODER:
            raise InputError(
                f"model {model!r} is a {card.role.value}; adapters are served for decoders. Merge the "
                "adapter into its model."
            )
        if self._bank is None:
            raise InputError(f"model {model!r} takes no adapters here. Start with --enable-lora.")
        return self._bank


def _nothing() -> None:
    """Nobody waits for it."""
