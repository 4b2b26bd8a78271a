"""What a second guess would gain is counted right where it is known. Computes no model."""

from __future__ import annotations

from benchmarks.speculation_branches import BranchDrafter, Task, counted

RUN = [1, 2, 3]


def test_a_second_guess_is_another_first_token() -> None:
    token_ids = [*RUN, 7, 70, *RUN, 8, 80, *RUN, 8, 81, *RUN]
    assert BranchDrafter(2, 1).branches(token_ids, 2) == [(8, 81)]
    assert BranchDrafter(2, 2).branches(token_ids, 2) == [(8, 81), (7, 70)]
    assert BranchDrafter(2, 4).branches(token_ids, 2) == [(8, 81), (7, 70)]
    assert BranchDrafter(2, 2).branches([1, 2, 9], 2) == []


def test_steps_are_counted_by_the_best_guess() -> None:
    prompt = [*RUN, 7, 70, 71, 72, *RUN, 8, 80]
    task = Task("known", [*prompt, *RUN, 7, 70, 71, 72], len(prompt))
    one, two = counted(task, 1, 4), counted(task, 2, 4)
    assert one.num_tokens == two.num_tokens == 7
    # The run, token by token; then the guess of the last place is wrong, and the other's is right. The one
    # guess rests for a step, and has learnt by then.
    assert (one.num_steps, one.num_rescued) == (6, 0)
    assert (two.num_steps, two.num_rescued) == (4, 1)


def test_following_a_place_and_beginning_anew_differ() -> None:
    first, last = [*range(1, 16)], [*range(4, 12), 0]
    task = Task("followed", [*first, *last, 99, *first], len(first) + len(last) + 1)
    assert counted(task, 1, 1).num_steps < counted(task, 0, 1).num_steps
