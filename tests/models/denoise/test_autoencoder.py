"""An autoencoder refuses what it would have to cut, and says how its latents become a denoiser's."""

from __future__ import annotations

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.models.denoise.autoencoder import Autoencoder, LatentDistribution
from tests.models.denoise.denoise_oracle import pair_of


@pytest.fixture
def autoencoder() -> Autoencoder:
    graph = pair_of("autoencoder").graph
    assert isinstance(graph, Autoencoder)
    return graph


@pytest.mark.parametrize("shape", [(1, 3, 16, 18), (1, 4, 16, 16), (0, 3, 16, 16), (3, 16, 16), (1, 3, 0, 4)])
def test_images_that_latents_do_not_cover(autoencoder: Autoencoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\[n, 3, height, width\].*multiples of 4"):
        autoencoder.encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (0, 4, 4, 4), (1, 4, 4, 0)])
def test_latents_of_another_shape(autoencoder: Autoencoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"\[n, 4, height, width\]"):
        autoencoder.decode(torch.zeros(shape))


def test_latents_are_drawn_around_their_mean() -> None:
    told = LatentDistribution(torch.full((1, 1, 200, 200), 3.0), torch.full((1, 1, 200, 200), 0.25).log())
    drawn = told.sample(torch.Generator().manual_seed(1))
    assert float(drawn.mean()) == pytest.approx(3.0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.01)
    assert torch.equal(drawn, told.sample(torch.Generator().manual_seed(1)))
    assert not torch.equal(drawn, told.sample(torch.Generator().manual_seed(2)))


@torch.no_grad()
def test_variances_are_bounded(autoencoder: Autoencoder) -> None:
    told = autoencoder.encode(1e6 * torch.ones(1, 3, 8, 8))
    assert told.logvar.min() >= -30
    assert told.logvar.max() <= 20
    assert torch.isfinite(told.deviation).all()


def test_a_denoiser_s_latents_are_scaled(autoencoder: Autoencoder) -> None:
    latents = torch.randn(1, 4, 2, 2)
    scaled = autoencoder.to_denoiser(latents)
    torch.testing.assert_close(scaled, 0.18215 * latents)
    torch.testing.assert_close(autoencoder.from_denoiser(scaled), latents)
