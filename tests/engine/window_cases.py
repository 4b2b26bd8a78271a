"""Build engines whose window layers keep all pages, or so many. Knows nothing of what must hold."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import pytest

from cynosure.attention.masks import Causal, Mask
from cynosure.cache import PageCounts
from cynosure.engine import cache_memory
from cynosure.engine.core import EngineCore
from cynosure.engine.session_pages import Disk
from cynosure.engine.settings import EngineSettings
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel
from cynosure.models.self_attention import SelfAttentionSpec
from tests.engine.engine_cases import SMALL, Ear, ask, run_to_end

#: What the layers of the tiny models look back at.
WINDOW = 9
Told = dict[str, tuple[list[int], list[float]]]


def core_of(
    model: LanguageModel,
    settings: EngineSettings = SMALL,
    *,
    counts: PageCounts | None = None,
    disk: Disk | None = None,
    backend: str = "auto",
) -> EngineCore:
    """An engine with so many pages; `None` leaves the number to the memory."""
    assert isinstance(model.graph, Decoder)
    with ExitStack() as stack:
        if counts is not None:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(cache_memory, "page_counts", lambda *_: counts)
        return EngineCore(model.graph, (), settings, model_id="tiny", disk=disk, backend=backend)


def whole(
    model: LanguageModel, settings: EngineSettings = SMALL, num_blocks: int = 64, backend: str = "auto"
) -> EngineCore:
    """An engine in which every layer keeps all pages."""
    return core_of(model, settings, counts=PageCounts(num_blocks, {}), backend=backend)


def with_masks(model: LanguageModel, *masks: Mask) -> LanguageModel:
    """The same weights under causal masks with these, layer by layer."""
    assert isinstance(model.graph, Decoder)
    layers = []
    for layer, mask in zip(model.graph.spec.layers, masks, strict=True):
        assert isinstance(layer.attention, SelfAttentionSpec)
        masked = replace(layer.attention.attention, mask=Causal() & mask)
        layers.append(replace(layer, attention=replace(layer.attention, attention=masked)))
    graph = Decoder(replace(model.graph.spec, layers=tuple(layers)))
    graph.load_state_dict(model.graph.state_dict())
    return replace(model, graph=graph.eval())


def told(core: EngineCore, prompts: Sequence[Sequence[int]], max_tokens: int = 24, **options: object) -> Told:
    """What each prompt is answered, all at once: tokens and their log-probabilities, bit for bit."""
    ear = Ear()
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, max_tokens, **options), ear)
    run_to_end(core)
    return {name: (ear.tokens(name), ear.logprobs(name)) for name in ear.events}


def poison(core: EngineCore) -> None:
    """Spoil every window page that holds nothing of use."""
    for layer in range(len(core._runner.graph.cache_shapes)):
        group = core.cache.group_of(layer)
        if group:
            window = core.cache.windows[group - 1]
            for pages in core.cache.scales(layer) or core.cache.pages(layer):
                pages[list(window._free)] = float("nan")
