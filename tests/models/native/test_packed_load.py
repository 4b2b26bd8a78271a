"""A model whose packed weights were kept is the model that would have been packed."""

from __future__ import annotations

import os
import shutil
import weakref
from collections.abc import Collection
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cynosure.engine.runner import Runner, Work
from cynosure.kernels import why_none
from cynosure.kernels.memory import Arena
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel, load, open_model
from cynosure.models.native import packed_load
from cynosure.models.native.graph import use_kernels
from cynosure.models.native.packed_as_read import HEAD, PackedAsRead
from cynosure.models.native.packed_load import load_packed, packed_file
from cynosure.models.quantize import QuantEmbedding, QuantLinear
from tests.models import decoder_oracle, moe_oracle

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")


def logits(model: LanguageModel) -> Tensor:
    graph = model.graph
    assert isinstance(graph, Decoder)
    use_kernels(graph, model.dtype, "native")
    runner = Runner(graph, graph.new_paged_cache(4, 8))
    return runner.run([Work((1, 2, 3, 4, 5), 0, (0,), 2)])[0].clone()


def folder_of(name: str) -> Path:
    pairs = moe_oracle if name in moe_oracle.CASES else decoder_oracle
    return pairs.pair_of(name).folder


@pytest.mark.parametrize(
    ("name", "quantize"),
    [
        *(
            (name, quantize)
            for name in ("llama", "llama-tied", "qwen2")
            for quantize in (None, "int8", "int4")
        ),
        *((name, "int8") for name in ("gemma2", "gpt2", "bloom")),
        *((name, None) for name in ("gemma2", "gpt2", "bloom", "gpt-oss", "deepseek-yarn")),
    ],
)
def test_the_second_load_gives_the_same_bits(
    name: str, quantize: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(name)
    expected = logits(load(folder, dtype="bfloat16", quantize=quantize))
    first = load_packed(folder, tmp_path, dtype="bfloat16", quantize=quantize)
    assert torch.equal(logits(first), expected)
    (written,) = tmp_path.iterdir()
    stamp = written.stat().st_mtime_ns
    restored: list[object] = []
    restore = packed_load._restored
    monkeypatch.setattr(packed_load, "_restored", lambda *given: restored.append(1) or restore(*given))
    second = load_packed(folder, tmp_path, dtype="bfloat16", quantize=quantize)
    assert restored
    assert torch.equal(logits(second), expected)
    assert written.stat().st_mtime_ns == stamp


def test_a_checkpoint_that_changed_is_packed_anew(tmp_path: Path) -> None:
    folder = shutil.copytree(folder_of("llama"), tmp_path / "model")
    cache = tmp_path / "packed"
    load_packed(folder, cache, dtype="bfloat16")
    (written,) = cache.iterdir()
    old = written.read_bytes()
    os.utime(folder / "model.safetensors", ns=(1, 1))
    load_packed(folder, cache, dtype="bfloat16")
    assert [*cache.iterdir()] == [written]
    assert written.read_bytes() != old


def test_each_dtype_and_code_has_its_own(tmp_path: Path) -> None:
    folder = folder_of("llama")
    for dtype, quantize in (
        ("bfloat16", None),
        ("bfloat16", "int8"),
        ("float32", "int8"),
        ("bfloat16", "int4"),
    ):
        load_packed(folder, tmp_path, dtype=dtype, quantize=quantize)
    assert len([*tmp_path.iterdir()]) == 4


def test_weights_of_another_model_are_not_taken(tmp_path: Path) -> None:
    """As if two models had one key: what does not fit is packed anew."""
    mine = packed_file(open_model(folder_of("llama"), dtype="bfloat16"), tmp_path)
    other = packed_file(open_model(folder_of("qwen2"), dtype="bfloat16"), tmp_path)
    load_packed(folder_of("qwen2"), tmp_path, dtype="bfloat16")
    arena = other.read()
    assert arena is not None
    for size in [*reversed(arena._to_come or ())]:
        arena.take(size)
    assert mine.write(arena)
    expected = logits(load(folder_of("llama"), dtype="bfloat16"))
    assert torch.equal(logits(load_packed(folder_of("llama"), tmp_path, dtype="bfloat16")), expected)


@pytest.mark.parametrize(("dtype", "choice"), [("float32", "auto"), ("bfloat16", "torch")])
def test_what_torch_computes_is_not_packed(dtype: str, choice: str, tmp_path: Path) -> None:
    model = load_packed(folder_of("llama"), tmp_path, dtype=dtype, choice=choice)
    assert not [*tmp_path.iterdir()]
    assert any(isinstance(module, torch.nn.Linear) for module in model.graph.modules())


def test_using_kernels_twice_changes_nothing(tmp_path: Path) -> None:
    model = load_packed(folder_of("llama"), tmp_path, dtype="bfloat16")
    before = [*model.graph.modules()]
    report = use_kernels(model.graph, model.dtype)
    assert [*model.graph.modules()] == before
    assert report.num_native > 0
    assert report.packed_bytes > 0


@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
@pytest.mark.parametrize("name", ["llama", "llama-tied"])
def test_what_was_packed_is_let_go_before_the_next_part_is_read(name: str, quantize: str | None) -> None:
    """A load then needs little more memory than what it leaves; holding the plain layers shows here."""
    model = open_model(folder_of(name), dtype="bfloat16", quantize=quantize, is_mapped=False)
    graph = model.graph
    assert isinstance(graph, Decoder)
    plain: dict[str, list[weakref.ref[nn.Module]]] = {}
    for module_name, module in graph.named_modules():
        if isinstance(module, nn.Linear | QuantLinear | QuantEmbedding):
            part = "head." if module_name in ("head", "embed") else ".".join(module_name.split(".")[:2])
            plain.setdefault(part, []).append(weakref.ref(module))
    del module
    packing, seen = PackedAsRead(graph, Arena()), list[str]()

    def notice(names: Collection[str]) -> None:
        packing.notice(names)
        part = ".".join(next(iter(names)).split(".")[:2])
        if part in plain and part not in seen:
            seen.append(part)
            for done in ["head.", *seen[:-1]]:
                assert not any(ref() for ref in plain[done]), f"{done} is still there"

    model.filled(first=HEAD, notice=notice)
    assert len(seen) == len(graph.layers)
    packing.finish()
    assert not any(ref() for refs in plain.values() for ref in refs)
