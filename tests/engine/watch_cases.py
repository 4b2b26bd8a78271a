"""Ask a dense map what was attended to. No code of the streamed statistics takes part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.engine import Event, Request, TokenEvent
from cynosure.engine.watch import AttendedTo, WatchSpec
from tests.models.decoder_oracle import Pair


def maps_of(pair: Pair, token_ids: Sequence[int]) -> list[Float[Tensor, "h n n"]]:
    """Every layer's attention map over a sequence, by transformers' eager attention; sinks are left out."""
    with torch.inference_mode():
        out = pair.oracle(torch.tensor([list(token_ids)]), output_attentions=True, use_cache=False)
    return [layer[0].double() for layer in out.attentions]


def dense_shares(
    pair: Pair, prompt: Sequence[int], generated: Sequence[int], spec: WatchSpec
) -> Float[Tensor, "tokens segments_1"]:
    """Shares of each segment, and the sink's behind them, for the query that chose each generated token."""
    maps = maps_of(pair, [*prompt, *generated[:-1]])
    num_keys = maps[0].shape[-1]
    chosen = torch.stack([maps[layer][head] for layer, head in spec.heads]).mean(0)[len(prompt) - 1 :]
    shares = torch.zeros(chosen.shape[0], spec.num_segments + 1, dtype=torch.float64)
    for segment, start, end in spec.runs_over(num_keys):
        shares[:, segment] += chosen[:, start:end].sum(-1)
    shares[:, -1] = 1 - shares.sum(-1)
    return shares


def told_shares(attended: Sequence[AttendedTo]) -> Float[Tensor, "tokens segments_1"]:
    """The same as the engine told."""
    return torch.tensor([[*one.masses, one.sink] for one in attended], dtype=torch.float64)


def spec_of(num_tokens: int, heads: Sequence[tuple[int, int]], every: int = 1) -> WatchSpec:
    """Four segments, the first of which has two runs, over a prompt of at least four tokens."""
    cuts = [0, 1, num_tokens // 2, num_tokens - 1, num_tokens]
    segments = (0, 1, 2, 0)
    runs = tuple(
        (segment, start, end)
        for segment, start, end in zip(segments, cuts, cuts[1:], strict=False)
        if start < end
    )
    return WatchSpec(tuple(heads), runs, 3, every)


def largest_error(pair: Pair, request: Request, events: Sequence[Event]) -> float:
    """The largest difference between what was told of a request and the dense map."""
    assert request.watch is not None
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    attended = [event.attended for event in tokens]
    assert attended, "nothing was told"
    assert None not in attended, "a token was not watched"
    told = told_shares([one for one in attended if one is not None])
    ids = [event.token_id for event in tokens]
    expected = dense_shares(pair, request.token_ids, ids, request.watch)
    assert told.shape == expected.shape
    assert float((told.sum(-1) - 1).abs().max()) < 1e-5
    return float((told - expected).abs().max())
