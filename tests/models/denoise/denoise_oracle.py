"""Compare denoisers and autoencoders loaded by us with diffusers' on the same files.

`errors_of` gives the largest difference of each check; `DENOISE_CASES` hands them to `evals/parity.py`, by
architecture.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from cynosure.models.denoise.autoencoder import Autoencoder
from cynosure.models.denoise.denoiser import Denoiser
from cynosure.models.denoise.inputs import Condition, DenoiserInputs
from cynosure.models.load import load
from tests.models.denoise.denoise_cases import CASES, WRITTEN_BY
from tests.models.encoder_oracle import gap
from tests.models.image_oracle import by_architecture
from tests.models.vision_cases import Case

TOLERANCE = 1e-4
TIMESTEPS = torch.tensor([3.0, 981.0, 250.5])
NUM_TOKENS = 7

#: Factors on random weights: those of queries and keys make attention peaked, so that a wrong score shows.
GAINS = {"to_q": 2.0, "to_k": 2.0}


@dataclass(frozen=True, eq=False)
class Pair:
    """The oracle, and our graph with the same weights."""

    name: str
    case: Case
    oracle: nn.Module
    graph: Denoiser | Autoencoder
    folder: Path

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Sizes of latents: that of training, others, and odd ones where there are no patches."""
        if self.name.startswith("dit"):
            # The oracle puts no rectangle together.
            return [(8, 8), (12, 12), (2, 2)]
        return [(16, 16), (10, 6), (4, 14)] if self.name.startswith("pixart") else [(8, 8), (9, 7), (1, 6)]


@lru_cache(maxsize=len(CASES))
@torch.no_grad()
def pair_of(name: str) -> Pair:
    """Write a random checkpoint to disk, and load it back."""
    diffusers.utils.logging.set_verbosity_error()
    case = CASES[name]
    settings = deepcopy(case.settings)
    oracle = getattr(diffusers, WRITTEN_BY.get(name, case.architecture))(**settings).eval()
    randomise(oracle, case.seed)
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    weakref.finalize(oracle, shutil.rmtree, folder, ignore_errors=True)
    oracle.save_pretrained(folder)
    if name in WRITTEN_BY:
        rewrite_config(
            folder, _class_name=case.architecture, use_linear_projection=False, num_vector_embeds=None
        )
    return Pair(name, case, oracle, load(folder, dtype="float32").graph, folder)


def rewrite_config(folder: Path, **values: object) -> None:
    """Change keys of a folder's config."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def randomise(oracle: nn.Module, seed: int) -> None:
    """Give every parameter values that matter: initial zeros and ones hide errors."""
    dice = torch.Generator().manual_seed(seed)
    for name, parameter in oracle.named_parameters():
        noise = torch.randn(parameter.shape, generator=dice)
        is_table = name.endswith("scale_shift_table") or "embedding_table" in name
        if parameter.dim() < 2 and "norm" in name and name.endswith("weight"):
            value = 1.0 + 0.3 * noise
        elif parameter.dim() < 2 or is_table:
            value = 0.3 * noise
        else:
            value = noise / parameter[0].numel() ** 0.5
        parameter.copy_(value * next((gain for part, gain in GAINS.items() if part in name), 1.0))


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def condition_for(inputs: DenoiserInputs, num_images: int) -> Condition:
    """Everything that a denoiser reads; texts are of different lengths, padded with what must not be seen."""
    condition = Condition()
    if inputs.num_labels is not None:
        # The last class stands for none.
        condition = replace(condition, labels=torch.arange(num_images) * (inputs.num_labels - 1) // 2)
    if inputs.text_width is not None:
        lengths = torch.tensor([NUM_TOKENS, 2, 5])[:num_images]
        mask = torch.arange(NUM_TOKENS) < lengths[:, None]
        text = drawn(num_images, NUM_TOKENS, inputs.text_width, seed=3)
        condition = replace(condition, text=text + 3.0 * ~mask[..., None], text_mask=mask)
    if inputs.has_sizes:
        sides = torch.tensor([[512.0, 512.0], [640.0, 384.0], [320.0, 800.0]])[:num_images]
        condition = replace(condition, resolution=sides, aspect_ratio=sides[:, :1] / sides[:, 1:])
    return condition


def rows(condition: Condition, part: slice) -> Condition:
    """The conditions of some images."""
    return Condition(**{name: None if one is None else one[part] for name, one in vars(condition).items()})


def theirs(oracle: nn.Module, latents: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
    """What diffusers says."""
    given: dict[str, Any] = {"timestep": timesteps, "return_dict": False}
    if condition.labels is not None:
        given["class_labels"] = condition.labels
    if condition.text is not None:
        given |= {"encoder_hidden_states": condition.text, "encoder_attention_mask": condition.text_mask}
    if condition.resolution is not None:
        sizes = {"resolution": condition.resolution, "aspect_ratio": condition.aspect_ratio}
        given["added_cond_kwargs"] = sizes
    return oracle(latents, **given)[0]


def latents_for(pair: Pair, size: tuple[int, int], num_images: int = 3) -> Tensor:
    assert isinstance(pair.graph, Denoiser)
    return drawn(num_images, pair.graph.inputs.in_channels, *size, seed=5)


def compared(graph: nn.Module, pair: Pair, size: tuple[int, int] | None = None) -> float:
    """The largest difference over a batch of different timesteps and conditions."""
    if isinstance(graph, Autoencoder):
        return max(encoded(graph, pair), decoded(graph, pair))
    assert isinstance(graph, Denoiser)
    latents = latents_for(pair, size or pair.sizes[0])
    condition = condition_for(graph.inputs, 3)
    expected = theirs(pair.oracle, latents, TIMESTEPS, condition)
    return gap(graph.predict(latents, TIMESTEPS, condition), expected)


def encoded(graph: Autoencoder, pair: Pair) -> float:
    worst = 0.0
    for size in ((16, 16), (12, 20), (4, 4)):
        images = drawn(2, 3, *size, seed=7)
        expected, found = pair.oracle.encode(images).latent_dist, graph.encode(images)
        worst = max(worst, gap(found.mean, expected.mean), gap(found.deviation, expected.std))
    return worst


def decoded(graph: Autoencoder, pair: Pair) -> float:
    worst = 0.0
    for size in ((4, 4), (3, 5), (1, 1)):
        latents = drawn(2, graph.spec.latent_channels, *size, seed=7)
        worst = max(worst, gap(graph.decode(latents), pair.oracle.decode(latents).sample))
    return worst


def sizes(pair: Pair) -> float:
    return max(compared(pair.graph, pair, size) for size in pair.sizes)


def alone(pair: Pair) -> float:
    """Each image by itself, padding cut off, against the oracle's batch: nothing leaks between images."""
    graph = pair.graph
    assert isinstance(graph, Denoiser)
    latents, condition = latents_for(pair, pair.sizes[0]), condition_for(graph.inputs, 3)
    expected, worst = theirs(pair.oracle, latents, TIMESTEPS, condition), 0.0
    for index in range(3):
        part = slice(index, index + 1)
        one = rows(condition, part)
        if one.text is not None and one.text_mask is not None:
            one = replace(one, text=one.text[:, one.text_mask[0]], text_mask=None)
        worst = max(worst, gap(graph.predict(latents[part], TIMESTEPS[part], one), expected[part]))
    return worst


def guidance(pair: Pair) -> float:
    """Twice the same latents in one batch, with a condition and with another."""
    graph = pair.graph
    assert isinstance(graph, Denoiser)
    latents = latents_for(pair, pair.sizes[0], 1).expand(2, -1, -1, -1)
    steps, condition = torch.tensor([500, 500]), condition_for(graph.inputs, 2)
    expected = theirs(pair.oracle, latents, steps, condition)
    # What guidance adds must not vanish, or the check would see nothing.
    assert (expected[0] - expected[1]).abs().max() > 0.01
    return gap(graph.predict(latents, steps, condition), expected)


CHECKS: dict[str, Callable[[Pair], float]] = {"sizes": sizes, "alone": alone, "guidance": guidance}


@torch.no_grad()
def errors_of(name: str) -> dict[str, float]:
    """Run every check."""
    pair = pair_of(name)
    if isinstance(pair.graph, Autoencoder):
        return {"encode": encoded(pair.graph, pair), "decode": decoded(pair.graph, pair)}
    return {check: run(pair) for check, run in CHECKS.items()}


DENOISE_CASES: dict[str, Callable[[], float]] = by_architecture(CASES, errors_of)
