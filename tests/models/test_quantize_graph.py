"""A graph over codes gives what the same graph gives over the weights that the codes stand for."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cynosure.core.errors import CheckpointCorrupt, UnknownOption, UnsupportedConfig
from cynosure.models.decoder import Decoder
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel, load
from cynosure.models.quantize import (
    INT4,
    INT8,
    SCHEMES,
    Coded,
    CodeFormat,
    QuantEmbedding,
    QuantLinear,
    dequantise,
    layers,
    quantise,
)
from cynosure.models.quantize.graph import coded_layers
from tests.models import decoder_oracle, moe_oracle
from tests.models.decoder_oracle import Pair, gap, logits_of, pair_of

TOLERANCE = 1e-5


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


def made(form: CodeFormat, num_in: int, num_out: int, has_bias: bool = True) -> QuantLinear:
    coded = quantise(torch.randn(num_out, num_in), form)
    linear = QuantLinear(form, num_in, num_out, nn.Parameter(torch.randn(num_out)) if has_bias else None)
    linear.codes, linear.scale = coded
    return linear


def plain_twin(graph: nn.Module) -> nn.Module:
    """The graph with ordinary layers that hold the dequantised weights."""
    twin = copy.deepcopy(graph)
    for name, layer in list(coded_layers(twin)):
        weight = dequantise(Coded(layer.codes, layer.scale), layer.form, torch.float32)
        if isinstance(layer, QuantEmbedding):
            twin.set_submodule(name, nn.Embedding(*weight.shape, _weight=weight))
        else:
            linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
            linear.weight = nn.Parameter(weight, requires_grad=False)
            linear.bias = layer.bias
            twin.set_submodule(name, linear)
    return twin


def some_pair(name: str) -> Pair:
    return (moe_oracle if name in moe_oracle.CASES else decoder_oracle).pair_of(name)


@pytest.mark.parametrize("form", [INT8, INT4])
@pytest.mark.parametrize("num_rows", [0, 1, 31, 32, 33])
@pytest.mark.parametrize("block", [1, 70 * 64, 1 << 22])
def test_a_layer_is_within_rounding_of_float64(
    form: CodeFormat, num_rows: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "BLOCK", block)
    linear, x = made(form, 64, 100), torch.randn(num_rows, 64)
    weight = dequantise(Coded(linear.codes, linear.scale), form, torch.float64)
    exact = x.double() @ weight.T + linear.bias.double()
    bound = 70 * 2**-23 * (x.double().abs() @ weight.T.abs() + linear.bias.abs())
    assert bool(((linear(x).double() - exact).abs() <= bound).all())


def test_a_layer_answers_in_the_dtype_that_it_was_asked_in() -> None:
    linear = made(INT4, 64, 10, has_bias=False)
    x = torch.randn(2, 3, 64, dtype=torch.bfloat16)
    assert linear(x).dtype is torch.bfloat16
    assert linear(x).shape == (2, 3, 10)
    assert gap(linear(x).float(), linear(x.float())) < 0.02


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        *((name, scheme) for name in ("llama", "llama-tied", "phi3", "gpt2") for scheme in ("int8", "int4")),
        ("llama", "int4-pure"),
        ("llama-tied", "int4-pure"),
        ("bloom", "int8"),
        ("deepseek-plain", "int8"),
    ],
)
def test_codes_stand_for_their_weights_throughout_a_model(name: str, scheme: str) -> None:
    pair = some_pair(name)
    model = load(pair.folder, dtype="float32", quantize=scheme)
    assert isinstance(model.graph, Decoder)
    prompt = pair.prompts[0]
    assert gap(logits_of(model.graph, prompt), logits_of(plain_twin(model.graph), prompt)) <= TOLERANCE
    # The twin is no tautology: codes are not the weights.
    assert gap(logits_of(model.graph, prompt), logits_of(pair.graph, prompt)) > 100 * TOLERANCE


def test_what_becomes_codes_and_what_stays() -> None:
    graph = load(pair_of("llama").folder, quantize="int4").graph
    coded = {name: layer.form.bits for name, layer in coded_layers(graph)}
    assert coded.pop("head") == 8
    assert len(coded) == 3 * 7
    assert set(coded.values()) == {4}
    assert isinstance(graph.embed, nn.Embedding)
    experts = load(some_pair("deepseek-plain").folder, quantize="int8").graph
    names = {name for name, _ in coded_layers(experts)}
    assert "layers.1.mlp.experts.each.0.down" in names
    assert "layers.1.mlp.router" not in names
    assert experts.get_parameter("layers.1.mlp.router.weight").dtype is experts.norm.weight.dtype


def test_a_tied_table_is_kept_once_and_reads_as_the_head_does() -> None:
    model = load(pair_of("llama-tied").folder, dtype="bfloat16", quantize="int8")
    graph = model.graph
    assert isinstance(graph, Decoder)
    assert isinstance(graph.embed, QuantEmbedding)
    assert graph.embed.codes is graph.head.codes
    assert graph.embed.scale is graph.head.scale
    assert graph.dtype is torch.bfloat16
    assert graph.embed(torch.tensor([3, 5])).dtype is torch.bfloat16
    weight = dequantise(Coded(graph.head.codes, graph.head.scale), INT8, torch.bfloat16)
    assert torch.equal(graph.embed(torch.tensor([3, 5])), weight[[3, 5]])
    (answer,) = generate(model, [[1, 2, 3]], SamplingOptions(4, eos_token_ids=()))
    assert len(answer.token_ids) == 4


@pytest.mark.parametrize("dtype", ["bfloat16", "keep", "float32"])
def test_codes_do_not_depend_on_what_the_model_computes_in(dtype: str) -> None:
    folder = pair_of("llama").folder
    codes = [
        dict(load(folder, dtype=each, quantize="int4").graph.named_buffers()) for each in ("float32", dtype)
    ]
    assert codes[0].keys() == codes[1].keys()
    assert all(torch.equal(codes[0][name], codes[1][name]) for name in codes[0])


@pytest.mark.parametrize(
    ("name", "scheme", "error", "words"),
    [
        ("llama", "int3", UnknownOption, "int8, int4, int4-g128"),
        ("llama", "int4-g128", UnsupportedConfig, r"layers\.0\.attention\.q has rows of 64 weights"),
        ("gpt-oss", "int8", UnsupportedConfig, r"layers\.0\.mlp\.experts keeps its experts in stacks"),
    ],
)
def test_what_can_t_be_quantised_is_refused_by_name(
    name: str, scheme: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        load(some_pair(name).folder, quantize=scheme)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda weight: weight * float("nan"), "q_proj|attention.q.weight holds NaN"),
        (lambda weight: weight[:-1], r"attention.q.weight has shape \(95, 64\)"),
        (lambda weight: weight.to(torch.int8), "attention.q.weight is stored as torch.int8"),
        (lambda weight: weight.to(torch.float8_e4m3fn), "codes, which mean nothing without their scales"),
    ],
)
def test_a_damaged_weight_is_not_quantised(tmp_path: Path, change: object, words: str) -> None:
    folder = pair_of("llama").folder
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.q_proj.weight"
    tensors[name] = change(tensors[name]).contiguous()  # type: ignore[operator]
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises((CheckpointCorrupt, UnsupportedConfig), match=words):
        load(tmp_path, quantize="int8")


def test_a_model_says_its_scheme() -> None:
    assert load(pair_of("llama").folder).scheme is None
    model: LanguageModel = load(pair_of("llama").folder, quantize="int4-pure")
    assert model.scheme is SCHEMES["int4-pure"]
