"""Who is served next, and what a tenant's absence is worth."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.engine.fairness import FairQueue, TokenCounter, order_of_service, urgencies
from cynosure.engine.schedule import SequenceView


def view(
    name: str, tenant: str = "", served: float = 0.0, arrival_s: float = 0.0, priority: int = 0
) -> SequenceView:
    return SequenceView(
        name, 5, 0, 9, tenant=tenant, served_tokens=served, arrival_s=arrival_s, priority=priority
    )


def counter_of(**served: int) -> TokenCounter:
    """All arrive, then all are served."""
    counter = TokenCounter()
    for tenant in served:
        counter.arrive(tenant)
    for tenant, num_tokens in served.items():
        counter.serve(tenant, num_tokens)
    return counter


def test_a_tenant_that_comes_back_has_saved_nothing_up() -> None:
    counter = counter_of(a=10, b=10)
    counter.depart("b")
    counter.serve("a", 1000)
    counter.arrive("b")
    assert counter.served("b") == counter.served("a") == 1010


def test_a_tenant_that_comes_back_keeps_its_debt() -> None:
    counter = counter_of(a=500, b=100)
    counter.depart("a")
    counter.arrive("a")
    assert counter.served("a") == 500
    assert counter.served("b") == 100


def test_after_idleness_all_start_level() -> None:
    counter = TokenCounter()
    counter.arrive("a")
    counter.serve("a", 700)
    counter.depart("a")
    for tenant in "ab":
        counter.arrive(tenant)
    assert counter.served("a") == counter.served("b") == 700


def test_a_newcomer_starts_with_the_least_served_of_those_present() -> None:
    counter = counter_of(a=500, b=100)
    counter.arrive("new")
    assert counter.served("new") == 100


def test_departing_more_often_than_arriving_is_our_own_mistake() -> None:
    counter = TokenCounter()
    counter.arrive("a")
    counter.depart("a")
    with pytest.raises(AssertionError, match="'a'"):
        counter.depart("a")


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 50), st.booleans()), max_size=60))
def test_nobody_present_is_ever_below_where_a_newcomer_starts(events: list[tuple[str, int, bool]]) -> None:
    counter, present = TokenCounter(), Counter[str]()
    for tenant, num_tokens, leaves in events:
        if leaves and present[tenant]:
            counter.depart(tenant)
            present[tenant] -= 1
        else:
            least = min((counter.served(name) for name, count in present.items() if count), default=None)
            counter.arrive(tenant)
            if least is not None:
                assert counter.served(tenant) >= least
            present[tenant] += 1
            counter.serve(tenant, num_tokens)


def test_strangers_are_forgotten() -> None:
    counter = TokenCounter()
    for index in range(1000):
        counter.arrive(f"key{index}")
        counter.serve(f"key{index}", 3)
        counter.depart(f"key{index}")
    assert len(counter._served) <= 1


def test_the_order_is_priority_then_service_then_arrival_then_name() -> None:
    views = [
        view("d", arrival_s=1.0),
        view("c", arrival_s=1.0),
        view("b", served=-1.0, arrival_s=9.0, tenant="other"),
        view("a", priority=-1, served=99.0, arrival_s=9.0),
    ]
    urgency = urgencies(views, 9.0, 10.0)
    assert [item.request_id for item in order_of_service(views, urgency)] == ["a", "b", "c", "d"]


def test_the_queue_counts_what_it_is_told_was_served() -> None:
    views = [
        view(f"{tenant}{index}", tenant, arrival_s=float(index)) for tenant in "ab" for index in range(3)
    ]
    queue = FairQueue(views, urgencies(views, 0.0, 10.0))
    order = []
    while (taken := queue.pop()) is not None:
        order.append(taken.request_id)
        queue.charge(taken.tenant, 10 if taken.tenant == "a" else 4)
    assert order == ["a0", "b0", "b1", "b2", "a1", "a2"]


def test_the_queue_forgets_all_but_some() -> None:
    views = [view(f"{tenant}{index}", tenant) for tenant in "ab" for index in range(3)]
    queue = FairQueue(views, urgencies(views, 0.0, 10.0))
    queue.keep_only({"a1", "a2"})
    assert [item.request_id for item in iter(queue.pop, None)] == ["a1", "a2"]


@pytest.mark.parametrize(
    ("waited_s", "level"), [(0.0, 3), (9.9, 3), (10.0, 2), (29.9, 1), (30.0, 0), (900.0, 0)]
)
def test_waiting_is_worth_levels(waited_s: float, level: int) -> None:
    views = [view("low", priority=3), view("best", arrival_s=waited_s)]
    assert urgencies(views, waited_s, 10.0)["low"][0] == level
