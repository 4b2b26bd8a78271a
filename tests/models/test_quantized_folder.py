"""What is written loads as the same bits that quantising at load gives, or not at all."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointError,
    EnvironmentFault,
    InputError,
    UnknownOption,
    UnsupportedConfig,
)
from cynosure.models import quantized_folder
from cynosure.models.load import load
from cynosure.models.quantize import SCHEMES
from cynosure.models.quantized_folder import quantise_folder
from cynosure.models.safetensor_writer import write_safetensors
from tests.models import moe_oracle
from tests.models.decoder_oracle import logits_of, pair_of


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return quantise_folder(pair_of("llama-tied").folder, SCHEMES["int4"], tmp_path / "coded").folder


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("llama", "int8"),
        ("llama-tied", "int4"),
        ("phi3", "int4-pure"),
        ("gpt2", "int8"),
        ("deepseek-plain", "int8"),
    ],
)
def test_what_is_written_loads_as_what_is_quantised_at_load(name: str, scheme: str, tmp_path: Path) -> None:
    pair = (moe_oracle if name in moe_oracle.CASES else sys.modules[pair_of.__module__]).pair_of(name)
    told: list[tuple[str, int, int]] = []
    written = quantise_folder(
        pair.folder, SCHEMES[scheme], tmp_path / "a" / "coded", lambda *one: told.append(one)
    )
    ours, theirs = load(written.folder), load(pair.folder, quantize=scheme)
    assert ours.scheme == theirs.scheme == written.scheme
    assert ours.dtype == theirs.dtype
    tensors, expected = ours.graph.state_dict(), theirs.graph.state_dict()
    assert tensors.keys() == expected.keys()
    for key, tensor in tensors.items():
        assert tensor.dtype == expected[key].dtype
        assert torch.equal(tensor, expected[key])
    with torch.no_grad():
        assert torch.equal(logits_of(ours.graph, pair.prompts[0]), logits_of(theirs.graph, pair.prompts[0]))
    stages = [one for one in told if one[0] == "Quantising"]
    assert [done for _, done, _ in stages] == list(range(1, len(stages) + 1))
    assert stages[-1][1] == stages[-1][2]
    assert told[-1][0] == "Writing"
    assert not list((tmp_path / "a").glob(".*"))


def test_it_is_told_what_it_weighs(tmp_path: Path) -> None:
    folder = pair_of("llama-tied").folder
    done = quantise_folder(folder, SCHEMES["int8"], tmp_path / "coded")
    assert done.num_weights == sum(
        tensor.numel() for tensor in load_file(folder / "model.safetensors").values()
    )
    assert done.bytes_before == (folder / "model.safetensors").stat().st_size
    assert done.bytes_after == (done.folder / "model.safetensors").stat().st_size
    assert 8 < done.bits_per_weight < 10


def test_tied_tables_are_written_once(written: Path) -> None:
    names = load_file(written / "model.safetensors").keys()
    assert "embed.codes" in names
    assert not any(name.startswith(("head.", "embed.weight")) for name in names)


def test_tokenizer_and_templates_come_along_and_stale_files_do_not(tmp_path: Path) -> None:
    source = Path(shutil.copytree(pair_of("llama").folder, tmp_path / "source"))
    kept = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE", "merges.txt"]
    kept += ["additional_chat_templates/tool.jinja", "1_Pooling/config.json"]
    left = [
        "model.safetensors.index.json.bak",
        "model-00002-of-00002.safetensors",
        "train.py",
        "optimizer.pt",
    ]
    for name in kept + left:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_text(f"{{}} {name}")
    out = quantise_folder(source, SCHEMES["int8"], tmp_path / "coded").folder
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == {*kept, "config.json", "generation_config.json", "model.safetensors"}
    assert all((out / name).read_bytes() == (source / name).read_bytes() for name in kept)


def test_the_config_says_what_was_done_and_the_weights_from_what(written: Path) -> None:
    theirs = json.loads((pair_of("llama-tied").folder / "config.json").read_text())
    ours = json.loads((written / "config.json").read_text())
    assert ours.pop("quantization_config") == {
        "quant_method": "cynosure",
        "version": 1,
        "scheme": "int4",
        "bits": 4,
        "group_size": 32,
        "head_bits": 8,
    }
    assert ours == theirs
    with safetensors.safe_open(written / "model.safetensors", framework="pt") as file:
        assert len(file.metadata()["source_sha256"]) == 64


def test_a_config_without_a_dtype_gets_the_one_that_the_weights_had(tmp_path: Path) -> None:
    source = Path(shutil.copytree(pair_of("llama-tied").folder, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    config.pop("dtype")
    (source / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(source / "model.safetensors").items()}
    save_file(tensors, source / "model.safetensors")
    out = quantise_folder(source, SCHEMES["int8"], tmp_path / "coded").folder
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert load(out).dtype is load(source, quantize="int8").dtype is torch.bfloat16


def test_another_code_is_not_made_from_codes(written: Path, tmp_path: Path) -> None:
    assert load(written, quantize="int4").scheme is SCHEMES["int4"]
    with pytest.raises(UnknownOption, match="holds int4 codes; they can't become int8"):
        load(written, quantize="int8")
    with pytest.raises(UnknownOption, match="holds int4 codes already"):
        quantise_folder(written, SCHEMES["int4"], tmp_path / "again")


def test_nothing_is_overwritten(written: Path) -> None:
    before = (written / "config.json").read_bytes()
    with pytest.raises(InputError, match="exists; nothing is overwritten"):
        quantise_folder(pair_of("llama").folder, SCHEMES["int8"], written)
    assert (written / "config.json").read_bytes() == before


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *given: object) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantized_folder, "write_safetensors", full)
    with pytest.raises(EnvironmentFault, match="No space left on device"):
        quantise_folder(pair_of("llama").folder, SCHEMES["int8"], tmp_path / "coded")
    assert list(tmp_path.iterdir()) == []


def recoded(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def told(**changes: object) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"].update(changes)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


K = "layers.0.attention.k"


@pytest.mark.parametrize(
    ("damage", "error", "words"),
    [
        (recoded(lambda t: t.pop(f"{K}.scale")), CheckpointCorrupt, rf"lacks 1 tensors \({K}.scale\)"),
        (
            recoded(lambda t: t.update({f"{K}.scale": t[f"{K}.scale"] * float("nan")})),
            CheckpointCorrupt,
            "k.scale holds NaN",
        ),
        (
            recoded(lambda t: t.update({f"{K}.codes": t[f"{K}.codes"][:, :-1].clone()})),
            CheckpointCorrupt,
            "k.codes has shape",
        ),
        (
            recoded(lambda t: t.update({f"{K}.codes": t[f"{K}.codes"].to(torch.int8)})),
            CheckpointCorrupt,
            "torch.int8; torch.uint8 is needed",
        ),
        (
            recoded(lambda t: t.update({f"{K}.scale": t[f"{K}.scale"].to(torch.int8)})),
            CheckpointCorrupt,
            "k.scale is stored as torch.int8",
        ),
        (told(scheme="int8"), CheckpointCorrupt, "that is no scheme of int8"),
        (told(scheme="int5"), CheckpointCorrupt, "scheme = 'int5'"),
        (told(group_size=128), CheckpointCorrupt, "'group_size': 128"),
        (told(version=2), UnsupportedConfig, "version = 2"),
        (told(desc_act=True), UnsupportedConfig, "desc_act"),
        (told(quant_method="gptq"), UnsupportedConfig, "quant_method = 'gptq'"),
    ],
)
def test_damage_is_refused_by_name(
    written: Path, damage: Callable[[Path], None], error: type[CheckpointError], words: str
) -> None:
    load(written)
    damage(written)
    with pytest.raises(error, match=words):
        load(written)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "fp8", "compressed-tensors", None])
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_other_people_s_codes_are_refused_by_name(
    tmp_path: Path, method: str | None, quantize: str | None
) -> None:
    source = Path(shutil.copytree(pair_of("llama").folder, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedConfig, match=f"quant_method = {method!r}.*cynosure quantize"):
        load(source, quantize=quantize)


MEASURE = """
import re, sys
from pathlib import Path
from cynosure.models.load import load
load(sys.argv[2], quantize="int8")
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
model = load(sys.argv[1], quantize=sys.argv[3] if len(sys.argv) > 3 else None)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux counts")
def test_peak_memory_is_that_of_the_codes_and_one_tensor(tmp_path: Path) -> None:
    """In KiB: 17M float32 weights are 68,000; their codes 17,000; the largest one 16,400."""
    folder = tmp_path / "wide"
    shutil.copytree(pair_of("llama-tied").folder, folder)
    config = json.loads((folder / "config.json").read_text())
    width, inner = 1024, 4096
    config.update(hidden_size=width, intermediate_size=inner, num_hidden_layers=1, num_key_value_heads=4)
    config.pop("head_dim", None)
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {
        "model.embed_tokens.weight": (199, width),
        "model.norm.weight": (width,),
        "model.layers.0.input_layernorm.weight": (width,),
        "model.layers.0.post_attention_layernorm.weight": (width,),
        **{f"model.layers.0.self_attn.{part}_proj.weight": (width, width) for part in "qkvo"},
        "model.layers.0.mlp.gate_proj.weight": (inner, width),
        "model.layers.0.mlp.up_proj.weight": (inner, width),
        "model.layers.0.mlp.down_proj.weight": (width, inner),
    }
    tensors = {name: torch.rand(shape) - 0.5 for name, shape in shapes.items()}
    (folder / "model.safetensors").unlink()
    write_safetensors(folder / "model.safetensors", tensors, {})
    size = sum(tensor.numel() for tensor in tensors.values()) // 1024
    largest = inner * width * 4 // 1024
    command = [sys.executable, "-c", MEASURE, str(folder), str(pair_of("llama-tied").folder)]
    ran = subprocess.run([*command, "int8"], capture_output=True, text=True, check=True, timeout=60)
    assert int(ran.stdout) < size + largest + 14_000
    # What is not quantised is seen to take more, so that the measurement can tell.
    plain = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(plain.stdout) > 3 * size
