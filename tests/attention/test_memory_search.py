"""FAISS finds what exact products say, or says that it cannot."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from cynosure.attention import AttentionSpec, Heads, MemorySource
from cynosure.attention.memory import recall_of
from cynosure.attention.memory_search import FaissSearch
from cynosure.core.errors import MissingPackage, UnknownOption


def test_each_head_searches_the_keys_that_it_shares() -> None:
    keys, q = torch.randn(50, 2, 8), torch.randn(4, 3, 8)
    rows = FaissSearch(keys).best(q, 6)
    for head in range(4):
        expected = (q[head] @ keys[:, head // 2].T).topk(6).indices
        assert torch.equal(rows[head], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_keys_of_any_dtype(dtype: torch.dtype) -> None:
    keys = torch.randn(20, 1, 8).to(dtype)
    assert FaissSearch(keys).best(keys[3:4].transpose(0, 1).to(dtype), 20).shape == (1, 1, 20)


def test_no_queries_and_too_few_keys() -> None:
    search = FaissSearch(torch.randn(3, 2, 8))
    assert search.best(torch.randn(2, 0, 8), 3).shape == (2, 0, 3)
    assert (search.best(torch.randn(2, 1, 8), 5)[..., 3:] == -1).all()
    assert FaissSearch(torch.randn(0, 2, 8)).best(torch.randn(2, 1, 8), 0).shape == (2, 1, 0)


def test_looking_harder_recalls_more() -> None:
    keys, q = torch.randn(2000, 1, 16), torch.randn(40, 1, 16)
    recalls = []
    for probes in (1, 4, 16):
        search = FaissSearch(keys, "IVF16,Flat", f"nprobe={probes}")
        recalls.append(recall_of(AttentionSpec(Heads.of(1, 16)), q, MemorySource(keys, keys, 10, search)))
    assert recalls[0].keys < recalls[1].keys < recalls[2].keys == 1.0
    assert recalls[0].attention < recalls[1].attention < recalls[2].attention


@pytest.mark.parametrize(("kind", "parameters"), [("Trees", ""), ("Flat", "nprobe=2"), ("IVF64,Flat", "")])
def test_what_faiss_does_not_build_is_refused(kind: str, parameters: str) -> None:
    with pytest.raises(UnknownOption, match="FAISS builds no index"):
        FaissSearch(torch.randn(20, 1, 8), kind, parameters)


def test_without_faiss_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackage, match=r"cynosure\[memory\]"):
        FaissSearch(torch.randn(20, 1, 8))
    monkeypatch.undo()
    assert importlib.import_module("faiss")
