"""Lay out pairs of a query and a document as the texts of one pass. Knows nothing of graphs or scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from cynosure.models.batch import Batch
from cynosure.models.text.tokenizer import Encoding


@dataclass(frozen=True, eq=False)
class Readings:
    """A batch, and which of its sequences are the query and the document of each pair."""

    batch: Batch
    queries: tuple[int, ...]
    documents: tuple[int, ...]


def pack_readings(encodings: Sequence[Encoding], unseen: int | None) -> Readings:
    """Pack queries, each once, and documents.

    Args:
        encodings: pairs in one, of type 0 where a token is the query's and 1 where the document's.
        unseen: the token that no other attends to where it stands at the end of a query.
    """
    texts: dict[tuple[int, tuple[int, ...]], int] = {}
    places: tuple[list[int], list[int]] = ([], [])
    for encoding in encodings:
        for kind in (0, 1):
            ids = tuple(
                id_ for id_, type_id in zip(encoding.ids, encoding.type_ids, strict=True) if type_id == kind
            )
            places[kind].append(texts.setdefault((kind, ids), len(texts)))
    batch = Batch.pack([ids for _, ids in texts])
    if unseen is not None:
        is_unseen = [flag for kind, ids in texts for flag in _is_unseen(ids, unseen if kind == 0 else None)]
        keys = replace(batch.plan.keys[0], is_pad=torch.tensor(is_unseen))
        batch = replace(batch, plan=batch.plan.with_keys(keys))
    return Readings(batch, tuple(places[0]), tuple(places[1]))


def _is_unseen(ids: tuple[int, ...], unseen: int | None) -> list[bool]:
    length = len(ids)
    while unseen is not None and length and ids[length - 1] == unseen:
        length -= 1
    return [place >= length for place in range(len(ids))]
