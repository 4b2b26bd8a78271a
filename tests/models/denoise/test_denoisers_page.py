"""Run the snippets of the page on denoisers."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from tests.models.denoise.denoise_oracle import condition_for, latents_for, pair_of

PAGE = Path(__file__).parents[3] / "docs" / "denoisers.md"
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@torch.no_grad()
def test_the_snippets_run_in_order() -> None:
    unet = pair_of("unet")
    condition = condition_for(unet.graph.inputs, 2)
    assert condition.text is not None
    snippets = FENCE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(snippets) == 5
    names: dict[str, object] = {
        "torch": torch,
        "unet_folder": unet.folder,
        "dit_folder": pair_of("dit").folder,
        "vae_folder": pair_of("autoencoder").folder,
        "latents": latents_for(unet, (8, 8), 2),
        "squares": latents_for(pair_of("dit"), (8, 8), 2),
        "timesteps": torch.tensor([10, 700]),
        "text": condition.text,
        "text_mask": condition.text_mask,
        "empty_text": torch.zeros_like(condition.text[0]),
        "images": torch.randn(2, 3, 16, 8),
    }
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
