"""Measure what guessing ahead gains where answers quote, and costs where they don't; prints a table.

    python -m benchmarks.speculation [--write] [--repeats 5] [--tokens 8]

The shape is SmolLM2-135M's, in bfloat16, with random weights: each pass is computed in full, and a script
stands in for what a trained model would say. Scripts, after a prompt of 512 tokens:

- quote: the prompt's beginning, word for word;
- edit: the same with one token in 16 changed;
- new: tokens that stood nowhere before, so that nothing is guessed;
- trap: runs that stood before, and never go on as they did: each guess is wrong.

Every figure is the median over repeats of one pair, with and without, in turn. Accepted is the share of
guessed tokens that were right.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers

from cynosure.engine import Event, Finished, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.runner import Runner, Work
from cynosure.engine.settings import EngineSettings
from cynosure.evaluate.results import write_result
from cynosure.models.decoder import Decoder
from cynosure.models.load import load

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
PROMPT_LENGTH, ANSWER_LENGTH = 512, 128
CLIENTS = (1, 4)
SCRIPTS = ("quote", "edit", "new", "trap")

_ids = itertools.count()


class ScriptedRunner(Runner):
    """Computes all rows, then has each prefer the script's token of its place."""

    script: Sequence[int] = ()

    @torch.inference_mode()
    def run(self, work: Sequence[Work]) -> list[torch.Tensor]:
        """As the plain runner does, with the script on top."""
        found = super().run(work)
        for item, rows in zip(work, found, strict=True):
            first = item.past_len + len(item.token_ids) - len(rows) + 1
            for place, row in enumerate(rows, start=first):
                row[self.script[place]] = 1e9
        return found


@dataclass(frozen=True)
class Pace:
    """One run: tokens of all answers a second after the prompts were read, and what became of guesses."""

    tokens_per_s: float
    num_drafted: int
    num_accepted: int


def script_of(kind: str) -> list[int]:
    """Prompt and answer, and what could be guessed behind it."""
    dice = random.Random(kind)
    prompt = [dice.randrange(1, SHAPE["vocab_size"]) for _ in range(PROMPT_LENGTH)]
    length = ANSWER_LENGTH + 65
    if kind == "new":
        return [*prompt, *(dice.randrange(1, SHAPE["vocab_size"]) for _ in range(length))]
    if kind == "trap":
        run = [1, 2, 3]
        prompt[: len(run)] = run
        # Two new tokens behind each run: one would be passed over as an edit.
        answer = [token for number in range(length) for token in (*run, 1000 + 2 * number, 1001 + 2 * number)]
        return [*prompt, *answer[:length]]
    quoted = (prompt * 2)[:length]
    if kind == "edit":
        quoted = [
            dice.randrange(1, 1000) if place % 16 == 15 else token for place, token in enumerate(quoted)
        ]
    return [*prompt[:-5], *prompt[:5], *quoted[5:]]


def paced(core: EngineCore, script: Sequence[int], num_clients: int, *, speculation: bool) -> Pace:
    """Have so many clients get the scripted answer at once."""
    ended: list[Event] = []

    def hear(event: Event) -> None:
        if not isinstance(event, TokenEvent):
            assert isinstance(event, Finished), event
            ended.append(event)

    before = core.load
    params = SamplingParams(max_tokens=ANSWER_LENGTH, temperature=0.0, ignore_eos=True)
    for _ in range(num_clients):
        request = Request(str(next(_ids)), tuple(script[:PROMPT_LENGTH]), params, speculation=speculation)
        core.add(request, hear)
    start = None
    while core.has_work:
        core.step(time.monotonic())
        if start is None and core.snapshot.num_waiting == 0:
            start = time.perf_counter()
    assert len(ended) == num_clients
    assert start is not None
    spent_s = time.perf_counter() - start
    after = core.load
    return Pace(
        num_clients * ANSWER_LENGTH / spent_s,
        after.num_drafted - before.num_drafted,
        after.num_accepted - before.num_accepted,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/speculation.json")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=8, help="guessed ahead at most")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        config = transformers.LlamaConfig(**SHAPE)
        transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        model = load(Path(folder))
        assert isinstance(model.graph, Decoder)
        settings = EngineSettings(num_speculative_tokens=arguments.tokens)
        core = EngineCore(model.graph, (), settings, model_id="benchmark")
        runner = core._runner = ScriptedRunner(model.graph, core.cache)
        figures: dict[str, float] = {}
        print(f"{'script':8} {'clients':>7} {'plain/s':>9} {'guessed/s':>9} {'ratio':>6} {'accepted':>8}")
        for kind, num_clients in itertools.product(SCRIPTS, CLIENTS):
            runner.script = script_of(kind)
            paced(core, runner.script, num_clients, speculation=True)
            plain, guessed = [], []
            for _ in range(arguments.repeats):
                plain.append(paced(core, runner.script, num_clients, speculation=False))
                guessed.append(paced(core, runner.script, num_clients, speculation=True))
            ratio = statistics.median(
                one.tokens_per_s / other.tokens_per_s for one, other in zip(guessed, plain, strict=True)
            )
            share = guessed[0].num_accepted / max(1, guessed[0].num_drafted)
            name = f"{kind}_{num_clients}"
            figures[f"{name}_plain_tokens_per_s"] = statistics.median(run.tokens_per_s for run in plain)
            figures[f"{name}_tokens_per_s"] = statistics.median(run.tokens_per_s for run in guessed)
            figures[f"{name}_ratio"], figures[f"{name}_accepted"] = ratio, share
            print(
                f"{kind:8} {num_clients:7} {figures[f'{name}_plain_tokens_per_s']:9.1f} "
                f"{figures[f'{name}_tokens_per_s']:9.1f} {ratio:6.2f} {share:8.2f}"
            )
    if arguments.write:
        write_result("speculation", figures, "python -m benchmarks.speculation --write")


if __name__ == "__main__":
    main()
