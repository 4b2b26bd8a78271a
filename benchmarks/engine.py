"""Compare the engine with the plain loop on one random-weight checkpoint; prints a table.

    python -m benchmarks.engine [--write] [--repeats 5]

The shape is SmolLM2-135M's, in bfloat16. Every figure is the median of interleaved repeats in one process:

- decode: tokens per second of 1, 4 and 16 requests at once, against the plain loop over one prompt;
- prefix: time to the first token of a prompt whose beginning is known, against one that is new;
- reproducible: what a request pays for bits that depend on nobody.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

from cynosure.engine import Event, Finished, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.engine import Engine
from cynosure.engine.settings import EngineSettings
from cynosure.evaluate.results import write_result
from cynosure.models.decoder import Decoder
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel, load

SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}
PROMPT_LENGTH, ANSWER_LENGTH, LONG_PROMPT = 64, 32, 1024
CLIENTS = (1, 4, 16)

_ids = itertools.count()


class Call:
    """One request: when its first token came, when it ended."""

    def __init__(
        self, engine: Engine, prompt: list[int], max_tokens: int, *, is_reproducible: bool = False
    ) -> None:
        self.first_s = self.end_s = 0.0
        self._ended = threading.Event()
        self._start = time.perf_counter()
        params = SamplingParams(max_tokens=max_tokens, temperature=0.0, ignore_eos=True)
        request = Request(str(next(_ids)), tuple(prompt), params, is_reproducible=is_reproducible)
        engine.submit(request, self._hear)

    def _hear(self, event: Event) -> None:
        now = time.perf_counter() - self._start
        if isinstance(event, TokenEvent) and not self.first_s:
            self.first_s = now
        if not isinstance(event, TokenEvent):
            assert isinstance(event, Finished), event
            self.end_s = now
            self._ended.set()

    def wait(self) -> Call:
        """Block until it ended."""
        assert self._ended.wait(300), "no answer within five minutes"
        return self


def random_prompt(length: int) -> list[int]:
    return torch.randint(1, SHAPE["vocab_size"], (length,)).tolist()


def checkpoint(folder: Path) -> LanguageModel:
    """Write random weights of the shape, and load them as any checkpoint."""
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE)).to(torch.bfloat16).save_pretrained(
        folder
    )
    return load(folder)


def plain_tokens_per_s(model: LanguageModel) -> float:
    options = SamplingOptions(max_new_tokens=ANSWER_LENGTH, eos_token_ids=())
    start = time.perf_counter()
    generate(model, [random_prompt(PROMPT_LENGTH)], options)
    return ANSWER_LENGTH / (time.perf_counter() - start)


def tokens_per_s(engine: Engine, num_clients: int, *, is_reproducible: bool = False) -> float:
    start = time.perf_counter()
    calls = [
        Call(engine, random_prompt(PROMPT_LENGTH), ANSWER_LENGTH, is_reproducible=is_reproducible)
        for _ in range(num_clients)
    ]
    for call in calls:
        call.wait()
    return num_clients * ANSWER_LENGTH / (time.perf_counter() - start)


def first_token_s(engine: Engine) -> tuple[float, float]:
    """Return the time to the first token of a new prompt, and of one with that beginning."""
    prompt = random_prompt(LONG_PROMPT)
    cold = Call(engine, prompt, 1).wait().first_s
    warm = Call(engine, [*prompt, *random_prompt(8)], 1).wait().first_s
    return cold, warm


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/engine.json")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = checkpoint(Path(folder))
        assert isinstance(model.graph, Decoder)
        engine = Engine(EngineCore(model.graph, (), EngineSettings(), model_id="benchmark"))
        runs: dict[str, list[float]] = {}

        def note(name: str, measure: Callable[[], float]) -> None:
            runs.setdefault(name, []).append(measure())

        for _ in range(arguments.repeats + 1):
            note("plain_tokens_per_s", lambda: plain_tokens_per_s(model))
            for clients in CLIENTS:
                note(f"engine_{clients}_tokens_per_s", lambda clients=clients: tokens_per_s(engine, clients))
            note("reproducible_1_tokens_per_s", lambda: tokens_per_s(engine, 1, is_reproducible=True))
            cold, warm = first_token_s(engine)
            note("cold_first_token_s", lambda cold=cold: cold)
            note("warm_first_token_s", lambda warm=warm: warm)
        engine.close()
    # The first round warms up and is not counted.
    metrics = {name: statistics.median(values[1:]) for name, values in runs.items()}
    plain = metrics["plain_tokens_per_s"]
    for clients in CLIENTS:
        metrics[f"engine_{clients}_over_plain"] = metrics[f"engine_{clients}_tokens_per_s"] / plain
    metrics["cold_over_warm"] = metrics["cold_first_token_s"] / metrics["warm_first_token_s"]
    metrics["reproducible_over_engine"] = (
        metrics["reproducible_1_tokens_per_s"] / metrics["engine_1_tokens_per_s"]
    )
    for name, value in metrics.items():
        print(f"{name:<32}{value:>12.3f}")
    if arguments.write:
        write_result("engine", metrics, "python -m benchmarks.engine --write")


if __name__ == "__main__":
    main()
