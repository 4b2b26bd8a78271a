"""Share out a memory budget among models, and say which must go. Knows nothing of tensors or threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cynosure.core.errors import ModelTooLarge

#: A model that generates gets pages for one sequence of that length at least, where it takes such.
MIN_CACHE_TOKENS = 2048


@dataclass(frozen=True)
class Need:
    """What a model takes: its weights, and for its cache from `min_cache_bytes` to `max_cache_bytes`."""

    name: str
    weight_bytes: int
    min_cache_bytes: int = 0
    max_cache_bytes: int = 0
    is_pinned: bool = False

    @property
    def min_bytes(self) -> int:
        """What it takes at least."""
        return self.weight_bytes + self.min_cache_bytes


@dataclass(frozen=True)
class Held:
    """What a model holds now; `last_used_s` orders those that may go."""

    name: str
    num_bytes: int
    is_idle: bool
    last_used_s: float


def cache_bytes(
    bytes_per_token: int,
    block_size: int,
    max_model_len: int | None,
    exact: int | None,
    most: int,
    bytes_per_state: int = 0,
) -> tuple[int, int]:
    """The least and the most that a model's cache may take; `exact` is both.

    Where a sequence has a state, `bytes_per_state` whatever its length, there is room for one at least.
    """
    takes_any = bool(bytes_per_token or bytes_per_state)
    if exact is not None or not takes_any:
        fixed = exact if takes_any and exact is not None else 0
        return fixed, fixed
    num_tokens = MIN_CACHE_TOKENS if max_model_len is None else min(MIN_CACHE_TOKENS, max_model_len)
    least = -(-num_tokens // block_size) * block_size * bytes_per_token + bytes_per_state
    # Who asks for less than that gets what was asked for.
    return min(least, most), most


def cache_shares(needs: Sequence[Need], memory_bytes: int) -> dict[str, int]:
    """What each model's cache gets, so that as many models as possible can stay loaded together.

    Where all fit, what is left is shared evenly. Where they take turns, half of what the largest other model
    leaves goes to the pinned ones, and each other gets half of what they leave: the rest is for neighbours.

    Raises:
        ModelTooLarge: a model can never be loaded; the message names it.
    """
    pinned, others = (
        [need for need in needs if need.is_pinned],
        [need for need in needs if not need.is_pinned],
    )
    for need in needs:
        beside = sum(other.min_bytes for other in pinned if other is not need)
        if need.min_bytes + beside > memory_bytes:
            raise ModelTooLarge(_message(need, beside, memory_bytes))
    spare = memory_bytes - sum(need.min_bytes for need in needs)
    if spare >= 0:
        return _shared(needs, spare)
    held = sum(need.min_bytes for need in pinned)
    shares = _shared(pinned, (memory_bytes - held - max(need.min_bytes for need in others)) // 2)
    held = sum(need.weight_bytes + shares[need.name] for need in pinned)
    for need in others:
        shares |= _shared([need], (memory_bytes - held - need.min_bytes) // 2)
    return shares


def _shared(needs: Sequence[Need], spare: int) -> dict[str, int]:
    """Give each cache its least and an even part of `spare`, up to its most."""
    part = spare // max(1, sum(need.max_cache_bytes > 0 for need in needs))
    return {need.name: min(need.min_cache_bytes + part, need.max_cache_bytes) for need in needs}


def victims(held: Iterable[Held], needed: int, memory_bytes: int) -> tuple[str, ...] | None:
    """Who must go so that `needed` bytes fit, those that were used least recently first.

    `None` where even all idle ones would not do: then nobody goes.
    """
    held = list(held)
    used = sum(one.num_bytes for one in held)
    gone = []
    for one in sorted((one for one in held if one.is_idle), key=lambda one: one.last_used_s):
        if used + needed <= memory_bytes:
            break
        used -= one.num_bytes
        gone.append(one.name)
    return tuple(gone) if used + needed <= memory_bytes else None


def _message(need: Need, others: int, memory_bytes: int) -> str:
    cache = f" and its cache at least {_mib(need.min_cache_bytes)}" if need.min_cache_bytes else ""
    pinned = f", {_mib(others)} of which pinned models take" if others else ""
    return (
        f"model {need.name!r} can never be loaded: its weights take {_mib(need.weight_bytes)}{cache}; the "
        f"limit for all models is {_mib(memory_bytes)}{pinned}. Raise it, pin fewer models, or "
        "quantise it."
    )


def _mib(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:,.1f} MiB"
