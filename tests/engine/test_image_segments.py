"""Images are segments of their own: what was attended to in them is told; one that is denied says nothing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cynosure.engine import Request, TokenEvent
from cynosure.engine.watch import DENIED, WatchSpec
from cynosure.insight.prompt_segments import PromptSegments
from cynosure.models.image_prompt import spans_of
from tests.engine.engine_cases import Ear, ask, new_core, run_to_end
from tests.engine.image_cases import NUM_NEW, Question, image_of, model_of, pair_of, question, reader_of
from tests.engine.test_image_store import TINY

HEADS = ((0, 0), (0, 1), (1, 2))


def segments_of(family: str, it: Question) -> PromptSegments:
    counts = [reader_of(family).num_places(image) for image in it.images]
    spans = spans_of(it.prompt, counts, reader_of(family).image_token_id)
    nobody = [None] * len(it.prompt)
    return PromptSegments.of([], nobody, nobody).with_images(spans)


def dense_shares(it: Question, told: list[int], spec: WatchSpec) -> Tensor:
    """What LLaVA's queries attended to, by transformers' eager attention."""
    pixels = torch.stack([torch.tensor(image.array) for image in it.images])
    ids = torch.tensor([[*it.prompt, *told[:-1]]])
    with torch.no_grad():
        maps = pair_of("llava").oracle(input_ids=ids, pixel_values=pixels, output_attentions=True).attentions
    chosen = torch.stack([maps[layer][0, head] for layer, head in spec.heads]).mean(0)[len(it.prompt) - 1 :]
    shares = torch.zeros(len(told), spec.num_segments)
    for segment, start, end in spec.runs_over(ids.shape[1]):
        shares[:, segment] += chosen[:, start:end].sum(-1)
    return shares


def test_shares_of_images_are_those_of_the_dense_map() -> None:
    it = question("llava", image_of("llava", 1), image_of("llava", 2))
    segments = segments_of("llava", it)
    assert segments.names == ("image:0", "image:1")
    spec = WatchSpec(HEADS, segments.runs, len(segments.parts))
    core, ear = new_core(model_of("llava"), TINY), Ear()
    core.add(ask("it", it.prompt, NUM_NEW, images=it.images, watch=spec), ear)
    run_to_end(core)
    attended = [event.attended for event in ear.events["it"] if isinstance(event, TokenEvent)]
    masses = torch.tensor([one.masses for one in attended if one is not None])
    wanted = dense_shares(it, ear.tokens("it"), spec)
    assert masses.shape == wanted.shape
    assert (masses - wanted).abs().max() < 1e-5
    images = [place for place, part in enumerate(segments.parts) if part.name.startswith("image:")]
    assert masses[:, images].min() > 0.01, "images were hardly looked at: the test shows nothing"


@pytest.mark.parametrize("family", ["llava", "qwen2-vl"])
def test_a_denied_image_changes_no_logit(family: str) -> None:
    core, ear = new_core(model_of(family), TINY), Ear()
    it = question(family, image_of(family, 1))
    ((start, end),) = segments_of(family, it).tokens_of("image:0")

    def asked(request_id: str, seed: int, *, is_denied: bool) -> Request:
        bias = ((start, end, DENIED),) if is_denied else ()
        return ask(request_id, it.prompt, NUM_NEW, images=(image_of(family, seed, like=1),), bias=bias)

    for name, seed, is_denied in (("a", 1, True), ("b", 2, True), ("c", 1, False), ("d", 2, False)):
        core.add(asked(name, seed, is_denied=is_denied), ear)
    run_to_end(core)
    told = {name: torch.tensor(ear.logprobs(name)) for name in "abcd"}
    assert (told["a"] - told["b"]).abs().max() < 1e-6
    assert (told["c"] - told["d"]).abs().max() > 1e-3, "the images say the same: the test shows nothing"
