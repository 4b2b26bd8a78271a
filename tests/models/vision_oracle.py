"""Compare an encoder of images loaded by us with transformers' on the same files.

`measure` gives the largest difference that any check found; `VISION_CASES` hands it to `evals/parity.py`, by
architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor, nn

from cynosure.models.batch import Batch
from cynosure.models.image_text import ImageText, TextTower
from cynosure.models.vision import VisionEncoder
from tests.models import image_oracle
from tests.models.encoder_oracle import gap
from tests.models.image_oracle import Written, write
from tests.models.vision_cases import CASES, END_ID, TEXT_LEN

NUM_IMAGES = 3
#: Tokens of the texts that images are compared with, their ends included.
TEXT_LENGTHS = (TEXT_LEN, 7, 2, 13)


@dataclass(frozen=True, eq=False)
class Pair(Written):
    """The oracle, our graph with the same weights, and what both read."""

    @property
    def graph(self) -> VisionEncoder | ImageText | TextTower:
        assert isinstance(self.model.graph, VisionEncoder | ImageText | TextTower)
        return self.model.graph

    @property
    def tower(self) -> VisionEncoder:
        assert not isinstance(self.graph, TextTower)
        return self.graph.image if isinstance(self.graph, ImageText) else self.graph

    @cached_property
    def pixels(self) -> Tensor:
        patches = self.tower.spec.patches
        shape = (NUM_IMAGES, patches.num_channels, patches.image_size, patches.image_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(5))

    @cached_property
    def texts(self) -> list[list[int]]:
        """Texts that end, and go on behind their end in what is read like any token; SigLIP's are full."""
        dice = torch.Generator().manual_seed(7)
        is_siglip = self.case.architecture.startswith("Siglip")
        texts = []
        for length in TEXT_LENGTHS:
            ids = torch.randint(3, END_ID, (length - 1,), generator=dice).tolist()
            texts.append([*ids, END_ID, *[1] * (TEXT_LEN - length if is_siglip else 0)])
        return texts

    @cached_property
    def expected(self) -> dict[str, Tensor]:
        """What the oracle says of all images, and of each text by itself."""
        if isinstance(self.graph, TextTower):
            outputs = [self.oracle(input_ids=torch.tensor([ids])) for ids in self.texts]
            return {"text_embeds": torch.cat([output.text_embeds for output in outputs])}
        if not isinstance(self.graph, ImageText):
            output = self.oracle(pixel_values=self.pixels)
            return {name: output[name] for name in NAMES if output.get(name) is not None}
        texts = [self.oracle(input_ids=torch.tensor([ids]), pixel_values=self.pixels) for ids in self.texts]
        images = self.oracle.get_image_features(pixel_values=self.pixels)
        return {
            "last_hidden_state": images.last_hidden_state,
            "image_embeds": texts[0].image_embeds,
            "text_embeds": torch.cat([output.text_embeds for output in texts]),
            "logits_per_image": torch.cat([output.logits_per_image for output in texts], 1),
        }


#: The outputs of transformers' models that we give too.
NAMES = ("last_hidden_state", "pooler_output", "image_embeds", "logits")


def ours(graph: nn.Module, pixels: Tensor | None, texts: list[list[int]]) -> dict[str, Tensor]:
    """Our answers, by the names that transformers has for them."""
    if isinstance(graph, TextTower):
        return {"text_embeds": graph(Batch.pack(texts))}
    if isinstance(graph, ImageText):
        batch = Batch.pack(texts)
        return {
            "last_hidden_state": graph.image(pixels).hidden,
            "image_embeds": graph.embed_images(pixels),
            "text_embeds": graph.embed_texts(batch),
            "logits_per_image": graph(pixels, batch),
        }
    assert isinstance(graph, VisionEncoder)
    output = graph(pixels)
    found = {"last_hidden_state": output.hidden}
    if graph.head is not None:
        return {"logits": graph.logits(output)}
    if output.pooled is not None:
        found["pooler_output" if graph.projection is None else "image_embeds"] = output.pooled
    return found


@lru_cache(maxsize=len(CASES))
def pair_of(case_name: str) -> Pair:
    return write(CASES[case_name], Pair)


def compared(graph: nn.Module, pair: Pair) -> float:
    """The largest difference of any output, of all images at once."""
    pixels = None if isinstance(graph, TextTower) else pair.pixels
    found = ours(graph, pixels, pair.texts)
    if "logits" in pair.expected:
        return gap(found["logits"], pair.expected["logits"])
    assert found.keys() == pair.expected.keys(), (found.keys(), pair.expected.keys())
    return max(gap(found[name], pair.expected[name]) for name in found)


def together(pair: Pair) -> float:
    return compared(pair.graph, pair)


def alone(pair: Pair) -> float:
    """Each image and each text by itself, against the oracle's batch of images."""
    if isinstance(pair.graph, TextTower):
        found = [pair.graph(Batch.pack([ids])) for ids in pair.texts]
        return gap(torch.cat(found), pair.expected["text_embeds"])
    worst = 0.0
    for index in range(NUM_IMAGES):
        for text in range(len(pair.texts) if isinstance(pair.graph, ImageText) else 1):
            found = ours(pair.graph, pair.pixels[index : index + 1], [pair.texts[text]])
            for name, one in found.items():
                wanted = pair.expected[name]
                if name == "logits_per_image":
                    wanted = wanted[index : index + 1, text : text + 1]
                else:
                    wanted = wanted[text : text + 1] if name == "text_embeds" else wanted[index : index + 1]
                worst = max(worst, gap(one, wanted))
    return worst


CHECKS: dict[str, Callable[[Pair], float]] = {"together": together, "alone": alone}


def errors_of(case_name: str) -> dict[str, float]:
    """Run every check."""
    return image_oracle.errors_of(pair_of(case_name), CHECKS)


VISION_CASES: dict[str, Callable[[], float]] = image_oracle.by_architecture(CASES, errors_of)
