"""Compare the later brands with transformers on the same files, through cache, pages and engine.

The oracle runs whole sequences only: what our engine said is read back in one pass, so that a brand costs a
test little. `BRAND_CASES` hands the measurements to `evals/parity.py`, by architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from copy import deepcopy
from functools import lru_cache, partial

import torch

from cynosure.engine import SamplingParams
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models import decoder_oracle, moe_oracle, paged_runner
from tests.models.brand_cases import CASES
from tests.models.decoder_oracle import LENGTHS, Check, Pair, gap, in_chunks

#: Of the first prompt; the second request goes on differently from here, behind pages that it finds.
NUM_COMMON = 40
#: The oracle takes a query's growth from its place in the batch.
COUNT_PADDING = ("Llama4ForCausalLM",)


@lru_cache(maxsize=len(CASES))
def pair_of(case_name: str) -> Pair:
    return make_pair(case_name)


@torch.inference_mode(False)  # kept for tests that come later, whoever asks first
@torch.no_grad()
def make_pair(case_name: str) -> Pair:
    case = CASES[case_name]
    # Some configs of transformers fill in the dictionaries that they are given.
    return moe_oracle.make_pair(dataclasses.replace(case, settings=deepcopy(case.settings)))


def chunked(pair: Pair) -> float:
    """Chunks of 7 and of 64 tokens through a long prompt, and of 1 through what is longer than any window."""
    prompt = [*pair.prompts[0], *pair.prompts[2]]
    expected = pair.oracle(torch.tensor([prompt])).logits[0]
    worst = 0.0
    for size, length in ((1, 24), (7, len(prompt)), (64, len(prompt))):
        num_whole, rest = divmod(length, size)
        sizes = [size] * num_whole + [rest] * bool(rest)
        worst = max(worst, gap(in_chunks(pair.graph, prompt[:length], sizes), expected[:length]))
    return worst


def padded(pair: Pair) -> float:
    """Padded batches; those of an oracle that counts the padding as positions of a text prove nothing."""
    if type(pair.oracle).__name__ in COUNT_PADDING:
        return decoder_oracle.ours_padded(pair)
    return decoder_oracle.padded(pair)


def paged(pair: Pair) -> float:
    """Through pages, against rows of its own: in a mixed batch, after a prefix hit, and after preemption."""
    scene = paged_runner.Scene.of(pair)
    checks = (paged_runner.mixed, paged_runner.prefix_hit, paged_runner.preempted)
    return max(check(scene.anew()) for check in checks)


def engine(pair: Pair, num_new: int = 6, kernels: str = "auto") -> float:
    """Three requests in one engine; what it chose, and how sure it was, against the oracle's whole sequences.

    They come in chunks, mixed with decoding; the second finds the first one's pages. Native `kernels` change
    the graph of the pair for good.
    """
    first, _, third = pair.prompts
    prompts = {"first": first, "second": [*first[:NUM_COMMON], *third[:7]], "third": third}
    core, ear = new_core(pair.model, dataclasses.replace(SMALL, kernels=kernels)), Ear()
    for request_id, prompt in prompts.items():
        params = SamplingParams(max_tokens=num_new, temperature=0.0, logprobs=0)
        core.add(ask(request_id, prompt, params=params), ear)
        for now in range(4):
            core.step(float(now))
    run_to_end(core)
    assert ear.end("second").usage.cached_tokens == NUM_COMMON
    worst = 0.0
    for request_id, prompt in prompts.items():
        chosen = ear.tokens(request_id)
        assert len(chosen) == num_new
        scores = (
            pair.oracle(torch.tensor([[*prompt, *chosen[:-1]]])).logits[0, len(prompt) - 1 :].log_softmax(-1)
        )
        told = torch.tensor(ear.logprobs(request_id))
        best = scores.max(-1).values
        worst = max(worst, gap(told, best), gap(scores[range(num_new), chosen], best))
    return worst


CHECKS: dict[str, Check] = {
    "prefill": decoder_oracle.prefill,
    "chunked": chunked,
    "packed": decoder_oracle.packed,
    "padded": padded,
    "paged": paged,
    "engine": engine,
}
assert LENGTHS[0] >= NUM_COMMON


#: The first case of each architecture; in the tests, the others show their maths alone.
FIRST = frozenset({case.architecture: name for name, case in reversed(CASES.items())}.values())
MATHS = ("prefill", "packed")


@torch.no_grad()
def errors_of(pair: Pair, names: Collection[str] = tuple(CHECKS)) -> dict[str, float]:
    """Run checks, all where none is named."""
    return {name: CHECKS[name](pair) for name in names}


def measure(architecture: str) -> float:
    """The largest error over all cases and checks of an architecture."""
    names = [name for name, case in CASES.items() if case.architecture == architecture]
    return max(max(errors_of(pair_of(name)).values()) for name in names)


BRAND_CASES: dict[str, Callable[[], float]] = {
    architecture: partial(measure, architecture)
    for architecture in dict.fromkeys(case.architecture for case in CASES.values())
}
