"""Each rule of a step, on the smallest case that shows it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.core.errors import InputError
from cynosure.engine.request import RefusalReason
from cynosure.engine.schedule import Limits, SequenceView, Step, WindowLimits
from cynosure.engine.scheduler import schedule

LIMITS = Limits(
    max_num_batched_tokens=64, max_num_seqs=4, chunk_size=32, block_size=8, num_blocks=40, num_free_blocks=40
)


def new(name: str, num_tokens: int, arrival_s: float = 0.0, **more: object) -> SequenceView:
    return replace(SequenceView(name, num_tokens, 0, num_tokens + 8, arrival_s=arrival_s), **more)


def running(name: str, num_tokens: int, arrival_s: float = 0.0, **more: object) -> SequenceView:
    """One that decodes, with pages for all it knows."""
    view = SequenceView(name, num_tokens, num_tokens - 1, num_tokens + 8, LIMITS.blocks_for(num_tokens))
    return replace(view, arrival_s=arrival_s, **more)


def test_nothing_to_do_is_an_empty_schedule() -> None:
    plan = schedule([], [], LIMITS, 0.0)
    assert (plan.steps, plan.preempt, plan.refuse, dict(plan.new_blocks)) == ((), (), (), {})


def test_a_prompt_is_admitted_with_pages_for_all_of_it_and_its_first_token() -> None:
    plan = schedule([new("a", 40)], [], LIMITS, 0.0)
    assert plan.steps == (Step("a", 32),)
    assert plan.new_blocks == {"a": 6}


def test_pages_pinned_for_one_that_waits_are_not_given_twice() -> None:
    found = new("a", 40, num_computed=16, num_blocks_held=2)
    plan = schedule([found], [], LIMITS, 0.0)
    assert plan.steps == (Step("a", 24),)
    assert plan.new_blocks == {"a": 4}


def test_who_decodes_goes_first_and_prompts_share_one_chunk() -> None:
    plan = schedule([new("a", 20), new("b", 20, 1.0)], [running("d", 9)], LIMITS, 2.0)
    assert plan.steps == (Step("d", 1), Step("a", 20), Step("b", 12))


def test_without_a_decode_prompts_share_the_whole_budget() -> None:
    plan = schedule([new("a", 40), new("b", 40, 1.0), new("c", 40, 2.0)], [], LIMITS, 2.0)
    assert plan.steps == (Step("a", 32), Step("b", 32))


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(7, 0), (8, 0), (9, 1), (16, 0), (17, 1)])
def test_a_decode_grows_by_a_page_at_its_edge(num_tokens: int, num_blocks: int) -> None:
    holder = running("d", num_tokens, num_blocks_held=LIMITS.blocks_for(num_tokens - 1))
    plan = schedule([], [holder], LIMITS, 0.0)
    assert plan.new_blocks == ({"d": num_blocks} if num_blocks else {})


def test_the_least_urgent_is_preempted_where_a_page_is_missing() -> None:
    full = replace(LIMITS, num_free_blocks=0)
    first = running("first", 9, 0.0, num_blocks_held=1)
    views = [running("last", 9, 2.0), first, running("other", 9, 1.0)]
    plan = schedule([], views, full, 3.0)
    assert plan.preempt == ("last",)
    assert plan.steps == (Step("first", 1), Step("other", 1))
    important = [replace(view, priority=-1) if view.request_id == "last" else view for view in views]
    assert schedule([], important, full, 3.0).preempt == ("other",)


def test_the_least_urgent_gives_way_itself() -> None:
    full = replace(LIMITS, num_free_blocks=0)
    plan = schedule([], [running("a", 9), running("b", 9, 1.0, num_blocks_held=1)], full, 2.0)
    assert plan.preempt == ("b",)
    assert plan.steps == (Step("a", 1),)


def test_pages_that_others_hold_too_do_not_come_free() -> None:
    full = replace(LIMITS, num_free_blocks=0)
    needy = running("needy", 9, num_blocks_held=1)
    sharing = [running("x", 9, 1.0), running("y", 9, 2.0, num_blocks_shared=2)]
    assert schedule([], [needy, *sharing], full, 3.0).preempt == ("y", "x")


def test_nobody_is_admitted_in_a_step_that_preempts() -> None:
    full = replace(LIMITS, num_free_blocks=0)
    views = [running("a", 9, num_blocks_held=1), running("b", 80, 1.0)]
    plan = schedule([new("c", 2, priority=-5)], views, full, 2.0)
    assert plan.preempt == ("b",)
    assert plan.steps == (Step("a", 1),)


def test_a_large_one_that_waits_for_pages_keeps_small_ones_behind_it() -> None:
    tight = replace(LIMITS, num_free_blocks=5)
    half = running("half", 60, num_computed=20)
    plan = schedule([new("large", 60, 1.0), new("small", 2, 2.0)], [half], tight, 3.0)
    assert plan.steps == (Step("half", 32),), "those that run go on"


def test_admission_leaves_a_page_for_each_that_runs() -> None:
    waiting = [new("w", 7)]
    runs = [running("a", 5), running("b", 5)]
    assert len(schedule(waiting, runs, replace(LIMITS, num_free_blocks=2), 0.0).steps) == 2
    assert len(schedule(waiting, runs, replace(LIMITS, num_free_blocks=3), 0.0).steps) == 3


def test_slots_are_a_limit() -> None:
    waiting = [new(f"w{index}", 2, float(index)) for index in range(9)]
    plan = schedule(waiting, [running("r", 5)], LIMITS, 9.0)
    assert [step.request_id for step in plan.steps] == ["r", "w0", "w1", "w2"]


def test_priority_goes_before_who_is_half_done() -> None:
    half = running("half", 60, num_computed=20)
    urgent = new("urgent", 64, 5.0, priority=-1)
    plan = schedule([urgent], [half, running("d", 5)], LIMITS, 5.0)
    assert plan.steps == (Step("d", 1), Step("urgent", 32))
    plain = schedule([replace(urgent, priority=0)], [half, running("d", 5)], LIMITS, 5.0)
    assert plain.steps == (Step("d", 1), Step("half", 32))


def test_the_tenant_that_was_served_least_goes_next() -> None:
    waiting = [
        new("a1", 8, 0.0, tenant="a", served_tokens=100.0),
        new("a2", 8, 1.0, tenant="a", served_tokens=100.0),
        new("b1", 8, 2.0, tenant="b", served_tokens=88.0),
        new("b2", 8, 3.0, tenant="b", served_tokens=88.0),
        new("b3", 8, 4.0, tenant="b", served_tokens=88.0),
    ]
    plan = schedule(waiting, [], LIMITS, 5.0)
    assert [step.request_id for step in plan.steps] == ["b1", "b2", "a1", "b3"], "88, 96, then 100 and 104"


def test_waiting_improves_a_priority_but_not_beyond_the_best() -> None:
    low, high = new("low", 32, 0.0, priority=3), new("high", 32, 29.0, priority=0)
    narrow = replace(LIMITS, max_num_seqs=1)

    def first(now: float) -> str:
        return schedule([low, high], [], narrow, now).steps[0].request_id

    assert first(29.9) == "high"
    assert first(30.0) == "low"
    backlog = new("backlog", 32, 0.0, tenant="a", served_tokens=9.0)
    fresh = new("fresh", 32, 1000.0, tenant="b", served_tokens=0.0)
    assert schedule([backlog, fresh], [], narrow, 1000.0).steps[0].request_id == "fresh"


def test_one_that_can_never_fit_is_told_the_numbers() -> None:
    edge = new("edge", 312)
    assert edge.max_num_tokens == LIMITS.num_blocks * LIMITS.block_size
    assert not schedule([edge], [], LIMITS, 0.0).refuse
    [refusal] = schedule([new("over", 313), edge], [], LIMITS, 0.0).refuse
    assert refusal.request_id == "over"
    assert refusal.reason is RefusalReason.TOO_LARGE
    for number in ("321 tokens", "41 pages", "there are 40"):
        assert number in refusal.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chunk_size", 0),
        ("block_size", 0),
        ("num_blocks", 0),
        ("max_num_seqs", 65),
        ("num_free_blocks", 41),
        ("num_free_blocks", -1),
        ("aging_s", 0.0),
    ],
)
def test_limits_that_can_not_be_kept_are_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"{field} is {value}.*\."):
        replace(LIMITS, **{field: value})


def test_a_sequence_listed_twice_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="twice"):
        schedule([new("a", 2)], [running("a", 3)], LIMITS, 0.0)


def windowed(num_free: int, max_held: int = 3, num_pages: int = 9) -> Limits:
    return replace(LIMITS, windows=(WindowLimits(max_held, num_pages, num_free),))


@pytest.mark.parametrize(("num_free", "is_admitted"), [(3, True), (2, False)])
def test_a_prompt_needs_its_quota_of_a_window_s_pages_too(num_free: int, is_admitted: bool) -> None:
    plan = schedule([new("a", 40)], [], windowed(num_free), 0.0)
    assert bool(plan.steps) == is_admitted
    assert plan.new_blocks == ({"a": 6} if is_admitted else {})


def test_a_page_of_the_window_is_left_for_each_that_may_still_grow() -> None:
    """The one that holds its quota needs no more; the one that holds less may."""
    grown, growing = running("d", 24), running("e", 6)
    assert schedule([new("a", 40)], [grown], windowed(3), 0.0).new_blocks == {"a": 6}
    assert schedule([new("a", 40)], [grown, growing], windowed(3), 0.0).new_blocks == {}
    assert schedule([new("a", 40)], [grown, growing], windowed(4), 0.0).new_blocks == {"a": 6}


def test_the_least_urgent_is_preempted_where_a_window_s_page_is_missing() -> None:
    first = running("first", 9, 0.0, num_blocks_held=1)
    last = running("last", 17, 1.0, num_blocks_held=3)
    plan = schedule([], [last, first], windowed(0), 3.0)
    assert plan.preempt == ("last",)
    assert plan.steps == (Step("first", 1),)
    grown = running("grown", 33, 0.0, num_blocks_held=4)
    plan = schedule([], [grown, last], windowed(0), 3.0)
    assert plan.preempt == (), "who has slid as far as its window needs no page"
    assert plan.new_blocks == {"grown": 1}


def test_what_a_window_can_never_hold_is_refused() -> None:
    limits = windowed(2, max_held=3, num_pages=2)
    plan = schedule([new("large", 12), new("small", 8)], [], limits, 0.0)
    assert [refusal.request_id for refusal in plan.refuse] == ["large"]
    assert "needs 3 pages in layers with a window; they have 2" in plan.refuse[0].message
    assert plan.steps == (Step("small", 8),)
