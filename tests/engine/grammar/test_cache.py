"""Compiling is bounded in time, memory and number, is done once, and is nobody else's business."""

from __future__ import annotations

import importlib
import random
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import pytest

from cynosure.core.errors import EngineFault, InputError, MissingPackage
from cynosure.engine import constraints
from cynosure.engine.constraints import Constraint
from cynosure.engine.grammar import cache as grammar_cache
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.grammar import Grammar
from cynosure.engine.grammar.process import GrammarLimits, GrammarProcess, TokenizerDefinition
from tests.engine.constraint_cases import definition
from tests.models.tiny_tokenizers import word_piece

#: No limit inside the compiler stops it within seconds: its automaton has a state a remainder.
PATHOLOGICAL = constraints.json_schema({"type": "integer", "multipleOf": 9_999_991})


@pytest.fixture
def cache() -> Iterator[GrammarCache]:
    made = GrammarCache(definition(), GrammarLimits(max_seconds=2.0))
    yield made
    made.close()


def got(cache: GrammarCache, constraint: Constraint, tenant: str = "") -> Grammar:
    return cache.request(constraint, tenant).result(60)


def test_what_does_not_end_is_stopped_and_the_next_one_compiles(cache: GrammarCache) -> None:
    got(cache, constraints.regex("a"))
    start = time.monotonic()
    with pytest.raises(InputError, match="the limits are 2 s and 512 MB"):
        got(cache, PATHOLOGICAL)
    assert time.monotonic() - start < 10
    assert got(cache, constraints.regex("b"))
    assert len(cache) == 2


def test_what_takes_too_much_memory_is_stopped() -> None:
    cache = GrammarCache(definition(), GrammarLimits(max_seconds=60.0, max_bytes=32 << 20))
    with pytest.raises(InputError, match="32 MB"):
        got(cache, PATHOLOGICAL)
    assert got(cache, constraints.regex("b"))
    cache.close()


def test_what_holds_too_much_memory_is_refused() -> None:
    cache = GrammarCache(definition(), GrammarLimits(max_kept_bytes=1 << 20))
    large = constraints.json_schema({"enum": [f"{number}" * 3 for number in range(4000)]})
    with pytest.raises(InputError, match="the limit is 1 MB"):
        got(cache, large)
    cache.close()


@pytest.mark.parametrize(
    ("constraint", "said"),
    [
        (constraints.json_schema({"anyOf": [{}, {"not": {}}]}), r'json_schema .*\["not"\] at #/anyOf/1\.'),
        (constraints.json_schema({"type": "string", "format": "zzz"}), "Unknown format: zzz"),
        (constraints.json_schema({"type": "integer", "minimum": 5, "maximum": 3}), "minimum"),
        (constraints.json_schema({"$ref": "http://127.0.0.1:1/x"}), "does not fetch"),
        (constraints.json_schema({"$ref": "#"}), "no text fits it"),
        (constraints.json_schema({"type": "strin"}), "strin"),
        (constraints.regex("a(b"), "regex does not compile(.|\n)*unclosed group"),
        (constraints.regex("(?=a)b"), "look-around"),
        (constraints.grammar('start: "a" foo'), r'at 1\(8\): unknown name: "foo"'),
        (constraints.grammar("start: " + "(" * 20_000 + '"a"' + ")" * 20_000), "nested"),
        (constraints.regex("(" * 20_000 + "a" + ")" * 20_000), "regex"),
    ],
)
def test_what_does_not_compile_says_where(cache: GrammarCache, constraint: Constraint, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        got(cache, constraint)
    assert len(str(caught.value)) < 500
    assert len(cache) == 0


def test_random_bytes_break_nothing(cache: GrammarCache) -> None:
    """Whatever is sent either compiles or is the sender's mistake, and the next one is served."""
    dice = random.Random(3)
    alphabet = 'ab(){}[]|*+?\\^$.,:"/<>%#@0123é🙂 \n' + "\x00" + "start:"
    num_refused = 0
    for _ in range(120):
        text = "".join(dice.choices(alphabet, k=dice.randrange(1, 30)))
        for constraint in (constraints.regex(text), constraints.grammar(f"start: {text}")):
            try:
                got(cache, constraint)
            except InputError:
                num_refused += 1
    assert 0 < num_refused < 240
    assert got(cache, constraints.regex("a"))


def test_the_latest_are_kept_up_to_a_bound(cache: GrammarCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_cache, "MAX_GRAMMARS", 3)
    first = got(cache, constraints.regex("a0"))
    for number in range(1, 3):
        got(cache, constraints.regex(f"a{number}"))
    assert got(cache, constraints.regex("a0")) is first
    got(cache, constraints.regex("a3"))
    assert len(cache) == 3
    assert got(cache, constraints.regex("a0")) is first


def test_no_more_than_so_many_bytes_are_kept(cache: GrammarCache, monkeypatch: pytest.MonkeyPatch) -> None:
    first = got(cache, constraints.regex("a"))
    monkeypatch.setattr(grammar_cache, "MAX_KEPT_BYTES", first.cost.num_bytes - 1)
    assert got(cache, constraints.regex("b"))
    assert first not in cache._kept.values()


def test_kinds_texts_and_tenants_are_kept_apart(cache: GrammarCache) -> None:
    mine = got(cache, constraints.regex("ab"), "me")
    assert got(cache, constraints.regex("ab"), "me") is mine
    assert got(cache, constraints.regex("ab"), "you") is not mine
    assert got(cache, constraints.choice(["ab"]), "me") is not mine
    assert len(cache) == 3


def slow_cost(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Constraint], threading.Event]:
    """Have every compilation wait for an event, and be counted."""
    compiled, may_go, right = [], threading.Event(), GrammarProcess.cost

    def cost(self: GrammarProcess, constraint: Constraint, native_text: str):  # noqa: ANN202
        compiled.append(constraint)
        assert may_go.wait(30)
        return right(self, constraint, native_text)

    monkeypatch.setattr(GrammarProcess, "cost", cost)
    return compiled, may_go


def test_who_asks_for_the_same_meanwhile_shares_the_work(
    cache: GrammarCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, may_go = slow_cost(monkeypatch)
    futures = [cache.request(constraints.regex("a")) for _ in range(20)]
    may_go.set()
    assert len({id(future.result(60)) for future in futures}) == 1
    assert len(compiled) == 1


def test_so_many_may_wait_and_no_more(cache: GrammarCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_cache, "MAX_WAITING", 4)
    _, may_go = slow_cost(monkeypatch)
    futures = [cache.request(constraints.regex(f"a{number}")) for number in range(4)]
    with pytest.raises(EngineFault, match="4 constraints wait"):
        cache.request(constraints.regex("one more"))
    may_go.set()
    assert all(future.result(60) for future in futures)
    assert got(cache, constraints.regex("one more"))


def test_closing_ends_what_waits_and_the_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = GrammarCache(definition())
    got(cache, constraints.regex("a"))
    children = [process._child._process for process in cache._processes if process._child is not None]
    waiting = [cache.request(PATHOLOGICAL, f"tenant {number}") for number in range(4)]
    start = time.monotonic()
    cache.close()
    assert time.monotonic() - start < 4
    assert children
    assert all(child.poll() is not None for child in children)
    assert all(future.cancelled() or future.exception() for future in waiting)


def test_a_tokenizer_that_can_not_be_constrained_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = GrammarCache(TokenizerDefinition(word_piece().to_str(), 200, ()))
    with pytest.raises(InputError, match="WordPiece"):
        got(cache, constraints.regex("a"))
    cache.close()


def test_without_the_package_the_remedy_is_named(
    cache: GrammarCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = importlib.import_module

    def absent(name: str) -> ModuleType:
        if name == "llguidance":
            raise ModuleNotFoundError(name)
        return right(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingPackage, match=r"cynosure\[constraints\]"):
        cache.request(constraints.regex("a"))
