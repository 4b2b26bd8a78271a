"""Test that weights reach a module's parameters, checked. Knows nothing of any family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cynosure.core.errors import CheckpointCorrupt, CheckpointUnsafe, UnknownOption, UnsupportedConfig
from cynosure.models.checkpoint import MissingTensor, choose_dtype, fill, is_finite, open_weights
from cynosure.models.safetensor_files import INDEX, SINGLE


class Tiny(nn.Module):
    """An embedding, a layer with a bias, a head that may be tied, and a stored buffer."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.layer = nn.Linear(4, 3)
        self.head = nn.Linear(4, 5, bias=False)
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int64))
        if tied:
            self.head.weight = self.embed.weight


def empty(tied: bool = False) -> Tiny:
    with torch.device("meta"):
        return Tiny(tied)


def stored(folder: Path, dtype: torch.dtype = torch.float32, **changes: Tensor | None) -> dict[str, Tensor]:
    """Write a checkpoint for `Tiny`; a change of None leaves the tensor out."""
    tensors = {
        name: tensor.to(dtype if tensor.is_floating_point() else None)
        for name, tensor in Tiny().state_dict().items()
    }
    tensors |= {name.replace("__", "."): change for name, change in changes.items()}
    kept = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / SINGLE)
    return kept


def test_weights_read_like_a_mapping(tmp_path: Path) -> None:
    tensors = stored(tmp_path)
    weights = open_weights(tmp_path)
    assert set(weights.names()) == set(weights) == set(tensors)
    assert len(weights) == 5
    assert weights.shape("layer.weight") == (3, 4)
    assert weights.dtype("steps") == torch.int64
    assert torch.equal(weights["embed.weight"], tensors["embed.weight"])
    assert weights.tensor("layer.bias", torch.bfloat16).dtype == torch.bfloat16
    assert torch.equal(weights.later("layer.weight", Tensor.t)(), tensors["layer.weight"].t())
    assert weights.get("absent") is None
    assert "absent" not in weights
    with pytest.raises(MissingTensor, match=r"lacks the tensor layer\.wieght .* closest is layer\.weight"):
        weights["layer.wieght"]


def test_shards_read_as_one(tmp_path: Path) -> None:
    a, b = torch.randn(3), torch.randn(2, 2)
    save_file({"a": a}, tmp_path / "x-1.safetensors")
    save_file({"b": b}, tmp_path / "x-2.safetensors")
    weight_map = {"a": "x-1.safetensors", "b": "x-2.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    weights = open_weights(tmp_path)
    assert torch.equal(weights["a"], a)
    assert torch.equal(weights["b"], b)


def test_file_that_changed_after_it_was_opened(tmp_path: Path) -> None:
    stored(tmp_path)
    weights = open_weights(tmp_path)
    (tmp_path / SINGLE).write_bytes(b"")
    with pytest.raises(CheckpointCorrupt, match="gave no tensor"):
        weights["layer.weight"]


@pytest.mark.parametrize("tied", [False, True])
def test_fill_gives_every_parameter(tmp_path: Path, tied: bool) -> None:
    tensors = stored(tmp_path, **({"head__weight": None} if tied else {}))
    module = empty(tied)
    fill(module, open_weights(tmp_path), torch.float32)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, tensors[name if name in tensors else "embed.weight"])
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert (module.head.weight is module.embed.weight) == tied
    assert module.layer(torch.ones(4)).shape == (3,)


@pytest.mark.parametrize("only", ["embed.weight", "head.weight"])
def test_tied_weights_may_have_either_name(tmp_path: Path, only: str) -> None:
    other = {"embed.weight": "head__weight", "head.weight": "embed__weight"}[only]
    tensors = stored(tmp_path, **{other: None})
    module = empty(tied=True)
    fill(module, open_weights(tmp_path), None)
    assert module.head.weight is module.embed.weight
    assert torch.equal(module.embed.weight, tensors[only])


def test_tied_weights_that_differ(tmp_path: Path) -> None:
    same = torch.randn(5, 4)
    stored(tmp_path, embed__weight=same, head__weight=same.clone())
    fill(empty(tied=True), open_weights(tmp_path), torch.float32)
    stored(tmp_path, embed__weight=same, head__weight=same + 1)
    with pytest.raises(CheckpointCorrupt, match=r"embed\.weight and head\.weight differ"):
        fill(empty(tied=True), open_weights(tmp_path), torch.float32)


def maps_of(path: Path) -> list[tuple[int, int]]:
    """The address ranges where this process has the file mapped."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return [(int(start, 16), int(end, 16)) for start, end in ranges]


@pytest.mark.parametrize(("dtype", "mapped"), [(None, True), (torch.float32, True), (torch.bfloat16, False)])
def test_a_kept_dtype_stays_a_view_of_the_file(
    tmp_path: Path, dtype: torch.dtype | None, mapped: bool
) -> None:
    stored(tmp_path)
    module = empty()
    fill(module, open_weights(tmp_path), dtype)
    address = module.layer.weight.data_ptr()
    assert any(start <= address < end for start, end in maps_of(tmp_path / SINGLE)) == mapped


def test_fill_converts_floats_alone(tmp_path: Path) -> None:
    stored(tmp_path)
    module = empty()
    fill(module, open_weights(tmp_path), torch.bfloat16)
    assert module.layer.weight.dtype == torch.bfloat16
    assert module.steps.dtype == torch.int64


def test_missing_and_unexpected_tensors_are_all_named(tmp_path: Path) -> None:
    stored(tmp_path, layer__bias=None, extra__weight=torch.zeros(1), rotary__inv_freq=torch.zeros(1))
    with pytest.raises(
        CheckpointCorrupt, match=r"lacks 1 tensors \(layer\.bias\) and has 2 tensors \(.*in vain"
    ):
        fill(empty(), open_weights(tmp_path), None)
    stored(tmp_path, extra__weight=torch.zeros(1), rotary__inv_freq=torch.zeros(1))
    with pytest.raises(CheckpointCorrupt, match=r"1 tensors \(extra\.weight\) in vain"):
        fill(empty(), open_weights(tmp_path), None, ignore={"*.inv_freq"})
    fill(empty(), open_weights(tmp_path), None, ignore={"*.inv_freq", "extra.weight"})


def test_shape_mismatch(tmp_path: Path) -> None:
    stored(tmp_path, layer__weight=torch.zeros(4, 3))
    with pytest.raises(
        CheckpointCorrupt, match=r"layer\.weight has shape \(4, 3\); the config asks for \(3, 4\)"
    ):
        fill(empty(), open_weights(tmp_path), None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite(tmp_path: Path, dtype: torch.dtype, value: float) -> None:
    weight = torch.zeros(3, 4, dtype=dtype)
    weight[1, 2] = value
    stored(tmp_path, dtype, layer__weight=weight)
    with pytest.raises(CheckpointCorrupt, match=r"layer\.weight holds NaN or Inf"):
        fill(empty(), open_weights(tmp_path), None)


def test_a_sum_that_overflows_is_no_damage() -> None:
    large = torch.full((3, 100), 6e4, dtype=torch.float16)
    assert not torch.isfinite(large.sum(-1)).any()
    assert is_finite(large)
    assert is_finite(torch.tensor(1.0))
    assert is_finite(torch.zeros(0, 3))
    assert not is_finite(torch.tensor(float("nan")))
    # Infinities of both signs would be NaN in the sum, not zero.
    assert not is_finite(torch.tensor([float("inf"), float("-inf")]))


def test_dtype_that_is_too_narrow(tmp_path: Path) -> None:
    stored(tmp_path, layer__bias=torch.full((3,), 1e6))
    fill(empty(), open_weights(tmp_path), torch.bfloat16)
    with pytest.raises(CheckpointCorrupt, match=r"layer\.bias does not fit in torch\.float16"):
        fill(empty(), open_weights(tmp_path), torch.float16)


def test_integers_where_floats_belong(tmp_path: Path) -> None:
    stored(tmp_path, layer__bias=torch.zeros(3, dtype=torch.int8))
    with pytest.raises(CheckpointCorrupt, match=r"layer\.bias is stored as torch\.int8"):
        fill(empty(), open_weights(tmp_path), None)


def test_codes_without_scales(tmp_path: Path) -> None:
    stored(tmp_path, layer__weight=torch.zeros(3, 4).to(torch.float8_e4m3fn))
    with pytest.raises(UnsupportedConfig, match=r"layer\.weight .* scales"):
        fill(empty(), open_weights(tmp_path), torch.bfloat16)


def test_sources_may_be_functions_and_are_called_once() -> None:
    calls = []

    def make(name: str, tensor: Tensor) -> Tensor:
        calls.append(name)
        return tensor

    module = empty()
    fill(module, {n: lambda n=n, t=t: make(n, t) for n, t in Tiny().state_dict().items()}, None)
    assert sorted(calls) == sorted(module.state_dict())


def test_buffers_that_are_not_stored_must_be_real() -> None:
    module = empty()
    module.register_buffer("angles", torch.zeros(2, device="meta"), persistent=False)
    with pytest.raises(AssertionError, match="angles"):
        fill(module, Tiny().state_dict(), None)


@pytest.mark.parametrize(
    ("name", "config", "expected"),
    [
        ("float16", {}, torch.float16),
        ("auto", {}, torch.bfloat16),
        ("auto", {"torch_dtype": "float32"}, torch.float32),
        ("auto", {"dtype": "torch.float16", "torch_dtype": "float32"}, torch.float16),
        ("keep", {"dtype": "float32"}, torch.bfloat16),
    ],
)
def test_choose_dtype(tmp_path: Path, name: str, config: dict[str, str], expected: torch.dtype) -> None:
    # One tensor in another dtype does not decide.
    stored(tmp_path, torch.bfloat16, layer__bias=torch.zeros(3))
    assert choose_dtype(name, config, open_weights(tmp_path)) == expected


def test_choose_dtype_refuses(tmp_path: Path) -> None:
    stored(tmp_path)
    with pytest.raises(UnknownOption, match="dtype 'half' does not exist"):
        choose_dtype("half", {}, open_weights(tmp_path))
    with pytest.raises(UnsupportedConfig, match="dtype = 'int8'"):
        choose_dtype("auto", {"dtype": "int8"}, open_weights(tmp_path))
    save_file({"codes": torch.zeros(3, dtype=torch.uint8)}, tmp_path / SINGLE)
    with pytest.raises(UnsupportedConfig, match=r"stored as \['U8'\]"):
        choose_dtype("keep", {}, open_weights(tmp_path))


def test_pickled_weights(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointUnsafe, match="save_pretrained"):
        open_weights(tmp_path)
