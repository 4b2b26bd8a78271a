"""Watching tells what each place attended to of the text, and changes no bit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.models.denoise.denoiser import Denoiser
from cynosure.models.denoise.inputs import Condition
from tests.models.denoise.denoise_oracle import TIMESTEPS, condition_for, latents_for, pair_of


def model_of(name: str) -> Denoiser:
    graph = pair_of(name).graph
    assert isinstance(graph, Denoiser)
    return graph


@pytest.mark.parametrize(
    ("name", "places"), [("pixart", [64, 64]), ("unet", [64, 64, 16, 16, 4, *[16] * 3, *[64] * 3])]
)
@torch.no_grad()
def test_shares_of_the_text_are_told(name: str, places: list[int]) -> None:
    model, latents = model_of(name), latents_for(pair_of(name), pair_of(name).sizes[0])
    condition = condition_for(model.inputs, 3)
    told = model.watch(latents, TIMESTEPS, condition)
    assert torch.equal(told.latents, model.predict(latents, TIMESTEPS, condition))
    assert [tuple(one.shape) for one in told.text_shares] == [(3, count, 7) for count in places]
    assert condition.text_mask is not None
    for shares in told.text_shares:
        torch.testing.assert_close(shares.sum(-1), torch.ones(shares.shape[:2]))
        assert not shares.transpose(1, 2)[~condition.text_mask].any()
        assert float(shares.amax(-1).max()) > 0.4  # it is not all the same


@torch.no_grad()
def test_shares_are_those_of_the_scores() -> None:
    """The first layer of a transformer: its shares, computed anew from its projections."""
    model, latents = model_of("pixart-scaled"), latents_for(pair_of("pixart-scaled"), (4, 6))
    condition = condition_for(model.inputs, 3)
    caught: list[torch.Tensor] = []
    cross = model.layers[0].cross
    hook = cross.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    told = model.watch(latents, TIMESTEPS, condition).text_shares[0]
    hook.remove()
    assert condition.text is not None
    q = cross.q(caught[0]).unflatten(-1, (3, 16)).transpose(1, 2)
    k = cross.k(condition.text).unflatten(-1, (3, 16)).transpose(1, 2)
    scores = q @ k.transpose(2, 3) / 4
    assert condition.text_mask is not None
    scores = scores.masked_fill(~condition.text_mask[:, None, None], float("-inf"))
    torch.testing.assert_close(told, scores.softmax(-1).mean(1), atol=1e-5, rtol=1e-4)


def test_a_model_without_text_has_none_to_watch() -> None:
    model = model_of("dit")
    with pytest.raises(InputError, match="Use predict"):
        model.watch(torch.zeros(1, 4, 8, 8), torch.zeros(1), Condition(labels=torch.tensor([1])))


@torch.no_grad()
def test_an_image_does_not_know_its_company() -> None:
    model, latents = model_of("unet"), latents_for(pair_of("unet"), (8, 8))
    condition = condition_for(model.inputs, 3)
    found = model.predict(latents, TIMESTEPS, condition)
    others = latents.clone()
    others[1:] = 5.0
    assert condition.text is not None
    text = condition.text.clone()
    text[1:] = -1.0
    with_others = model.predict(others, TIMESTEPS, replace(condition, text=text))
    torch.testing.assert_close(with_others[0], found[0], atol=1e-6, rtol=1e-5)
    assert (with_others[1] - found[1]).abs().max() > 0.01
