"""Every denoiser and autoencoder equals diffusers' on the same files, and a broken one does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
import torch

from cynosure.attention import Heads
from cynosure.models.brand import ModelKind
from cynosure.models.denoise.autoencoder import Autoencoder
from cynosure.models.denoise.autoencoder_spec import AutoencoderSpec
from cynosure.models.denoise.inputs import Condition
from cynosure.models.denoise.transformer_spec import TransformerSpec
from cynosure.models.denoise.unet_spec import UNetSpec
from cynosure.models.families.table import BRANDS
from cynosure.models.load import load
from cynosure.models.native.graph import use_kernels
from tests.models.denoise.denoise_cases import CASES
from tests.models.denoise.denoise_oracle import (
    DENOISE_CASES,
    TIMESTEPS,
    TOLERANCE,
    compared,
    condition_for,
    errors_of,
    latents_for,
    pair_of,
    theirs,
)

S = TypeVar("S", UNetSpec, AutoencoderSpec)


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", CASES)
def test_equals_diffusers(name: str) -> None:
    errors = errors_of(name)
    assert max(errors.values()) <= TOLERANCE, errors


def test_every_denoiser_in_the_table_is_measured() -> None:
    kinds = (ModelKind.DENOISER, ModelKind.AUTOENCODER)
    assert {name for name, brand in BRANDS.items() if brand.kind in kinds} == DENOISE_CASES.keys()


def _other_heads(spec: TransformerSpec) -> TransformerSpec:
    return replace(spec, heads=Heads.of(2 * spec.heads.num_heads, spec.heads.head_dim // 2))


def _other_base(spec: TransformerSpec) -> TransformerSpec:
    return replace(spec, position_base=2 * spec.position_base)


def _other_attention_eps(spec: TransformerSpec) -> TransformerSpec:
    return replace(spec, attention_norm_eps=0.1)


def _other_mlp_eps(spec: TransformerSpec) -> TransformerSpec:
    return replace(spec, mlp_norm_eps=0.1)


def _other_middle(spec: UNetSpec) -> UNetSpec:
    return replace(spec, middle=replace(spec.middle, num_heads=1))


def _other_norm(spec: S) -> S:
    return replace(spec, norm=replace(spec.norm, num_groups=2))


def _other_norm_eps(spec: S) -> S:
    return replace(spec, norm=replace(spec.norm, eps=0.05))


MUTANTS = [
    ("dit", _other_heads),
    ("dit", _other_base),
    ("dit", _other_attention_eps),
    ("dit", _other_mlp_eps),
    ("pixart", _other_heads),
    ("pixart", _other_base),
    ("pixart", _other_attention_eps),
    ("unet", _other_middle),
    ("unet", _other_norm),
    ("unet", _other_norm_eps),
    ("autoencoder", _other_norm),
    ("autoencoder", _other_norm_eps),
]


@pytest.mark.parametrize(("name", "change"), MUTANTS)
def test_a_wrong_spec_is_noticed(name: str, change: Callable[[object], object]) -> None:
    pair = pair_of(name)
    with torch.device("meta"):
        broken = type(pair.graph)(change(pair.graph.spec)).eval()
    broken.load_state_dict(pair.graph.state_dict(), assign=True)
    assert compared(broken, pair) > 2 * TOLERANCE


@pytest.mark.parametrize("name", ["dit", "pixart-sized", "unet", "autoencoder"])
def test_no_weight_is_idle(name: str) -> None:
    """What moves nothing could be anything, and no comparison would tell."""
    graph = load(pair_of(name).folder, dtype="float32").graph
    graph.requires_grad_(True)
    with torch.enable_grad():
        if isinstance(graph, Autoencoder):
            told = graph.encode(torch.randn(1, 3, 8, 8), backend="reference")
            found = [told.mean, told.logvar, graph.decode(torch.randn(1, 4, 2, 2), backend="reference")]
        else:
            latents = torch.randn(3, graph.inputs.in_channels, 8, 8)
            condition = condition_for(graph.inputs, 3)
            found = [graph.predict(latents, TIMESTEPS, condition, backend="reference")]
        sum((one * torch.randn_like(one)).sum() for one in found).backward()
    # A bias of keys adds the same to all scores of a query, which softmax does not see.
    weights = [(key, one.grad) for key, one in graph.named_parameters() if not key.endswith(".k.bias")]
    assert not [key for key, grad in weights if grad is None or grad.abs().max() < 1e-5]


@pytest.mark.parametrize("name", ["pixart", "unet"])
def test_an_ignored_padding_is_noticed(name: str) -> None:
    pair = pair_of(name)
    latents, condition = latents_for(pair, pair.sizes[0]), condition_for(pair.graph.inputs, 3)
    expected = theirs(pair.oracle, latents, TIMESTEPS, condition)
    seen = pair.graph.predict(latents, TIMESTEPS, replace(condition, text_mask=None))
    assert (seen[1:] - expected[1:]).abs().max() > 0.01
    assert (seen[0] - expected[0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["dit", "pixart", "unet", "autoencoder"])
def test_backends_agree(name: str) -> None:
    pair = pair_of(name)
    if isinstance(pair.graph, Autoencoder):
        images = torch.randn(2, 3, 16, 16)
        plain = pair.graph.encode(images, backend="reference").mean
        assert torch.allclose(plain, pair.graph.encode(images, backend="sdpa").mean, atol=TOLERANCE)
        return
    latents, condition = latents_for(pair, pair.sizes[1]), condition_for(pair.graph.inputs, 3)
    found = [pair.graph.predict(latents, TIMESTEPS, condition, backend=one) for one in ("reference", "sdpa")]
    assert torch.allclose(*found, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_eight_bits_and_kernels_are_near(name: str) -> None:
    pair = pair_of(name)
    coded = load(pair.folder, dtype="float32", quantize="int8").graph
    assert 1e-5 < compared(coded, pair) < 0.2
    graph = load(pair.folder, dtype="float32").graph
    assert use_kernels(graph, torch.float32, "native").num_native
    assert compared(graph, pair) <= TOLERANCE


@pytest.mark.parametrize("name", ["dit", "pixart-sized", "unet", "autoencoder"])
def test_sixteen_bits_are_near(name: str) -> None:
    pair = pair_of(name)
    assert 1e-5 < compared(load(pair.folder, dtype="bfloat16").graph, pair) < 0.2


def test_a_rectangle_of_patches_is_put_together() -> None:
    """The oracle's layers know rectangles; only how it puts patches together does not."""
    pair, latents = pair_of("dit"), torch.randn(3, 4, 6, 10)
    oracle, labels = pair.oracle, condition_for(pair.graph.inputs, 3).labels
    x = oracle.pos_embed(latents)
    for block in oracle.transformer_blocks:
        x = block(x, timestep=TIMESTEPS, class_labels=labels)
    told = oracle.transformer_blocks[0].norm1.emb(TIMESTEPS, labels, hidden_dtype=x.dtype)
    shift, scale = oracle.proj_out_1(torch.nn.functional.silu(told)).chunk(2, dim=1)
    x = oracle.proj_out_2(oracle.norm_out(x) * (1 + scale[:, None]) + shift[:, None])
    expected = x.reshape(3, 3, 5, 2, 2, 8).permute(0, 5, 1, 3, 2, 4).reshape(3, 8, 6, 10)
    found = pair.graph.predict(latents, TIMESTEPS, Condition(labels=labels))
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=TOLERANCE)
