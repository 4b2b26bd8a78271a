"""Adapters that PEFT wrote give what PEFT computes, in every way that families name and fuse projections."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import cast

import pytest
import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import (
    CheckpointCorrupt,
    CheckpointError,
    CheckpointNotFound,
    CheckpointUnsafe,
    InputError,
    UnsupportedConfig,
)
from cynosure.models.adapters import folder as folder_module
from cynosure.models.adapters.adapter import Adapter
from cynosure.models.adapters.applying import Adapting
from cynosure.models.adapters.config import CONFIG
from cynosure.models.adapters.folder import WEIGHTS, load_adapter, read_adapter
from cynosure.models.adapters.limits import AdapterLimits
from cynosure.models.adapters.targets import Base
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import load
from cynosure.models.quantize import SCHEMES
from cynosure.models.quantized_folder import quantise_folder
from tests.engine.pool.pool_cases import folder_of
from tests.models import brand_oracle, decoder_oracle, mixer_oracle
from tests.models.adapters.peft_folders import logits, num_pairs, write_adapter
from tests.models.decoder_cases import VOCAB
from tests.models.decoder_oracle import Pair, gap, logits_of
from tests.models.gguf_files import MODELS, write_pair

TOLERANCE = 1e-5
#: Each names, splits, turns round or shares projections in a way of its own.
FAMILIES = {
    **dict.fromkeys(("llama", "gpt2", "phi3", "bloom", "gemma2", "qwen3"), decoder_oracle.pair_of),
    **dict.fromkeys(
        ("falcon-40b", "gpt-neox", "gpt-bigcode", "mpt", "glm", "olmo2", "cohere2", "diffllama"),
        brand_oracle.pair_of,
    ),
    "bamba": mixer_oracle.pair_of,
}


def adapted(pair: Pair, adapter: Adapter | None) -> Float[Tensor, "n vocab"]:
    prompt = pair.prompts[0]
    with torch.inference_mode(), Adapting(pair.graph).rows([adapter], [len(prompt)]):
        return pair.graph.logits(pair.graph(Batch.pack([prompt])).hidden)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_what_peft_gives(name: str, tmp_path: Path) -> None:
    pair = FAMILIES[name](name)
    theirs = write_adapter(pair.oracle, tmp_path)
    adapter = load_adapter(pair.model, tmp_path)
    ours, expected = adapted(pair, adapter), logits(theirs, pair.prompts[0])
    assert gap(ours, expected) < TOLERANCE
    # The positive control: the adapter matters, and going without it shows.
    assert gap(adapted(pair, None), expected) > 0.1


@pytest.mark.parametrize(
    "settings",
    [
        {"use_rslora": True},
        {"target_modules": ["q_proj", "down_proj"]},
        {"target_modules": r".*\.(k_proj|up_proj)"},
        {"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [1]},
        {"target_modules": ["q_proj", "v_proj"], "exclude_modules": r".*\.0\..*"},
        {"rank_pattern": {"q_proj": 2, r"1\.mlp\.up_proj": 7}, "alpha_pattern": {"q_proj": 3, "o_proj": 9}},
        {"target_modules": ["model.layers.2.self_attn.o_proj"]},
    ],
)
def test_every_way_to_name_targets_ranks_and_scales(settings: dict[str, object], tmp_path: Path) -> None:
    pair = decoder_oracle.pair_of("llama")
    theirs = write_adapter(pair.oracle, tmp_path, **settings)
    adapter = load_adapter(pair.model, tmp_path)
    assert len(adapter.pairs) == num_pairs(theirs)
    assert gap(adapted(pair, adapter), logits(theirs, pair.prompts[0])) < TOLERANCE
    assert gap(adapted(pair, None), logits(theirs, pair.prompts[0])) > 1e-2


@pytest.mark.parametrize("name", ["mixtral", "deepseek-v2", "llama4", "gemma3n"])
def test_attention_beside_experts_and_latents(name: str, tmp_path: Path) -> None:
    """What computes every token can be adapted, whatever stands beside it."""
    pair = brand_oracle.pair_of(name)
    targets = r".*\.(q_proj|k_proj|v_proj|o_proj|q_a_proj|q_b_proj|kv_a_proj_with_mqa)"
    theirs = write_adapter(pair.oracle, tmp_path, target_modules=targets)
    adapter = load_adapter(pair.model, tmp_path)
    assert len(adapter.pairs) == num_pairs(theirs)
    assert gap(adapted(pair, adapter), logits(theirs, pair.prompts[0])) < TOLERANCE
    assert gap(adapted(pair, None), logits(theirs, pair.prompts[0])) > 1e-2


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi3"])
def test_merged_equals_unmerged(name: str, tmp_path: Path) -> None:
    """The merge is our own, into the checkpoint's tensors under the checkpoint's names."""
    pair = decoder_oracle.pair_of(name)
    write_adapter(pair.oracle, tmp_path / "adapter")
    stored = safetensors.torch.load_file(tmp_path / "adapter" / WEIGHTS)
    merged = deepcopy(pair.oracle)
    for key in stored:
        if ".lora_A." not in key:
            continue
        target = merged.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        added = 6 / 4 * stored[key.replace(".lora_A.", ".lora_B.")] @ stored[key]
        target.weight += added.T if name == "gpt2" else added
    merged.save_pretrained(tmp_path / "merged")
    whole = load(tmp_path / "merged", dtype="float32")
    adapter = load_adapter(pair.model, tmp_path / "adapter")
    expected = logits_of(cast(Decoder, whole.graph), pair.prompts[0])
    assert gap(adapted(pair, adapter), expected) < TOLERANCE


def test_the_library_generates_with_adapters(tmp_path: Path) -> None:
    """Three adapters and none in one batch, beside PEFT's own choice of tokens."""
    pair = decoder_oracle.pair_of("llama")
    base = Base(pair.model.brand, pair.model.spec)
    theirs = [write_adapter(pair.oracle, tmp_path / str(seed), seed) for seed in range(3)]
    adapters = [read_adapter(str(seed), tmp_path / str(seed), base) for seed in range(3)]
    prompts = [pair.prompts[1]] * 4
    options = SamplingOptions(6, eos_token_ids=())
    found = generate(pair.model, prompts, options, adapters=[*adapters, None])
    for generation, oracle in zip(found, [*theirs, pair.oracle], strict=True):
        ids = [*prompts[0], *generation.token_ids]
        chosen = logits(oracle, ids[:-1])[len(prompts[0]) - 1 :].argmax(-1)
        assert tuple(chosen.tolist()) == generation.token_ids
    assert len({generation.token_ids for generation in found}) == 4
    with pytest.raises(InputError, match="4 prompts have 3 adapters"):
        generate(pair.model, prompts, options, adapters=adapters)


def test_a_checkpoint_in_codes_takes_the_adapters_of_its_original(tmp_path: Path) -> None:
    pair = decoder_oracle.pair_of("phi3")
    write_adapter(pair.oracle, tmp_path / "adapter")
    quantise_folder(pair.folder, SCHEMES["int8"], tmp_path / "int8")
    coded = load(tmp_path / "int8", dtype="float32")
    adapter = load_adapter(coded, tmp_path / "adapter")
    plain = load_adapter(pair.model, tmp_path / "adapter")
    assert adapter.digest == plain.digest
    assert adapter.pairs.keys() == plain.pairs.keys()


def test_a_gguf_file_takes_adapters_by_the_names_of_its_folder(tmp_path: Path) -> None:
    path, folder = write_pair(tmp_path, MODELS["llama"])
    from_file, from_folder = load(path, dtype="float32"), load(folder, dtype="float32")
    base, prompt = Base(from_folder.brand, from_folder.spec), [5, 9, 3, 3, 8]
    _write(
        tmp_path / "a",
        {
            Q.format(layer): (shape.out_features, shape.in_features)
            for layer, shape in enumerate(
                shape for name, shape in base.projections.items() if name.endswith("attention.q")
            )
        },
        ["q_proj"],
    )
    tensors = safetensors.torch.load_file(tmp_path / "a" / WEIGHTS)
    safetensors.torch.save_file(
        {key: torch.randn_like(one) for key, one in tensors.items()}, tmp_path / "a" / WEIGHTS
    )
    found = []
    for model in (from_file, from_folder):
        graph = cast(Decoder, model.graph)
        with torch.inference_mode(), Adapting(graph).rows([load_adapter(model, tmp_path / "a")], [5]):
            found.append(graph.logits(graph(Batch.pack([prompt])).hidden))
    assert gap(*found) < TOLERANCE
    assert gap(found[0], logits_of(cast(Decoder, from_file.graph), prompt)) > 1e-2


def test_two_contents_of_one_name_have_two_identities(tmp_path: Path) -> None:
    pair = decoder_oracle.pair_of("llama")
    base = Base(pair.model.brand, pair.model.spec)
    identities = set()
    for seed in range(2):
        write_adapter(pair.oracle, tmp_path, seed)
        identities.add(read_adapter("a", tmp_path, base).identity)
        identities.add(read_adapter("a", tmp_path, base).identity)
    assert len(identities) == 2
    settings = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(settings | {"lora_alpha": 7}))
    assert read_adapter("a", tmp_path, base).identity not in identities


def test_experts_and_heads_are_refused_by_name(tmp_path: Path) -> None:
    llama, mixtral = decoder_oracle.pair_of("llama"), brand_oracle.pair_of("qwen2-moe")
    _write(tmp_path / "head", {"lm_head": (VOCAB, 64)}, ["lm_head"])
    with pytest.raises(UnsupportedConfig, match=r"lm_head, which is no projection in a layer"):
        load_adapter(llama.model, tmp_path / "head")
    _write(tmp_path / "expert", {"model.layers.0.mlp.experts.1.up_proj": (24, 64)}, ["up_proj"])
    with pytest.raises(UnsupportedConfig, match="an expert that computes some tokens only"):
        load_adapter(mixtral.model, tmp_path / "expert")


def _write(folder: Path, modules: dict[str, tuple[int, int]], targets: list[str], rank: int = 4) -> None:
    """An adapter of zeros, without PEFT."""
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": targets}
    (folder / CONFIG).write_text(json.dumps(config))
    tensors = {}
    for module, (out, width) in modules.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = torch.zeros(rank, width)
        tensors[f"base_model.model.{module}.lora_B.weight"] = torch.zeros(out, rank)
    safetensors.torch.save_file(tensors, folder / WEIGHTS)


Q = "model.layers.{}.self_attn.q_proj"


class TestWhatIsWrong:
    """Of the files; every one is refused by name, and nothing is read on."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        _write(tmp_path, {Q.format(layer): (96, 64) for layer in range(3)}, ["q_proj"])
        return tmp_path

    def read(self, folder: Path, limits: AdapterLimits | None = None) -> Adapter:
        model = decoder_oracle.pair_of("llama").model
        return read_adapter("a", folder, Base(model.brand, model.spec), limits)

    def test_nothing(self, folder: Path) -> None:
        assert len(self.read(folder).pairs) == 3

    def test_no_folder_no_config_no_weights(self, folder: Path) -> None:
        with pytest.raises(CheckpointNotFound, match=r"holds no adapter_config.json"):
            self.read(folder / "absent")
        (folder / WEIGHTS).unlink()
        with pytest.raises(CheckpointNotFound, match=r"holds no adapter_model.safetensors"):
            self.read(folder)
        (folder / "adapter_model.bin").write_bytes(b"\x80\x04")
        with pytest.raises(CheckpointUnsafe, match="never"):
            self.read(folder)

    def test_a_file_that_was_cut(self, folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        for size in (0, 7, 8, 100, len(content) - 1):
            (folder / WEIGHTS).write_bytes(content[:size])
            with pytest.raises(CheckpointCorrupt, match="truncated"):
                self.read(folder)

    @pytest.mark.parametrize(
        ("modules", "targets", "message"),
        [
            ({Q.format(layer): (96, 64) for layer in range(2)}, ["q_proj"], "no pair for layers.2"),
            ({Q.format(layer): (96, 32) for layer in range(3)}, ["q_proj"], "of 32 to 96 .* of 64 to 96"),
            ({Q.format(layer): (48, 64) for layer in range(3)}, ["q_proj"], "of 64 to 48 .* of 64 to 96"),
            ({Q.format(7): (96, 64)}, ["q_proj"], "layers.7.self_attn.q_proj, which is no projection"),
            ({"model.layers.0.mixer.q": (96, 64)}, ["q"], "layers.0.mixer.q, which is no projection"),
            ({Q.format(0): (96, 64)}, ["k_proj"], "which adapter_config.json does not target"),
            ({}, ["q_proj"], "holds no tensors"),
        ],
    )
    def test_modules(
        self, folder: Path, modules: dict[str, tuple[int, int]], targets: list[str], message: str
    ) -> None:
        _write(folder, modules, targets)
        with pytest.raises(CheckpointError, match=message):
            self.read(folder)

    @pytest.mark.parametrize(
        ("name", "tensor", "message"),
        [
            ("base_model.model.model.embed_tokens.lora_embedding_A", torch.zeros(4, 9), "no half of a"),
            (f"base_model.model.{Q.format(0)}.lora_magnitude_vector", torch.zeros(9), "no half of a"),
            (f"base_model.model.{Q.format(0)}.lora_A.weight", torch.zeros(4, 64).int(), "a matrix of floats"),
            (f"base_model.model.{Q.format(0)}.lora_A.weight", torch.zeros(3, 64), "ranks 3 and 4"),
            (f"base_model.model.{Q.format(0)}.lora_A.weight", torch.full((4, 64), torch.nan), "NaN or Inf"),
            ("base_model.model.model.norm.lora_B.weight", torch.zeros(4, 4), "not the other half"),
        ],
    )
    def test_tensors(self, folder: Path, name: str, tensor: Tensor, message: str) -> None:
        tensors = safetensors.torch.load_file(folder / WEIGHTS) | {name: tensor}
        safetensors.torch.save_file(tensors, folder / WEIGHTS)
        with pytest.raises(CheckpointError, match=message):
            self.read(folder)

    def test_files_that_change_while_they_are_read(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = folder_module._read

        def late(place: Path) -> object:
            found = read(place)
            config = json.loads((place / CONFIG).read_text())
            (place / CONFIG).write_text(json.dumps(config | {"lora_alpha": 9}))
            return found

        monkeypatch.setattr(folder_module, "_read", late)
        with pytest.raises(CheckpointCorrupt, match="changed while it was read"):
            self.read(folder)

    def test_limits(self, folder: Path) -> None:
        with pytest.raises(InputError, match="has rank 4; the limit is 3"):
            self.read(folder, AdapterLimits(max_rank=3))
        with pytest.raises(InputError, match="takes 7680 bytes in float32; the limit is 7679"):
            self.read(folder, AdapterLimits(max_bytes=7679))
        assert self.read(folder, AdapterLimits(max_rank=4, max_bytes=7680)).num_bytes == 7680

    def test_another_kind_of_model(self, folder: Path) -> None:
        t5 = load(folder_of("t5"))
        with pytest.raises(UnsupportedConfig, match="adapters are served for decoders only"):
            Base(t5.brand, t5.spec)
