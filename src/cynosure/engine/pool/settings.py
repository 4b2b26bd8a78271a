"""Size a pool of models. Knows nothing of models, files or the machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cynosure.core.errors import InputError
from cynosure.engine.settings import MAX_TOKENS_AHEAD, EngineSettings
from cynosure.models.adapters.limits import AdapterLimits

#: Of the memory that the machine, or this process's control group, has.
DEFAULT_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class DiskSettings:
    """Where sessions are kept that ask for it.

    - `folder`: of this process alone.
    - `secret`: keys all names and checksums; it lies elsewhere, so that the folder tells nothing by itself.
    - `max_bytes`: of all models together.
    """

    folder: Path
    secret: bytes = field(repr=False)
    max_bytes: int

    def __post_init__(self) -> None:
        """Check the size.

        Raises:
            InputError: it is below 1.
        """
        if self.max_bytes < 1:
            raise InputError(f"the cache folder may have {self.max_bytes} bytes; the limit is 1. Raise it.")


@dataclass(frozen=True)
class PoolSettings:
    """What all models of a process may use together.

    - `memory_bytes`: weights, keys and values of all loaded models; None takes `DEFAULT_MEMORY_SHARE` of what
      there is.
    - `engine`: of each model that generates; one decodes ahead unless it is told otherwise. Its
      `kv_cache_bytes` is the most that one gets.
    - `kv_cache_bytes`: what each gets exactly; None chooses, from what is left.
    - `max_encoding_tokens`: of one pass of an encoder; `max_shared_encoding_tokens`: the same while others
      generate, who wait for it.
    - `max_waiting_texts`: of one encoder; more are refused.
    - `load_wait_s`: how long a model may wait for others to become idle, so that there is room for it.
    - `disk`: where sessions are kept that ask for it; None keeps none.
    - `packed_folder`: where packed weights are kept for the next start; None packs them each time.
    - `adapters`: what adapters may take, out of `memory_bytes`; None takes none.
    """

    memory_bytes: int | None = None
    engine: EngineSettings = field(default_factory=lambda: EngineSettings(max_tokens_ahead=MAX_TOKENS_AHEAD))
    kv_cache_bytes: int | None = None
    max_encoding_tokens: int = 8192
    max_shared_encoding_tokens: int = 1024
    max_waiting_texts: int = 100_000
    load_wait_s: float = 30.0
    disk: DiskSettings | None = None
    packed_folder: Path | None = None
    adapters: AdapterLimits | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a size below 1.
        """
        for name in (
            "memory_bytes",
            "kv_cache_bytes",
            "max_encoding_tokens",
            "max_shared_encoding_tokens",
            "max_waiting_texts",
        ):
            value = vars(self)[name]
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; the limit is 1. Raise it.")
        if not self.load_wait_s >= 0:
            raise InputError(f"load_wait_s is {self.load_wait_s}; the limit is 0. Raise it.")
