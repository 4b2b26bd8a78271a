"""Compare decoders with states with transformers on the same files, through cache and engine. Knows no graph.

The oracle runs whole sequences only: what our engine said is read back in one pass. `MIXER_CASES` hands the
measurements to `evals/parity.py`, by architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache, partial

import torch

from cynosure.models.batch import Batch
from tests.models import decoder_oracle, moe_oracle
from tests.models.brand_oracle import chunked, engine
from tests.models.decoder_oracle import LENGTHS, Check, Pair, gap, logits_of
from tests.models.mixer_cases import CASES

#: Longer than two chunks of the recurrence.
LONG = 150
#: The oracle's own padded batch is another text: its convolution, or a bias before it, reads the padding.
READ_PADDING = ("RecurrentGemmaForCausalLM", "Mamba2ForCausalLM")


@lru_cache(maxsize=len(CASES))
def pair_of(case_name: str) -> Pair:
    return make_pair(case_name)


@torch.inference_mode(False)  # kept for tests that come later, whoever asks first
@torch.no_grad()
def make_pair(case_name: str) -> Pair:
    case = CASES[case_name]
    return moe_oracle.make_pair(replace(case, settings=deepcopy(case.settings)))


def long_prompt(pair: Pair) -> list[int]:
    dice = torch.Generator().manual_seed(3)
    return torch.randint(1, pair.graph.spec.vocab_size, (LONG,), generator=dice).tolist()


def long(pair: Pair) -> float:
    """A text of several chunks, at once and in parts that end within them."""
    prompt = long_prompt(pair)
    expected = pair.oracle(torch.tensor([prompt])).logits[0]
    whole = gap(logits_of(pair.graph, prompt), expected)
    parts = decoder_oracle.in_chunks(pair.graph, prompt, (2, 63, 1, 64, 20))
    return max(whole, gap(parts, expected))


def packed(pair: Pair) -> float:
    """Prompts side by side, and two of one length, which go through a state as one batch."""
    prompts = [*pair.prompts, pair.prompts[2][::-1]]
    logits = pair.graph.logits(pair.graph(Batch.pack(prompts)).hidden)
    theirs = [*pair.expected, pair.oracle(torch.tensor([prompts[3]])).logits[0]]
    return max(map(gap, logits.split([*LENGTHS, LENGTHS[2]]), theirs))


def padded(pair: Pair) -> float:
    if type(pair.oracle).__name__ in READ_PADDING:
        return decoder_oracle.ours_padded(pair)
    return decoder_oracle.padded(pair)


CHECKS: dict[str, Check] = {
    "prefill": decoder_oracle.prefill,
    "long": long,
    "chunked": chunked,
    "packed": packed,
    "padded": padded,
    "engine": engine,
}

#: The first case of each architecture; in the tests, the others show their maths alone.
FIRST = frozenset({case.architecture: name for name, case in reversed(CASES.items())}.values())
MATHS = ("long", "packed")


@torch.no_grad()
def errors_of(pair: Pair, names: Collection[str] = tuple(CHECKS)) -> dict[str, float]:
    """Run checks, all where none is named."""
    return {name: CHECKS[name](pair) for name in names}


def measure(architecture: str) -> float:
    """The largest error over all cases and checks of an architecture."""
    names = [name for name, case in CASES.items() if case.architecture == architecture]
    return max(max(errors_of(pair_of(name)).values()) for name in names)


MIXER_CASES: dict[str, Callable[[], float]] = {
    architecture: partial(measure, architecture)
    for architecture in dict.fromkeys(case.architecture for case in CASES.values())
}
