"""Say where the images of a prompt stand and who reads them, and lay that out in a batch. Encodes nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from cynosure.attention import AttentionPlan, Source
from cynosure.attention.plan import KeyPlan, QueryPlan, cumulative
from cynosure.core.errors import InputError
from cynosure.models.batch import Batch, Inserted, Seen
from cynosure.models.image_input import ImageInput

#: Tokens `start <= token < stop`.
Span: TypeAlias = tuple[int, int]
#: Tokens that attend to images, and the numbers of these.
SeenRun: TypeAlias = tuple[Span, tuple[int, ...]]
#: What is kept of an image: pages, and how many rows are in them.
Kept: TypeAlias = tuple[tuple[int, ...], int]

#: The end of a run that goes on with what is generated.
_NO_END = sys.maxsize


@dataclass(frozen=True, eq=False)
class SeenRows:
    """Runs of a sequence's new tokens that attend to images, each with what is kept of these.

    `sources` hold the keys and values of all images, one for each layer that reads them.
    """

    runs: tuple[tuple[Span, tuple[Kept, ...]], ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True, eq=False)
class PlacedRows:
    """What a run of new tokens reads beside their ids; rows count from its first token.

    `positions` are those of the whole run, or None where tokens are counted one by one.
    """

    inserted: Inserted | None = None
    positions: Int[Tensor, "axes n"] | None = None
    seen: SeenRows | None = None


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """The images of one prompt, the tokens that stand for them, and where all tokens sit.

    An image is read in its own places; or, where there are `runs`, by the tokens that attend to it.
    """

    images: tuple[ImageInput, ...]
    spans: tuple[Span, ...]
    positions: Int[Tensor, "axes n"] | None = None
    runs: tuple[SeenRun, ...] | None = None

    def used(self, start: int, stop: int) -> list[int]:
        """The images, in order, that tokens `start` to `stop` of prompt and answer read."""
        if self.runs is not None:
            return sorted({number for _, numbers in self.seen(start, stop) for number in numbers})
        return [number for number, (first, end) in enumerate(self.spans) if first < stop and start < end]

    def is_done(self, number: int, num_computed: int) -> bool:
        """Whether no token behind the first `num_computed` reads an image."""
        return number not in self.used(num_computed, _NO_END)

    def seen(self, start: int, stop: int) -> list[SeenRun]:
        """The runs among tokens `start` to `stop`, cut to these and counted from `start`."""
        cut = [((max(first, start), min(end, stop)), numbers) for (first, end), numbers in self.runs or ()]
        return [((low - start, high - start), numbers) for (low, high), numbers in cut if low < high]

    def positions_of(self, start: int, stop: int) -> Int[Tensor, "axes n"] | None:
        """Where tokens `start` to `stop` of prompt and answer sit; what is generated counts on."""
        if self.positions is None:
            return None
        length = self.positions.shape[1]
        known = self.positions[:, start:stop]
        if stop <= length:
            return known
        first = int(self.positions.max()) + 1 - length
        counted = torch.arange(first + max(start, length), first + stop)
        return torch.cat([known, counted.expand(known.shape[0], -1)], 1)


def spans_of(token_ids: Sequence[int], counts: Sequence[int], image_token_id: int) -> tuple[Span, ...]:
    """Return the places of each image, which are `counts`.

    Raises:
        InputError: there are more or fewer, or those of one image are not side by side.
    """
    places = [place for place, token_id in enumerate(token_ids) if token_id == image_token_id]
    if len(places) != sum(counts):
        raise InputError(
            f"{len(counts)} images take {sum(counts)} places, and the prompt has {len(places)} (token "
            f"{image_token_id}). Give each image its places, and each place its image."
        )
    spans, taken = list[Span](), 0
    for number, count in enumerate(counts):
        first, last = places[taken], places[taken + count - 1]
        if last - first >= count:
            raise InputError(
                f"the {count} places of image {number} (token {image_token_id}) are not side by side. Put "
                "nothing between them."
            )
        spans.append((first, last + 1))
        taken += count
    return tuple(spans)


def runs_behind(spans: Sequence[Span]) -> tuple[SeenRun, ...]:
    """Say which tokens see which images that have one place each; words before all of them see none.

    A token sees the images that stand side by side behind the words before it, up to itself. What is
    generated sees what the prompt's last token sees.
    """
    runs: list[SeenRun] = []
    for number, (first, _) in enumerate(spans):
        is_beside = bool(runs) and runs[-1][0][0] == first - 1
        if runs:
            runs[-1] = ((runs[-1][0][0], first), runs[-1][1])
        runs.append(((first, _NO_END), (*runs[-1][1], number) if is_beside else (number,)))
    return tuple(runs)


def with_images(batch: Batch, placed: Sequence[PlacedRows | None]) -> Batch:
    """Put what sequences read of images where they read it; without any, a batch stays as it is."""
    if not any(placed):
        return batch
    firsts = [0, *accumulate(batch.new_lens)][:-1]
    parts = [(first, part) for first, part in zip(firsts, placed, strict=True) if part is not None]
    return replace(batch, inserted=_inserted(parts), positions=_positions(batch, placed), seen=_seen(parts))


def _inserted(parts: Sequence[tuple[int, PlacedRows]]) -> Inserted | None:
    found = [(part.inserted.rows + first, part.inserted.vectors) for first, part in parts if part.inserted]
    if not found:
        return None
    return Inserted(torch.cat([rows for rows, _ in found]), torch.cat([vectors for _, vectors in found]))


def _positions(batch: Batch, placed: Sequence[PlacedRows | None]) -> Int[Tensor, "*axes n"]:
    """Those that were given, on their axes; elsewhere a token is at one place on all."""
    given = [None if part is None else part.positions for part in placed]
    num_axes = max((one.shape[0] for one in given if one is not None), default=0)
    if not num_axes:
        return batch.positions
    counted = batch.positions.split(batch.new_lens)
    pairs = zip(counted, given, strict=True)
    return torch.cat([own.expand(num_axes, -1) if one is None else one for own, one in pairs], 1)


def _seen(parts: Sequence[tuple[int, PlacedRows]]) -> Seen | None:
    """Each run is a sequence of a plan of its own; its images come one behind the other, as sources."""
    seen = [(first, part.seen) for first, part in parts if part.seen is not None]
    runs = [((low + first, high + first), kept) for first, one in seen for (low, high), kept in one.runs]
    if not runs:
        return None
    rows = torch.cat([torch.arange(low, high) for (low, high), _ in runs])
    queries = QueryPlan(cumulative([high - low for (low, high), _ in runs]), torch.zeros_like(rows))
    width = max(len(kept) for _, kept in runs)
    nothing: Kept = ((), 0)
    padded = [(*kept, *[nothing] * (width - len(kept))) for _, kept in runs]
    keys = tuple(_keys_of(column) for column in zip(*padded, strict=True))
    sources = seen[0][1].sources
    assert all(one.sources is sources for _, one in seen), "images of one batch are in one memory"
    return Seen(rows, sources, AttentionPlan(queries, keys))


def _keys_of(kept: Sequence[Kept]) -> KeyPlan:
    """Where each run finds its image; all of it is visible."""
    counts, longest = [count for _, count in kept], max(len(blocks) for blocks, _ in kept)
    table = torch.tensor([[*blocks, *[-1] * (longest - len(blocks))] for blocks, _ in kept])
    positions = torch.cat([torch.arange(count) for count in counts])
    return KeyPlan(cumulative(counts), positions, block_table=table, is_always_visible=True)
