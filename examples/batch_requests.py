"""Run many prompts at once on a decoder from a folder, without a server.

    python examples/batch_requests.py FOLDER "def fib(n):" "class Stack:" ...

Requests share the steps and, where their beginnings are equal, the pages; each gets what it would get alone.
"""

from __future__ import annotations

import argparse
import queue

import cynosure
from cynosure.engine import Event, Finished, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.engine import Engine
from cynosure.engine.settings import EngineSettings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="a decoder's checkpoint with its tokenizer")
    parser.add_argument("prompts", nargs="+")
    arguments = parser.parse_args()
    model = cynosure.load(arguments.folder)
    tokenizer = model.tokenizer
    eos = model.generation_defaults.eos_token_ids
    engine = Engine(EngineCore(model.graph, eos, EngineSettings(), model_id=arguments.folder))
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    params = SamplingParams(max_tokens=48, temperature=0.0)
    answers: dict[str, list[int]] = {prompt: [] for prompt in arguments.prompts}
    for prompt in answers:
        engine.submit(Request(prompt, tuple(tokenizer.encode(prompt).ids), params), events.put)
    for _ in answers:
        while isinstance(event := events.get(), TokenEvent):
            answers[event.request_id].append(event.token_id)
        usage = event.usage if isinstance(event, Finished) else event
        print(f"{event.request_id!r} -> {tokenizer.decode(answers[event.request_id])!r}  {usage}")
    engine.close()


if __name__ == "__main__":
    main()
