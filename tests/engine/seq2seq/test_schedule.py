"""Who is let in fits, in fair order; small ones never starve a large one; lost deadlines are refused."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cynosure.engine.request import RefusalReason
from cynosure.engine.schedule import Rates, SequenceView
from cynosure.engine.seq2seq.schedule import Candidate, Room, admit

ROOM = Room(num_tokens=100, num_lines=8, num_free_blocks=20, num_blocks=40, max_num_lines=8)


def candidate(
    name: str, tokens: int = 10, inputs: int = 2, answers: int = 2, lines: int = 1, **view: object
) -> Candidate:
    fields = {"num_tokens": 1, "num_computed": 0, "max_num_tokens": 9, **view}
    return Candidate(SequenceView(name, **fields), tokens, inputs, answers, lines)  # type: ignore[arg-type]


def admitted(*candidates: Candidate, room: Room = ROOM, now: float = 0.0) -> tuple[str, ...]:
    return admit(candidates, room, now, Rates()).admitted


def test_order_is_priority_then_the_least_served_then_arrival() -> None:
    late = candidate("late", arrival_s=2.0)
    early = candidate("early", arrival_s=1.0)
    urgent = candidate("urgent", arrival_s=3.0, priority=-1)
    poor = candidate("poor", arrival_s=4.0, tenant="poor")
    rich = [replace(one, view=replace(one.view, tenant="rich", served_tokens=50.0)) for one in (late, early)]
    assert admitted(late, early, urgent) == ("urgent", "early", "late")
    assert admitted(*rich, poor) == ("poor", "early", "late")


def test_one_that_must_wait_keeps_those_behind_it_waiting() -> None:
    large = candidate("a", inputs=15, answers=6)
    assert admitted(large, candidate("b", arrival_s=1.0)) == ()
    assert admitted(large, candidate("b", arrival_s=1.0), room=replace(ROOM, num_free_blocks=21)) == ("a",)
    assert admitted(candidate("a", lines=5), candidate("b", lines=4, arrival_s=1.0)) == ("a",)


def test_inputs_share_a_budget_and_a_long_one_goes_alone() -> None:
    long, short = candidate("a", tokens=101), candidate("b", tokens=5, arrival_s=1.0)
    assert admitted(long, short) == ("a",)
    assert admitted(candidate("a", tokens=96), short) == ("a",)
    assert admitted(candidate("a", tokens=95), short) == ("a", "b")
    assert admitted(candidate("a", tokens=0), replace(long, view=replace(long.view, request_id="c"))) == (
        "a",
        "c",
    )


def test_refusals_say_why() -> None:
    never = candidate("never", inputs=30, answers=11)
    wide = candidate("wide", lines=9)
    late = candidate("late", deadline_s=5.0)
    decision = admit([never, wide, late], ROOM, 6.0, Rates())
    reasons = {refusal.request_id: refusal.reason for refusal in decision.refused}
    assert reasons == {
        "never": RefusalReason.TOO_LARGE,
        "wide": RefusalReason.TOO_LARGE,
        "late": RefusalReason.DEADLINE,
    }
    hopeless = admit([late], ROOM, 4.0, Rates(prefill_tokens_per_s=1.0, step_s=0.5, answer_tokens=2.0))
    assert hopeless.refused[0].predicted_wait_s == 10.0
    assert admit([late], ROOM, 4.0, Rates(1000.0, 0.1, 2.0)).admitted == ("late",)


CANDIDATES = st.lists(
    st.tuples(
        st.integers(0, 120), st.integers(0, 15), st.integers(1, 15), st.integers(1, 8), st.integers(0, 3)
    ),
    max_size=8,
)


@given(CANDIDATES)
def test_what_is_let_in_fits_whatever_comes(rows: list[tuple[int, int, int, int, int]]) -> None:
    candidates = [
        candidate(f"r{index}", *row[:4], tenant=str(row[4]), arrival_s=float(index))
        for index, row in enumerate(rows)
    ]
    decision = admit(candidates, ROOM, 0.0, Rates())
    assert decision == admit(candidates[::-1], ROOM, 0.0, Rates())
    chosen = [one for one in candidates if one.view.request_id in decision.admitted]
    assert sum(one.num_input_blocks + one.num_answer_blocks for one in chosen) <= ROOM.num_free_blocks
    assert sum(one.num_lines for one in chosen) <= ROOM.num_lines
    tokens = [one.num_encoded for one in chosen]
    assert sum(tokens) <= ROOM.num_tokens or sum(bool(count) for count in tokens) == 1
    assert not decision.refused


@given(
    running=st.lists(
        st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(1, 3)), min_size=1, max_size=5
    ),
    urgent=st.tuples(st.integers(1, 40), st.integers(1, 8)),
    flood=st.lists(st.tuples(st.integers(1, 10), st.integers(1, 3)), min_size=60, max_size=60),
)
def test_an_urgent_one_waits_for_those_that_run_and_for_no_others(
    running: list[tuple[int, int, int]], urgent: tuple[int, int], flood: list[tuple[int, int]]
) -> None:
    """So nobody need be taken out for it: it begins when the longest of these has ended, at the latest."""
    held = {f"r{place}": list(one) for place, one in enumerate(running)}
    while sum(one[1] for one in held.values()) > 40 or sum(one[2] for one in held.values()) > 8:
        held.popitem()
    longest = max((one[0] for one in held.values()), default=0)
    wanted = candidate("urgent", inputs=0, answers=urgent[0], lines=urgent[1], priority=0, arrival_s=0.0)
    waiting: list[Candidate] = []
    for step, (blocks, lines) in enumerate(flood):
        # One of a lower priority comes in each step, small enough to slip in.
        waiting.append(candidate(f"f{step}", inputs=0, answers=blocks, lines=lines, priority=1))
        room = replace(
            ROOM,
            num_lines=8 - sum(one[2] for one in held.values()),
            num_free_blocks=40 - sum(one[1] for one in held.values()),
        )
        begun = admit([*waiting, wanted], room, 0.01 * step, Rates()).admitted
        if "urgent" in begun:
            assert begun[0] == "urgent"
            return
        assert not begun, "somebody slipped in before it"
        assert step <= longest
        held = {name: [one[0] - 1, *one[1:]] for name, one in held.items() if one[0] > 1}
    raise AssertionError("it never began")
