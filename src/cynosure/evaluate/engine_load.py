"""Give an engine in this process many requests at once, and note when tokens came. Knows nothing of HTTP."""

from __future__ import annotations

import queue
import random
import time
import uuid
from dataclasses import dataclass

from cynosure.cache import bytes_per_block
from cynosure.core.errors import EngineFault, InputTooLong, UnsupportedArchitecture
from cynosure.engine import Event, Finished, PromptLogprobs, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.engine import Engine
from cynosure.engine.settings import EngineSettings
from cynosure.evaluate.timing import Summary, Timing, summarise
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel


@dataclass(frozen=True)
class Shape:
    """Tokens of each prompt and of each answer."""

    input_len: int
    output_len: int


class EngineLoad:
    """One decoder under loads of one kind; no prompt's beginning is known, and no answer ends early."""

    def __init__(self, model: LanguageModel, shape: Shape, max_num_requests: int, seed: int = 0) -> None:
        """Start the engine, with room for so many requests at once.

        Raises:
            UnsupportedArchitecture: the model is no decoder.
            InputTooLong: prompt and answer are longer than the model takes.
        """
        if not isinstance(model.graph, Decoder):
            raise UnsupportedArchitecture(
                f"{model.architecture} in {model.folder} is no decoder. Serve it, and measure the server "
                "by --url."
            )
        limit = model.spec.max_model_len
        if limit is not None and shape.input_len + shape.output_len > limit:
            raise InputTooLong(
                f"prompt and answer would have {shape.input_len} and {shape.output_len} tokens; the limit of "
                f"this model is {limit} in all. Lower --input-len or --output-len."
            )
        settings = _settings_for(model.graph, shape, max_num_requests)
        core = EngineCore(model.graph, (), settings, model_id="load", backend=model.backend)
        self._engine = Engine(core)
        self._shape = shape
        self._vocab_size = model.spec.vocab_size
        self._dice = random.Random(seed)

    def at_once(self, num_requests: int, shape: Shape | None = None) -> Summary:
        """So many requests at one moment.

        Raises:
            EngineFault: one was not answered.
        """
        told: queue.SimpleQueue[tuple[float, Event]] = queue.SimpleQueue()
        shape = shape or self._shape
        begun: dict[str, float] = {}
        for _ in range(num_requests):
            prompt = tuple(self._dice.choices(range(self._vocab_size), k=shape.input_len))
            params = SamplingParams(shape.output_len, temperature=0.0, ignore_eos=True)
            request = Request(uuid.uuid4().hex, prompt, params)
            begun[request.request_id] = time.perf_counter()
            self._engine.submit(request, lambda event: told.put((time.perf_counter(), event)))
        came: dict[str, list[float]] = {request_id: [] for request_id in begun}
        num_left = num_requests
        while num_left:
            at_s, event = told.get()
            if isinstance(event, TokenEvent):
                came[event.request_id].append(at_s)
            elif isinstance(event, Finished):
                num_left -= 1
            elif not isinstance(event, PromptLogprobs):
                raise EngineFault(f"a request was not answered: {event}. Lower the load.")
        return summarise(
            [
                Timing(begun[request_id], at[0], at[-1], shape.input_len, len(at))
                for request_id, at in came.items()
            ]
        )

    def close(self) -> None:
        """Stop the engine."""
        self._engine.close()


def _settings_for(graph: Decoder, shape: Shape, max_num_requests: int) -> EngineSettings:
    plain = EngineSettings()
    num_blocks = -(-(shape.input_len + shape.output_len) // plain.block_size) * max_num_requests
    return EngineSettings(
        kv_cache_bytes=num_blocks * bytes_per_block(graph.cache_shapes, graph.dtype, plain.block_size),
        max_num_seqs=max(plain.max_num_seqs, max_num_requests),
        max_num_batched_tokens=max(plain.max_num_batched_tokens, max_num_requests),
        has_prefix_cache=False,
    )
