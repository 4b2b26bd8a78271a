"""Tokens are scored in the background, under a denial too: rightly, behind all others, leaving nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.engine import Finished, PromptLogprobs, Request, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.schedule import SequenceView, Step
from cynosure.engine.scheduler import schedule
from cynosure.engine.session import Session
from cynosure.engine.watch import DENIED
from cynosure.models.probe import DecoderProbe
from tests.engine.engine_cases import SMALL, Ear, ask, run_to_end
from tests.engine.test_scheduler import LIMITS, new, running
from tests.engine.test_watch import KERNELS, core_of, pair_of, prompt_of

#: A prompt over edges of pages of 8, and an answer behind it.
LENGTH, NUM_ANSWER = 30, 6
RUN = (6, 19)
FAMILIES = ("llama", "gemma2", "bloom")


def audit(
    name: str,
    token_ids: Sequence[int],
    first: int,
    *,
    denied: tuple[int, int] | None = None,
    bias_from: int = 0,
    **options: object,
) -> Request:
    """Score all from `first` on, in the background."""
    params = SamplingParams(max_tokens=0, prompt_logprobs=0, prompt_logprobs_start=first)
    bias = () if denied is None else ((*denied, DENIED),)
    chosen = {"is_background": True, "bias": bias, "bias_from": bias_from, **options}
    return ask(name, token_ids, **{"params": params, **chosen})


def scores(ear: Ear, name: str) -> list[float]:
    end = ear.end(name)
    assert isinstance(end, Finished)
    told = [event for event in ear.events[name] if isinstance(event, PromptLogprobs)]
    return [token.logprob for event in told for token in event.tokens]


def scored(core: EngineCore, request: Request) -> list[float]:
    ear = Ear()
    core.check(request)
    core.add(request, ear)
    run_to_end(core)
    return scores(ear, request.request_id)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_denial_is_the_full_one(name: str, kernels: str) -> None:
    """As the probe computes it, without pages or chunks; and not what is scored openly: the control."""
    text = prompt_of(LENGTH + NUM_ANSWER)
    probe = DecoderProbe(pair_of(name).graph)
    told = scored(core_of(name, kernels), audit("a", text, LENGTH, denied=RUN))
    assert told == pytest.approx(probe.log_probs(text, LENGTH, denied=[RUN]).tolist(), abs=1e-4)
    openly = scored(core_of(name, kernels), audit("a", text, LENGTH))
    assert openly == pytest.approx(probe.log_probs(text, LENGTH).tolist(), abs=1e-4)
    assert told != pytest.approx(openly, abs=1e-2)


@pytest.mark.parametrize("first", [7, 8, 9, 15, 16, 17, 25])
@pytest.mark.parametrize("run", [(1, 2), (2, 6), (1, 5)])
def test_at_the_edges_of_pages(first: int, run: tuple[int, int]) -> None:
    text = prompt_of(first + 1)
    expected = DecoderProbe(pair_of("llama").graph).log_probs(text, first, denied=[run])
    told = scored(core_of("llama", "torch"), audit("a", text, first, denied=run))
    assert told == pytest.approx(expected.tolist(), abs=1e-4)


def log_probs_denied_late(text: Sequence[int], first: int, run: tuple[int, int]) -> list[float]:
    """What an eager model says where queries from `first - 1` on do not see a run."""
    length, lowest = len(text), torch.finfo(torch.float32).min
    mask = torch.full((length, length), lowest).triu(1)
    mask[first - 1 :, slice(*run)] = lowest
    with torch.inference_mode():
        logits = (
            pair_of("llama").oracle(torch.tensor([list(text)]), attention_mask=mask[None, None]).logits[0]
        )
    rows = logits[first - 1 : -1].log_softmax(-1)
    return [float(row[token]) for row, token in zip(rows, text[first:], strict=True)]


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("length", [23, 24, 25, LENGTH])
@pytest.mark.parametrize("is_warm", [False, True])
def test_a_late_denial_leaves_the_prompt_as_it_was_read(length: int, kernels: str, is_warm: bool) -> None:
    core, text = core_of("llama", kernels), prompt_of(length + NUM_ANSWER)
    if is_warm:
        core.add(ask("warm", text[:length], 1), Ear())
        run_to_end(core)
    ear = Ear()
    core.add(audit("a", text, length, denied=RUN, bias_from=length - 1), ear)
    run_to_end(core)
    expected = log_probs_denied_late(text, length, RUN)
    assert scores(ear, "a") == pytest.approx(expected, abs=1e-4)
    full = scored(core, audit("b", text, length, denied=RUN))
    assert full != pytest.approx(expected, abs=1e-2)
    end = ear.end("a")
    assert isinstance(end, Finished)
    assert (end.usage.cached_tokens > 0) == is_warm


@pytest.mark.parametrize("bias_from", [0, LENGTH - 1])
def test_it_leaves_no_page(bias_from: int) -> None:
    """Neither a later denial of the same nor an open request finds one; an open request leaves some."""
    core, text = core_of("llama", "torch"), prompt_of(LENGTH + NUM_ANSWER)
    scored(core, audit("a", text, LENGTH, denied=RUN, bias_from=bias_from))
    scored(core, audit("b", text, LENGTH))
    assert core.snapshot.num_cached_blocks == 0
    core.add(ask("caller", text, 1), Ear())
    run_to_end(core)
    assert core.snapshot.num_cached_blocks > 0


def test_pages_of_another_tenant_are_not_read() -> None:
    core, text, ear = core_of("llama", "torch"), prompt_of(LENGTH + NUM_ANSWER), Ear()
    core.add(ask("caller", text[:LENGTH], 1, tenant="anna"), ear)
    run_to_end(core)
    for tenant in ("anna", "ben"):
        core.add(audit(tenant, text, LENGTH, tenant=tenant), ear)
        run_to_end(core)
    cached = [vars(ear.end(tenant))["usage"].cached_tokens for tenant in ("anna", "ben")]
    assert cached[0] > cached[1] == 0


def test_who_comes_stops_it() -> None:
    """It begins again once the caller is answered, and tells no token twice."""
    core, text, ear = core_of("llama", "torch"), prompt_of(80 + NUM_ANSWER), Ear()
    core.add(audit("a", text, 1), ear)
    core.step(0.0)
    core.step(1.0)
    num_told = len(ear.events["a"])
    assert num_told > 0
    core.add(ask("caller", prompt_of(20, 3), 4), ear)
    now = 2.0
    while "caller" in core._running or "caller" in core._waiting:
        core.step(now)
        now += 1
        core.check_integrity()
        assert "a" not in core._running
    assert len(ear.events["a"]) == num_told
    run_to_end(core)
    told = scores(ear, "a")
    expected = DecoderProbe(pair_of("llama").graph).log_probs(text, 1)
    assert told == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_caller_gets_the_bits_that_it_gets_alone() -> None:
    def answer(*, is_alone: bool) -> tuple[list[int], list[float]]:
        core, ear = core_of("llama", "torch"), Ear()
        if not is_alone:
            core.add(audit("a", prompt_of(60), 20, denied=RUN), ear)
            core.step(0.0)
        core.add(ask("caller", prompt_of(20, 3), 6), ear)
        run_to_end(core)
        return ear.tokens("caller"), ear.logprobs("caller")

    assert answer(is_alone=False) == answer(is_alone=True)


def test_its_pages_are_there_for_who_comes() -> None:
    """Memory for one of the two: the caller is admitted in the step that it comes in."""
    core = core_of("llama", "torch")
    bytes_per_page = SMALL.kv_cache_bytes // core.tree.pool.num_blocks
    core, ear = core_of("llama", "torch", replace(SMALL, kv_cache_bytes=bytes_per_page * 6)), Ear()
    core.add(audit("a", prompt_of(44), 40), ear)
    core.step(0.0)
    assert "a" in core._running
    core.add(ask("caller", prompt_of(30, 3), 8), ear)
    core.step(1.0)
    assert list(core._running) == ["caller"]
    run_to_end(core)
    assert len(scores(ear, "a")) == 4


def test_no_tenant_pays() -> None:
    core, ear = core_of("llama", "torch"), Ear()
    core.add(audit("a", prompt_of(40), 20, tenant="anna"), ear)
    run_to_end(core)
    assert core._served.served("anna") == 0


def test_steps_are_of_callers_alone_where_there_are_any() -> None:
    held = replace(running("b", 9), is_background=True)
    waiting = new("w", 20, is_background=True)
    plan = schedule([waiting, new("a", 20)], [held], LIMITS, 0.0)
    assert plan.steps == (Step("a", 20),)
    assert plan.preempt == ("b",)
    alone = schedule([waiting], [held], LIMITS, 0.0)
    assert alone.steps == (Step("b", 1), Step("w", 20))
    assert alone.preempt == ()


def test_pages_that_are_given_up_are_given_out_in_the_same_step() -> None:
    held = replace(running("b", 80), is_background=True)
    limits = replace(LIMITS, num_free_blocks=0)
    assert schedule([new("a", 20)], [held], limits, 0.0).steps == (Step("a", 20),)
    # Somebody else's are waited for: the control.
    assert schedule([new("a", 20)], [running("b", 80)], limits, 0.0).steps == (Step("b", 1),)


def test_callers_get_the_plan_that_they_get_alone() -> None:
    """Whatever is of the background: its pages count as free, and all else of it as if it were not there."""
    dice = random.Random(0)
    for _ in range(300):
        views = [_any_view(dice, f"v{number}") for number in range(dice.randint(2, 8))]
        behind = [replace(view, is_background=dice.random() < 0.5) for view in views]
        if all(view.is_background for view in behind):
            continue
        freed = sum(view.num_blocks_held for view in behind if view.is_background)
        free = dice.randint(0, LIMITS.num_blocks - freed)
        waits, runs = _split(behind)
        plan = schedule(waits, runs, replace(LIMITS, num_free_blocks=free), 5.0)
        own = [view for view in behind if not view.is_background]
        alone = schedule(*_split(own), replace(LIMITS, num_free_blocks=free + freed), 5.0)
        stopped = tuple(view.request_id for view in runs if view.is_background)
        assert plan == replace(alone, preempt=(*stopped, *alone.preempt))


def _any_view(dice: random.Random, name: str) -> SequenceView:
    num_tokens, arrival_s = dice.randint(2, 60), float(dice.randint(0, 5))
    view = dice.choice([new, running])(name, num_tokens, arrival_s)
    return replace(view, priority=dice.randint(0, 2), tenant=dice.choice("ab"))


def _split(views: Sequence[SequenceView]) -> tuple[list[SequenceView], list[SequenceView]]:
    return [view for view in views if not view.num_computed], [view for view in views if view.num_computed]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"is_background": False, "bias_from": 3}, "save in the background"),
        ({"bias_from": LENGTH + NUM_ANSWER}, "name one of them"),
        ({"is_reproducible": True}, "is reproducible"),
        ({"session": Session("s")}, "keeps a session"),
        ({"params": SamplingParams(max_tokens=1)}, "chooses tokens"),
    ],
)
def test_what_is_not_done_in_the_background(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        audit("a", prompt_of(LENGTH + NUM_ANSWER), LENGTH, **options)


def test_scores_that_would_tell_of_what_is_denied() -> None:
    """The query of a denied token says what it is; the one behind it does not."""
    text = prompt_of(LENGTH)
    with pytest.raises(InputError, match="would tell of them"):
        audit("a", text, RUN[1], denied=RUN)
    told = [
        scored(core_of("llama", "torch"), audit("a", one, RUN[1] + 1, denied=RUN))
        for one in (text, [*text[: RUN[0]], *prompt_of(RUN[1] - RUN[0], 77), *text[RUN[1] :]])
    ]
    assert told[0] == pytest.approx(told[1], abs=1e-6)
    assert all(map(math.isfinite, told[0]))
