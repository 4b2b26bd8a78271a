"""Build tiny decoders and engines to drive them. Knows nothing of what must hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cynosure.engine import Cancelled, Event, Failed, Finished, Refused, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import EngineSettings
from cynosure.models.decoder import Decoder
from cynosure.models.image_reader import ImageReader
from cynosure.models.load import LanguageModel

TERMINAL = (Finished, Refused, Failed, Cancelled)
SMALL = EngineSettings(
    kv_cache_bytes=1 << 20, block_size=8, max_num_seqs=4, max_num_batched_tokens=24, chunk_size=16
)


@dataclass
class Ear:
    """Hears every event of every request."""

    events: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))

    def __call__(self, event: Event) -> None:
        self.events[event.request_id].append(event)

    def tokens(self, request_id: str) -> list[int]:
        return [event.token_id for event in self.events[request_id] if isinstance(event, TokenEvent)]

    def logprobs(self, request_id: str) -> list[float]:
        found = [event.logprob for event in self.events[request_id] if isinstance(event, TokenEvent)]
        assert None not in found, "log-probabilities were not asked for"
        return [value for value in found if value is not None]

    def end(self, request_id: str) -> Event:
        """The one terminal event, which must be the last."""
        ends = [event for event in self.events[request_id] if isinstance(event, TERMINAL)]
        assert len(ends) == 1
        assert self.events[request_id][-1] is ends[0]
        return ends[0]


def new_core(model: LanguageModel, settings: EngineSettings = SMALL) -> EngineCore:
    assert isinstance(model.graph, Decoder | ImageReader)
    return EngineCore(model.graph, (), settings, model_id="tiny")


def ask(request_id: str, prompt: Sequence[int], max_tokens: int = 8, **options: object) -> Request:
    """A greedy request, save for `options` of the request itself."""
    params = SamplingParams(max_tokens=max_tokens, temperature=0.0, logprobs=0)
    return Request(request_id, tuple(prompt), **{"params": params, **options})  # type: ignore[arg-type]


def run_to_end(core: EngineCore, limit: int = 5_000) -> None:
    """Step until nothing is left, on a clock of one second a step."""
    for now in range(limit):
        if not core.has_work:
            core.check_integrity()
            return
        core.step(float(now))
        core.check_integrity()
    raise AssertionError(f"the engine still works after {limit} steps")
