"""Run the snippets of the page on images."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from tests.models import grid_decoder_oracle, image_decoder_oracle, vision_oracle

PAGE = Path(__file__).parents[2] / "docs" / "vision.md"
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@torch.no_grad()
def test_the_snippets_run_in_order() -> None:
    clip, llava = vision_oracle.pair_of("clip"), image_decoder_oracle.pair_of("llava")
    qwen = grid_decoder_oracle.pair_of("qwen2-vl")
    snippets = FENCE.findall(PAGE.read_text(encoding="utf-8"))
    assert len(snippets) == 4
    names: dict[str, object] = {
        "vit_folder": vision_oracle.pair_of("vit").folder,
        "clip_folder": clip.folder,
        "llava_folder": llava.folder,
        "qwen2_vl_folder": qwen.folder,
        "pixels": clip.pixels,
        "token_ids": clip.texts,
        "picture": llava.all_pixels[0],
        "patches": torch.randn(24, qwen.graph.spec.image.patch_width),
    }
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
