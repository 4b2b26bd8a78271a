"""Denied tokens are attended to by nobody, whatever is cached or beside them; biases are weighed in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from cynosure.core.errors import InputError
from cynosure.engine import Finished, Request, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.runner import Work
from cynosure.engine.watch import DENIED
from tests.engine.engine_cases import Ear, ask, run_to_end
from tests.engine.test_watch import KERNELS, all_attended, core_of, heads_of, prompt_of
from tests.engine.watch_cases import spec_of

#: Over the edges of pages of 8 and chunks of 16.
START, END, LENGTH = 6, 19, 30


def with_other_content(prompt: Sequence[int]) -> list[int]:
    return [*prompt[:START], *prompt_of(END - START, seed=77), *prompt[END:]]


class Logits:
    """Every row of logits that an engine computes for a request, in the order of its tokens."""

    def __init__(self, core: EngineCore, prompt: Sequence[int]) -> None:
        self._core, self._prompt, self._run = core, tuple(prompt), core._runner.run
        self.rows: list[Tensor] = []
        core._runner.run = self  # type: ignore[method-assign, assignment]

    def __call__(self, work: Sequence[Work]) -> list[Tensor]:
        rows = self._run(work)
        blocks = [sequence.pages.blocks for sequence in self._sequences()]
        for item, row in zip(work, rows, strict=True):
            if item.blocks in blocks and len(row):
                self.rows.append(row[-1].clone())
        return rows

    def _sequences(self) -> list:
        return [one for one in self._core._running.values() if one.request.token_ids == self._prompt]


def logits_of(
    core: EngineCore,
    prompt: Sequence[int],
    bias: tuple[tuple[int, int, float], ...],
    *,
    is_warm: bool = False,
) -> list[Tensor]:
    """Logits of eight tokens, beside two other requests; where it `is_warm`, its pages are there."""
    ear = Ear()
    if is_warm:
        core.add(ask("warm", [*prompt, 3, 4], bias=bias), ear)
        run_to_end(core)
    seen = Logits(core, prompt)
    core.add(ask("other", prompt_of(11, 5)), ear)
    core.add(ask("asked", prompt, bias=bias), ear)
    core.add(ask("plain", [*prompt, 9]), ear)
    run_to_end(core)
    end = ear.end("asked")
    assert isinstance(end, Finished)
    assert (end.usage.cached_tokens > 0) == is_warm
    assert len(seen.rows) == 8
    return seen.rows


def gap(ours: list[Tensor], theirs: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("is_warm", [False, True])
@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["llama", "gemma2", "bloom"])
def test_what_is_denied_changes_no_logit(name: str, kernels: str, is_warm: bool) -> None:
    """And what is not denied does: the positive control."""
    prompt, bias = prompt_of(LENGTH), ((START, END, DENIED),)
    ours = logits_of(core_of(name, kernels), prompt, bias, is_warm=is_warm)
    theirs = logits_of(core_of(name, kernels), with_other_content(prompt), bias, is_warm=is_warm)
    assert gap(ours, theirs) <= 1e-6
    open_rows = [
        logits_of(core_of(name, kernels), text, (), is_warm=is_warm)
        for text in (prompt, with_other_content(prompt))
    ]
    assert gap(*open_rows) > 1e-2
    assert gap(ours, open_rows[0]) > 1e-2


@pytest.mark.parametrize("kernels", KERNELS)
def test_pages_of_another_bias_are_not_found(kernels: str) -> None:
    """A prompt that was read openly has nothing to say to one that denies."""
    core, prompt = core_of("llama", kernels), prompt_of(LENGTH)
    bias = ((START, END, DENIED),)
    alone = logits_of(core_of("llama", kernels), prompt, bias)
    ear = Ear()
    core.add(ask("open", [*prompt, 3]), ear)
    run_to_end(core)
    # What shares a batch is another here, which torch rounds otherwise; an open page would be far off.
    assert gap(logits_of(core, prompt, bias), alone) <= 1e-4


@pytest.mark.parametrize("kernels", KERNELS)
def test_what_is_denied_or_weighed_is_seen_in_the_shares(kernels: str) -> None:
    core = core_of("llama", kernels)
    watch = spec_of(LENGTH, heads_of(core))
    _, start, end = watch.runs[1]

    def shares(nats: float | None) -> list[float]:
        ear = Ear()
        bias = () if nats is None else ((start, end, nats),)
        core.add(ask("a", prompt_of(LENGTH), 1, watch=watch, bias=bias), ear)
        run_to_end(core)
        return list(all_attended(ear, "a")[0].masses)

    denied, less, plain, more = shares(DENIED), shares(-2.0), shares(None), shares(2.0)
    assert denied[1] == 0.0
    assert less[1] < plain[1] < more[1]
    for told in (denied, less, plain, more):
        assert math.isclose(sum(told), 1.0, abs_tol=1e-5)


@pytest.mark.parametrize("kernels", KERNELS)
def test_neighbours_of_a_bias_get_the_same_bits(kernels: str) -> None:
    def neighbour(bias: tuple[tuple[int, int, float], ...]) -> tuple[list[int], list[float]]:
        core, ear = core_of("gemma2", kernels), Ear()
        core.add(ask("a", prompt_of(LENGTH), bias=bias), ear)
        core.add(ask("b", prompt_of(21, 3)), ear)
        run_to_end(core)
        return ear.tokens("b"), ear.logprobs("b")

    if kernels == "torch":
        # Torch's fused kernel adds no bias, so that another one takes the whole batch.
        plain, biased = neighbour(()), neighbour(((0, 3, 1.0),))
        assert plain[0] == biased[0]
        assert plain[1] == pytest.approx(biased[1], abs=1e-5)
    else:
        assert neighbour(()) == neighbour(((0, 3, 1.0),))


def test_a_penalty_does_not_read_what_is_denied() -> None:
    """Repetition is punished in what may be looked at alone."""
    prompt = prompt_of(LENGTH)
    params = SamplingParams(max_tokens=4, temperature=0.0, logprobs=0, repetition_penalty=5.0)
    tokens = []
    for text in (prompt, with_other_content(prompt)):
        core, ear = core_of("llama", "torch"), Ear()
        core.add(ask("a", text, params=params, bias=((START, END, DENIED),)), ear)
        run_to_end(core)
        tokens.append((ear.tokens("a"), ear.logprobs("a")))
    assert tokens[0] == tokens[1]
    visible = Request("a", tuple(prompt), params, bias=((START, END, DENIED),)).visible_ids
    assert visible == (*prompt[:START], *prompt[END:])


def test_the_likelihood_of_a_prompt_would_tell_of_what_is_denied() -> None:
    params = SamplingParams(max_tokens=4, prompt_logprobs=0)
    with pytest.raises(InputError, match="would tell of them"):
        ask("a", prompt_of(LENGTH), params=params, bias=((START, END, DENIED),))


def test_all_that_a_request_may_not_read_of_an_empty_beginning() -> None:
    """Its first token denied, a query that sees nothing gives nothing, and nothing breaks."""
    core, ear = core_of("llama", "torch"), Ear()
    core.add(ask("a", prompt_of(LENGTH), bias=((0, END, DENIED),)), ear)
    run_to_end(core)
    assert isinstance(ear.end("a"), Finished)
    assert all(torch.tensor(ear.logprobs("a")).isfinite())
