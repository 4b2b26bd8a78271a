"""Hold what a mixer reads of the tokens, checked against its spec. Knows nothing of states or algorithms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.attention.mixers.spec import Favor, KimiDelta, Lightning, MixerSpec, RealGated
from cynosure.core.errors import AttentionError


@dataclass(frozen=True)
class MixerInputs:
    """What a layer's projections made of the tokens; every row of the batch has as many tokens.

    `q` and `k` may have fewer heads, which divide those of `v`: neighbouring heads share one. A kind takes
    exactly its own fields: `RealGated` has neither `q` nor `k`; `log_decay` and `write` belong to all but
    `Favor` and `Lightning`; `projection` belongs to `Favor`. `KimiDelta` decays by channel, others by head.
    """

    v: Float[Tensor, "batch tokens heads v"]
    q: Float[Tensor, "batch tokens q_heads k"] | None = None
    k: Float[Tensor, "batch tokens k_heads k"] | None = None
    log_decay: Float[Tensor, "batch tokens heads"] | Float[Tensor, "batch tokens heads k"] | None = None
    write: Float[Tensor, "batch tokens heads"] | None = None
    projection: Float[Tensor, "features k"] | None = None


def needed_fields(spec: MixerSpec) -> set[str]:
    """Return the optional fields that a kind takes, all of them and no other."""
    if isinstance(spec.kind, Favor):
        return {"q", "k", "projection"}
    if isinstance(spec.kind, Lightning):
        return {"q", "k"}
    if isinstance(spec.kind, RealGated):
        return {"log_decay", "write"}
    return {"q", "k", "log_decay", "write"}


def check_inputs(spec: MixerSpec, inputs: MixerInputs) -> None:
    """Refuse fields that are missing, another kind's or of another shape, and decays that grow.

    Raises:
        AttentionError: says which field, what it is and what the spec expects.
    """
    given = {name for name, value in _optional(inputs).items() if value is not None}
    if given != needed_fields(spec):
        raise AttentionError(
            f"{spec.kind} takes the fields {sorted(needed_fields(spec))} beside v; got {sorted(given)}"
        )
    batch, tokens = inputs.v.shape[:2]
    heads = (batch, tokens, spec.num_heads)
    _expect("v", inputs.v, (*heads, spec.v_head_dim))
    for name, value in (("q", inputs.q), ("k", inputs.k)):
        if value is not None and (value.shape[2] < 1 or spec.num_heads % value.shape[2]):
            raise AttentionError(
                f"{name} has {value.shape[2]} heads; they must divide num_heads {spec.num_heads}"
            )
        if value is not None:
            _expect(name, value, (batch, tokens, value.shape[2], spec.head_dim))
    by_channel = (spec.head_dim,) if isinstance(spec.kind, KimiDelta) else ()
    if inputs.log_decay is not None:
        _expect("log_decay", inputs.log_decay, (*heads, *by_channel))
        if not bool((inputs.log_decay <= 0).all()):
            raise AttentionError("log_decay holds a number above 0 or nan; a decay is exp of at most 0")
    if inputs.write is not None:
        _expect("write", inputs.write, heads)
    if isinstance(spec.kind, Favor) and inputs.projection is not None:
        _expect("projection", inputs.projection, (spec.kind.num_features, spec.head_dim))


def widened(inputs: MixerInputs, num_heads: int, dtype: torch.dtype) -> MixerInputs:
    """Return the inputs in the state's dtype, with queries and keys repeated for heads that share them."""

    def cast(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(dtype)

    def repeat(value: Tensor | None) -> Tensor | None:
        return None if value is None else value.to(dtype).repeat_interleave(num_heads // value.shape[2], 2)

    return replace(
        inputs,
        v=inputs.v.to(dtype),
        q=repeat(inputs.q),
        k=repeat(inputs.k),
        log_decay=cast(inputs.log_decay),
        write=cast(inputs.write),
        projection=cast(inputs.projection),
    )


def present(value: Tensor | None) -> Tensor:
    """Return a field that `check_inputs` found."""
    assert value is not None
    return value


def _optional(inputs: MixerInputs) -> dict[str, Tensor | None]:
    return {
        "q": inputs.q,
        "k": inputs.k,
        "log_decay": inputs.log_decay,
        "write": inputs.write,
        "projection": inputs.projection,
    }


def _expect(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise AttentionError(f"{name} is {tuple(value.shape)}; the spec expects {shape}")
