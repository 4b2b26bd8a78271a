"""Blocks decode to the numbers that the public package gives."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from cynosure.models.gguf import blocks
from cynosure.models.gguf.kinds import KINDS, OTHER_NAMES
from tests.models.gguf_files import CODED, Kind


@pytest.mark.parametrize("kind", CODED, ids=lambda kind: kind.name)
@pytest.mark.parametrize("num_blocks", [0, 1, 2, 7, 8, 9, 40])
def test_decoding(monkeypatch: pytest.MonkeyPatch, kind: Kind, num_blocks: int) -> None:
    monkeypatch.setattr(blocks, "_CHUNK", 8)
    length, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    content = np.random.default_rng(num_blocks).integers(0, 256, (num_blocks, num_bytes), np.uint8)
    # Whatever the other bytes are, they are codes; a scale of any bits may be no number.
    for start in {Kind.Q4_K: (0, 2), Kind.Q6_K: (208,)}.get(kind, (0,)):
        content[:, start : start + 2] = np.float16([[-0.25 - start]]).view(np.uint8)
    got = blocks.decode(kind.name, torch.from_numpy(content))
    assert got.shape == (num_blocks * length,)
    if num_blocks:
        assert np.array_equal(got.numpy(), gguf.dequantize(content, kind).reshape(-1))


def test_sizes_and_names_are_those_of_the_public_package() -> None:
    for number, kind in KINDS.items():
        assert Kind(number).name == kind.name
        assert gguf.GGML_QUANT_SIZES[Kind(number)] == (kind.length, kind.num_bytes)
    known = {kind.value: kind.name for kind in Kind} | {30: "BF16"}
    assert all(known.get(number, name) == name for number, name in OTHER_NAMES.items())
    assert not KINDS.keys() & OTHER_NAMES.keys()
