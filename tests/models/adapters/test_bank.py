"""Adapters are held by name, lent while requests use them, and gone once the last has given his back."""

from __future__ import annotations

import threading

import pytest
import torch

from cynosure.core.errors import InputError, NotFound
from cynosure.models.adapters.adapter import Adapter, Pair
from cynosure.models.adapters.bank import AdapterBank
from cynosure.models.adapters.limits import AdapterLimits

NUM_BYTES = 4 * 2 * (3 + 5)


def adapter(name: str, digest: str) -> Adapter:
    return Adapter(name, digest * 64, {"layers.0.attention.q": Pair(torch.zeros(2, 3), torch.zeros(5, 2))})


def bank_of(**limits: int) -> AdapterBank:
    return AdapterBank(AdapterLimits(**limits))


def test_names_belong_to_models() -> None:
    bank = bank_of()
    mine, other = adapter("a", "1"), adapter("a", "2")
    bank.add("m", mine)
    bank.add("n", other)
    assert (bank.find("m", "a"), bank.find("n", "a")) == (mine, other)
    assert bank.find("m", mine.identity) is mine
    with pytest.raises(NotFound, match="model 'm' has no adapter 'b'; here: a"):
        bank.find("m", "b")
    with pytest.raises(NotFound):
        bank.find("n", mine.identity)


def test_one_that_is_lent_goes_when_the_last_gives_it_back() -> None:
    bank = bank_of()
    held = adapter("a", "1")
    bank.add("m", held)
    (_, first), (_, last) = bank.borrow("m", "a"), bank.borrow("m", "a")
    gone = bank.remove("m", "a")
    with pytest.raises(NotFound):
        bank.borrow("m", "a")
    # Who has it finds it by its content.
    assert bank.find("m", held.identity) is held
    first()
    assert not gone.done()
    assert bank.num_bytes == NUM_BYTES
    last()
    assert gone.done()
    assert bank.num_bytes == 0
    with pytest.raises(NotFound):
        bank.find("m", held.identity)


def test_another_content_takes_the_name_and_the_same_changes_nothing() -> None:
    bank = bank_of(max_adapters=1)
    old, new = adapter("a", "1"), adapter("a", "2")
    bank.add("m", old)
    bank.add("m", adapter("a", "1"))
    assert bank.find("m", "a") is old
    bank.add("m", new)
    assert bank.find("m", "a") is new
    assert bank.names("m") == ("a",)


def test_bytes_of_those_that_are_leaving_count() -> None:
    bank = bank_of(max_bytes=2 * NUM_BYTES)
    bank.add("m", adapter("a", "1"))
    _, give_back = bank.borrow("m", "a")
    bank.add("m", adapter("a", "2"))
    with pytest.raises(InputError, match=f"would take {3 * NUM_BYTES} bytes; the limit is {2 * NUM_BYTES}"):
        bank.add("m", adapter("b", "3"))
    # What nobody uses is free at once, so that a name can change what it means in a full bank.
    bank.add("m", adapter("a", "4"))
    give_back()
    bank.add("m", adapter("b", "3"))
    assert bank.num_bytes == 2 * NUM_BYTES


def test_many_at_once() -> None:
    bank, gone = bank_of(), []
    bank.add("m", adapter("a", "0"))

    def use() -> None:
        for _ in range(300):
            try:
                _, give_back = bank.borrow("m", "a")
            except NotFound:
                continue
            give_back()

    def change() -> None:
        for turn in range(100):
            gone.append(bank.remove("m", "a"))
            bank.add("m", adapter("a", str(turn % 10)))

    threads = [threading.Thread(target=work) for work in (use, use, change)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(future.done() for future in gone)
    assert bank.num_bytes == NUM_BYTES


def test_no_name_is_another_s_identity() -> None:
    for name in ("", "a\0" + "1" * 24, "a\n"):
        with pytest.raises(InputError, match="Choose another"):
            adapter(name, "2")


def test_limits_are_positive() -> None:
    for name in ("max_adapters", "max_rank", "max_bytes"):
        with pytest.raises(InputError, match=f"{name} of adapters is 0"):
            bank_of(**{name: 0})
