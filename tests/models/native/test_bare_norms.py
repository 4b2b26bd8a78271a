"""Norms without weights of their own are the kernels' as well, in a program of whole layers."""

from __future__ import annotations

import copy

import pytest
import torch

from cynosure.kernels import why_none
from cynosure.models.batch import Batch
from cynosure.models.native.graph import use_kernels
from cynosure.models.native.passes import NativePasses, refusal_of_passes
from tests.models.brand_oracle import pair_of
from tests.models.decoder_oracle import gap

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama4-dense", "olmo", "gemma"])
def test_layers_are_one_program(name: str) -> None:
    """Of heads (Llama 4), before the halves (OLMo), and, with weights, Gemma's."""
    pair = pair_of(name)
    graph, prompt = copy.deepcopy(pair.graph), pair.prompts[0]
    use_kernels(graph, torch.float32, "native")
    cache = graph.new_paged_cache(num_blocks=2)
    assert refusal_of_passes(graph, cache) == ""
    batch = Batch.pack([prompt], block_tables=[[1, 0]])
    logits = NativePasses(graph, cache, "auto").run(batch, torch.arange(len(prompt)))
    assert logits is not None
    assert gap(logits, pair.expected[0]) < 1e-4
