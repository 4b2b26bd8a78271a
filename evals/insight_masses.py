"""Compare what requests are told of attention with a dense map, and count tokens of unknown origin.

    python evals/insight_masses.py [--write] [--prompts 10000]

Masses: tiny random checkpoints in float32 answer through the whole engine, on torch and on the native
kernels: in chunks beside other requests, behind pages that were found, through preemption, with guessed
tokens. What each token was told is compared with the attention of `transformers`' eager implementation over
the same tokens. The control moves a segment's edge by one token.

Provenance: conversations of random Unicode, half of it made to look like a template's own words, are rendered
and encoded. Each token must belong to one part; what its offsets slice out of the caller's string must be its
own text, or the characters that its bytes are a part of.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from cynosure.core.errors import InputError
from cynosure.engine import Request, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import EngineSettings
from cynosure.evaluate.results import write_result
from cynosure.insight import PromptSegments
from cynosure.models.chat.prompt import CallerText, ChatPrompt, Message, build_chat_prompt
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.answers.attention_segments import chat_segments

ROOT = Path(__file__).parents[1]
FAMILIES = ("llama", "qwen3", "gemma2", "bloom", "mistral", "gpt-oss", "deepseek-yarn")
#: All its layers keep a window alone, so that memory for nine pages of it holds no whole request.
ALL_WINDOWS = "mistral"
KERNELS = ("torch", "native")
SMALL = EngineSettings(
    kv_cache_bytes=1 << 20, block_size=8, max_num_seqs=4, max_num_batched_tokens=24, chunk_size=16
)
NUM_TOKENS = 10


def of_tests(name: str) -> ModuleType:
    """A module of the tests: they keep the oracles."""
    return importlib.import_module(f"tests.{name}")


@dataclass(frozen=True)
class Served:
    """A tiny model, as the tests' oracle has it and as it is served."""

    family: str
    kernels: str

    @property
    def pair(self) -> object:
        """The oracle and our model of the same files."""
        oracles = [of_tests("models.moe_oracle"), of_tests("models.decoder_oracle")]
        return next(one.pair_of(self.family) for one in oracles if self.family in one.CASES)

    def core(self, settings: EngineSettings = SMALL) -> EngineCore:
        """An engine of its own."""
        graph = load(vars(self.pair)["folder"], dtype="float32").graph
        assert isinstance(graph, Decoder)
        return EngineCore(graph, (), replace(settings, kernels=self.kernels), model_id="tiny")

    def errors(self, core: EngineCore, requests: Sequence[Request], *, shift: int = 0) -> float:
        """Answer requests together; the largest error of any mass of those that are watched."""
        cases, ear = of_tests("engine.watch_cases"), of_tests("engine.engine_cases").Ear()
        for request in requests:
            core.add(request, ear)
        step = 0
        while core.has_work:
            core.step(float(step))
            step += 1
        watched = [moved(request, shift) for request in requests if request.watch is not None]
        return max(
            cases.largest_error(self.pair, request, ear.events[request.request_id]) for request in watched
        )


def moved(request: Request, shift: int) -> Request:
    """The same request as if an edge between two of its segments lay elsewhere; a short one has no room."""
    assert request.watch is not None
    first, (one, start, edge), (two, _, end), *rest = request.watch.runs
    if not shift or edge + shift >= end:
        return request
    runs = (first, (one, start, edge + shift), (two, edge + shift, end), *rest)
    return replace(request, watch=replace(request.watch, runs=runs))


def ask(core: EngineCore, name: str, length: int, seed: int, **options: object) -> Request:
    """A request of random tokens of which every second head of every layer is watched."""
    dice = random.Random(seed)
    prompt = tuple(dice.randrange(1, 90) for _ in range(length))
    counts = core._runner.graph.spec.num_heads
    heads = [(layer, head) for layer, count in enumerate(counts) for head in range(layer % 2, count, 2)]
    params = SamplingParams(max_tokens=NUM_TOKENS, temperature=0.0)
    watch = of_tests("engine.watch_cases").spec_of(length, heads)
    return Request(name, prompt, **{"params": params, "watch": watch, **options})  # type: ignore[arg-type]


def batch(served: Served, shift: int = 0) -> float:
    """Prompts at the edges of pages and chunks, beside one that nobody watches."""
    core = served.core()
    requests = [ask(core, f"r{n}", length, n) for n, length in enumerate((30, 7, 8, 9, 16, 17, 4))]
    return served.errors(core, [*requests, ask(core, "plain", 13, 9, watch=None)], shift=shift)


def found(served: Served) -> float:
    """A prompt whose pages are there."""
    core = served.core()
    request = ask(core, "a", 30, 1)
    served.errors(core, [request])
    return served.errors(core, [replace(request, request_id="b")])


def preempted(served: Served) -> float:
    """Four answers that grow on pages for three."""
    core = served.core(replace(SMALL, kv_cache_bytes=_memory_of(served, num_pages=9)))
    params = SamplingParams(max_tokens=20, temperature=0.0)
    return served.errors(core, [ask(core, f"r{n}", 9 + n, n, params=params) for n in range(4)])


def _memory_of(served: Served, num_pages: int) -> int:
    """The least that holds so many pages; with windows, layers have pages of their own."""
    low, high = 1, SMALL.kv_cache_bytes
    while low < high:
        middle = (low + high) // 2
        try:
            is_enough = served.core(replace(SMALL, kv_cache_bytes=middle)).tree.pool.num_blocks >= num_pages
        except InputError:
            is_enough = False
        low, high = (low, middle) if is_enough else (middle + 1, high)
    return high


def guessed(served: Served) -> float:
    """An answer that repeats its prompt, several tokens a pass."""
    core = served.core(replace(SMALL, num_speculative_tokens=4))
    params = SamplingParams(max_tokens=12, temperature=0.0, logit_bias=((5, 60.0),))
    return served.errors(core, [replace(ask(core, "a", 20, 1, params=params), token_ids=(5, 6, 7, 8) * 5)])


CONDITIONS: dict[str, Callable[[Served], float]] = {
    "chunked_batch": batch,
    "prefix_hit": found,
    "preemption": preempted,
    "speculation": guessed,
}


def masses() -> dict[str, object]:
    """The largest error by condition and way of computing, over all families, and the control's smallest."""
    worst: dict[str, object] = {}
    everything = [Served(family, kernels) for family in FAMILIES for kernels in KERNELS]
    for name, condition in CONDITIONS.items():
        for kernels in KERNELS:
            errors = [
                condition(served)
                for served in everything
                if served.kernels == kernels and (name, served.family) != ("preemption", ALL_WINDOWS)
            ]
            worst[f"{name}_{kernels}"] = max(errors)
            print(f"{name:<16}{kernels:<8}{max(errors):>10.1e}", flush=True)
    control = min(batch(served, shift=1) for served in everything)
    print(f"control, an edge moved by one token: {control:.1e}")
    errors = [value for value in worst.values() if isinstance(value, float)]
    return {"mass_max_error": max(errors), "mass_errors": worst, "mass_control_min": control}


def conversations(count: int) -> Iterator[list[str]]:
    """Up to four messages each, of any characters and of what templates write themselves."""
    hostile = of_tests("models.chat.test_prompt").HOSTILE
    dice = random.Random(1)
    for _ in range(count):
        yield [
            "".join(_piece(dice, hostile) for _ in range(dice.randrange(1, 6)))
            for _ in range(dice.randrange(1, 5))
        ]


def _piece(dice: random.Random, hostile: Sequence[str]) -> str:
    if dice.random() < 0.5:
        return dice.choice(hostile)
    # No surrogates: they are no characters.
    points = [dice.choice([dice.randrange(32, 0x250), dice.randrange(0xE000, 0x1FFFF)]) for _ in range(4)]
    return "".join(map(chr, points))


def provenance(count: int, folder: Path) -> dict[str, object]:
    """How many tokens there were in so many prompts, and how many are not whose they are said to be."""
    kinds = of_tests("models.tiny_tokenizers")
    source = of_tests("models.real_templates").CHATML
    num_tokens = num_faults = 0
    for kind in (kinds.byte_level, kinds.byte_fallback):
        home = folder / kind.__name__
        home.mkdir()
        tokenizer = Tokenizer.from_folder(kinds.write(home, kind()))
        template = ChatTemplate({"default": source}, {}, tokenizer.control_tokens)
        for contents in conversations(count // 2):
            prompt = build_chat_prompt(template, tokenizer, _turns(contents))
            segments = chat_segments(prompt, {})
            num_tokens += len(prompt.token_ids)
            num_faults += sum(
                not is_right(tokenizer, prompt, segments, at) for at in range(len(segments.owners))
            )
            num_faults += segments.runs[-1][2] != len(prompt.token_ids)
        template.close()
    print(f"provenance: {count} prompts, {num_tokens} tokens, {num_faults} faults")
    return {"num_prompts": count, "num_prompt_tokens": num_tokens, "provenance_faults": num_faults}


def _turns(contents: Sequence[str]) -> list[Message]:
    return [
        Message(
            "assistant" if at % 2 else "user",
            f"messages[{at}]",
            (CallerText(content, f"messages[{at}].content"),),
        )
        for at, content in enumerate(contents)
    ]


def is_right(tokenizer: Tokenizer, prompt: ChatPrompt, segments: PromptSegments, at: int) -> bool:
    """Whether a caller's token spells what its offsets slice out, or bytes of those characters."""
    part, span = segments.parts[segments.owners[at]], segments.offsets[at]
    if not part.is_callers:
        return span is None
    if span is None or part.text is None:
        return False
    text = part.text[slice(*span)]
    spelled = tokenizer.decode([prompt.token_ids[at]], skip_special_tokens=False)
    # A straddling token goes on behind its part; a part of a character's bytes spells none.
    return (
        text.startswith(spelled)
        or spelled.startswith(text)
        or "\ufffd" in spelled
        or spelled.lstrip() in text
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=10_000, help="conversations of random Unicode")
    parser.add_argument("--write", action="store_true", help="write results/insight_masses.json")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        metrics = provenance(options.prompts, Path(folder)) | masses()
    if options.write:
        write_result("insight_masses", metrics, "python evals/insight_masses.py --write")
    return 0


if __name__ == "__main__":
    sys.exit(main())
