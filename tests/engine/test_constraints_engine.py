"""Constrained answers of a random-weight model always fit, whatever else runs, and disturb nobody."""

from __future__ import annotations

import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Never

import jsonschema
import pytest

from cynosure.core.errors import EngineFault, InputError
from cynosure.engine import (
    Cancelled,
    Event,
    Failed,
    Finished,
    FinishReason,
    constraints,
)
from cynosure.engine.engine import Engine
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.grammar import Grammar, GrammarMatcher
from tests.engine.constraint_cases import (
    EOS,
    WIDE,
    add,
    answer,
    definition,
    drain,
    new_core,
    random_schema,
    request_of,
    run,
    run_preempted,
    speller,
    text_of,
)
from tests.engine.engine_cases import TERMINAL, Ear


@pytest.fixture(scope="module")
def cache() -> Iterator[GrammarCache]:
    made = GrammarCache(definition())
    yield made
    made.close()


def fits(schema: dict[str, object], text: str) -> bool:
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def test_answers_fit_random_schemas(cache: GrammarCache) -> None:
    dice = random.Random(11)
    schemas = {f"r{number}": random_schema(dice) for number in range(200)}
    assert len({json.dumps(schema) for schema in schemas.values()}) > 120
    requests = [
        request_of(name, constraints.json_schema(schema), seed)
        for seed, (name, schema) in enumerate(schemas.items())
    ]
    ear = run(cache, requests)
    reasons = Counter()
    for name, schema in schemas.items():
        text, reason = answer(ear, name)
        reasons[reason] += 1
        if reason is not FinishReason.LENGTH:
            assert fits(schema, text), f"{text!r} for {json.dumps(schema)}"
    assert reasons[FinishReason.COMPLETE] + reasons[FinishReason.EOS] >= 195, reasons
    free = run(cache, [request_of(f"f{number}", None, number, max_tokens=30) for number in range(20)])
    assert not any(fits(schemas[f"r{n}"], answer(free, f"f{n}")[0]) for n in range(20)), (
        "the control fits too"
    )


@pytest.mark.parametrize(
    "pattern",
    ["[a-f]{3}(-[0-9]{2}){1,3}", r"\d{4}-(0[1-9]|1[0-2])", "(é|東|🙂){2,5}", r"x[^\x00-\x7F]{1,3}y", "a{40}"],
)
def test_answers_match_a_regex_from_end_to_end(cache: GrammarCache, pattern: str) -> None:
    requests = [request_of(f"r{seed}", constraints.regex(pattern), seed) for seed in range(12)]
    ear = run(cache, requests)
    for request in requests:
        text, reason = answer(ear, request.request_id)
        assert reason in (FinishReason.COMPLETE, FinishReason.EOS)
        assert re.fullmatch(pattern, text), text


def test_answers_are_choices_and_every_choice_is_reached(cache: GrammarCache) -> None:
    options = ["yes", "yes, but", "no", '"maybe"\n']
    requests = [
        request_of(f"r{seed}", constraints.choice(options), seed, temperature=5.0) for seed in range(60)
    ]
    ear = run(cache, requests)
    assert {answer(ear, request.request_id)[0] for request in requests} == set(options)


def test_answers_are_derived_by_a_grammar(cache: GrammarCache) -> None:
    balanced = constraints.grammar('start: "(" start ")" | "[" start "]" | "x"')
    requests = [request_of(f"r{seed}", balanced, seed) for seed in range(12)]
    ear = run(cache, requests)
    lengths = set()
    for request in requests:
        text, _ = answer(ear, request.request_id)
        lengths.add(len(text))
        opened, closed = text.split("x")
        assert closed == opened[::-1].translate(str.maketrans("([", ")]"))
    assert len(lengths) > 2


def test_free_requests_beside_constrained_ones_get_the_same_bits(cache: GrammarCache) -> None:
    """Against neighbours of the same lengths that are free, so that only masks can differ."""
    dice = random.Random(4)
    free = [request_of(f"f{n}", None, n, 25) for n in range(6)]
    schemas = [constraints.json_schema(random_schema(dice)) for _ in range(6)]
    constrained = [request_of(f"c{n}", schema, n, 25) for n, schema in enumerate(schemas)]
    beside = run(cache, [item for pair in zip(free, constrained, strict=True) for item in pair])
    alone = run(cache, free)
    for request in free:
        assert beside.tokens(request.request_id) == alone.tokens(request.request_id)
    assert all(isinstance(beside.end(request.request_id), Finished) for request in constrained)


def test_reproducible_and_constrained_is_bitwise_what_it_is_alone(cache: GrammarCache) -> None:
    schema = constraints.json_schema({"type": "array", "items": {"enum": ["a", "bc"]}, "maxItems": 9})
    it = replace(request_of("it", schema, 3), is_reproducible=True)
    crowd = run(cache, [*(request_of(f"f{n}", None, n, 30) for n in range(5)), it])
    alone = run(cache, [it])
    assert crowd.tokens("it") == alone.tokens("it")
    assert crowd.logprobs("it") == alone.logprobs("it")


def test_preemption_keeps_the_place_in_the_grammar(cache: GrammarCache) -> None:
    schema = {"type": "array", "items": {"type": "integer", "minimum": 10, "maximum": 99}, "minItems": 12,
              "maxItems": 12}  # fmt: skip
    requests = [request_of(f"r{n}", constraints.json_schema(schema), n, 130) for n in range(4)]
    ear = run_preempted(cache, requests)
    for request in requests:
        text, reason = answer(ear, request.request_id)
        assert fits(schema, text) or reason is FinishReason.LENGTH
    roomy = run(cache, requests)
    assert [ear.tokens(item.request_id) for item in requests] == [
        roomy.tokens(item.request_id) for item in requests
    ]


def test_length_cuts_an_answer_short_and_says_so(cache: GrammarCache) -> None:
    ear = run(cache, [request_of("r", constraints.regex("[ab]{50}"), max_tokens=7)])
    text, reason = answer(ear, "r")
    assert reason is FinishReason.LENGTH
    assert re.fullmatch("[ab]{7,14}", text)


def test_an_answer_that_is_whole_with_its_last_token_is_complete(cache: GrammarCache) -> None:
    ear = run(cache, [request_of("r", constraints.regex("[ab]{6}"), max_tokens=6)])
    text, reason = answer(ear, "r")
    assert re.fullmatch("[ab]{6}", text)
    assert reason is FinishReason.COMPLETE


def test_min_tokens_holds_the_end_back_while_something_may_follow(cache: GrammarCache) -> None:
    star, few = constraints.regex("a*"), constraints.regex("a{3}")
    bias = ((EOS, 100.0),)
    ear = run(
        cache,
        [
            request_of("now", star, logit_bias=bias),
            request_of("later", star, logit_bias=bias, min_tokens=9),
            request_of("few", few, logit_bias=bias, min_tokens=9),
        ],
    )
    assert answer(ear, "now") == ("", FinishReason.EOS)
    assert answer(ear, "later") == ("a" * 9, FinishReason.EOS)
    assert answer(ear, "few") == ("a" * 3, FinishReason.COMPLETE)


def test_ignore_eos_goes_on_while_something_may_follow(cache: GrammarCache) -> None:
    bias = ((EOS, 100.0),)
    ear = run(
        cache,
        [
            request_of("on", constraints.regex("a*"), max_tokens=20, logit_bias=bias, ignore_eos=True),
            request_of("to", constraints.regex("a{0,5}"), logit_bias=bias, ignore_eos=True),
        ],
    )
    assert answer(ear, "on") == ("a" * 20, FinishReason.LENGTH)
    assert answer(ear, "to") == ("a" * 5, FinishReason.COMPLETE)


def test_a_stop_token_ends_a_constrained_answer_too(cache: GrammarCache) -> None:
    tokenizer = speller().tokenizer
    assert tokenizer is not None
    [comma] = tokenizer.encode(",").ids
    schema = constraints.json_schema({"const": [1, 2, 3]})
    ear = run(cache, [request_of("r", schema, stop_token_ids=(comma,))])
    text, reason = answer(ear, "r")
    assert reason is FinishReason.STOP
    assert re.fullmatch(r"\[\s*1\s*,", text)


def test_a_model_without_an_end_token_ends_where_nothing_may_follow() -> None:
    cache = GrammarCache(definition(eos_token_ids=()))
    core = new_core()
    core._eos = frozenset()
    ear = run(cache, [request_of("r", constraints.choice(["left", "right"]))], core)
    text, reason = answer(ear, "r")
    assert text in ("left", "right")
    assert reason is FinishReason.COMPLETE
    cache.close()


class Failing(GrammarMatcher):
    """Follows three tokens, then breaks."""

    def accept(self, token_id: int) -> None:
        if len(self._token_ids) == 3:
            raise InputError("the constraint can't be followed any further: too large. Make it simpler.")
        super().accept(token_id)


class Masked(GrammarMatcher):
    """Breaks at its first mask."""

    def allowed(self, vocab_size: int) -> Never:
        raise InputError("the constraint took 1 s for one token. Make it simpler.")


@pytest.mark.parametrize("broken", [Failing, Masked])
def test_a_matcher_that_breaks_fails_its_own_request_only(
    cache: GrammarCache, broken: type[GrammarMatcher]
) -> None:
    pattern = constraints.regex("[a-z]{8}")
    others = [request_of(f"c{n}", pattern, n) for n in range(3)]
    others += [request_of(f"f{n}", None, n, 20) for n in range(3)]
    core, ear = new_core(), Ear()
    for request in others[:3]:
        add(core, cache, request, ear)
    grammar = cache.request(pattern).result(60)
    assert isinstance(grammar, Grammar)
    core.add(request_of("bad", pattern), ear, broken(grammar))
    for request in others[3:]:
        add(core, cache, request, ear)
    drain(core)
    end = ear.end("bad")
    assert isinstance(end, Failed)
    assert isinstance(end.error, InputError)
    alone = run(cache, others)
    for request in others:
        assert ear.tokens(request.request_id) == alone.tokens(request.request_id)
    assert core.tree.pool.num_available == core.tree.pool.num_blocks


class Waiting(Ear):
    """Tells when a request has ended."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            super().__call__(event)
            self._changed.notify_all()

    def wait(self, name: str) -> None:
        with self._changed:
            done = lambda: any(isinstance(event, TERMINAL) for event in self.events[name])  # noqa: E731
            assert self._changed.wait_for(done, 60)


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(new_core(), GrammarCache(definition()))
    yield made
    made.close()


def test_the_engine_compiles_beside_its_thread(engine: Engine) -> None:
    ear = Waiting()
    hard = constraints.json_schema({"type": "integer", "multipleOf": 9_999_991})
    engine.submit(request_of("hard", hard), ear)
    engine.submit(request_of("bad", constraints.regex("(")), ear)
    engine.submit(request_of("free", None, max_tokens=10), ear)
    engine.submit(request_of("good", constraints.choice(["one", "two"])), ear)
    for name in ("bad", "free", "good"):
        ear.wait(name)
    assert not ear.events["hard"], "the others waited for what takes seconds to compile"
    assert isinstance(ear.end("bad"), Failed)
    assert text_of(ear.tokens("good")) in ("one", "two")
    engine.cancel("hard")
    ear.wait("hard")
    assert isinstance(ear.end("hard"), Cancelled)


def test_closing_fails_what_waits_for_its_grammar() -> None:
    engine, ear = Engine(new_core(), GrammarCache(definition())), Waiting()
    hard = constraints.json_schema({"type": "integer", "multipleOf": 9_999_991})
    engine.submit(request_of("hard", hard), ear)
    engine.close()
    ear.wait("hard")
    end = ear.end("hard")
    assert isinstance(end, Failed)
    assert isinstance(end.error, EngineFault)


def test_an_engine_without_a_tokenizer_refuses_constraints() -> None:
    engine = Engine(new_core())
    with pytest.raises(InputError, match="no tokenizer"):
        engine.submit(request_of("r", constraints.regex("a")), Ear())
    engine.close()


def test_guesses_follow_constraints_and_change_no_token(cache: GrammarCache) -> None:
    """An array of the same names again and again: what a constraint forces is guessed right."""
    item = {
        "type": "object",
        "properties": {"latitude": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["latitude"],
        "additionalProperties": False,
    }
    schema = {"type": "array", "items": item, "minItems": 6, "maxItems": 6}
    requests = [request_of(f"r{seed}", constraints.json_schema(schema), seed) for seed in range(3)]
    plain, core = run(cache, requests), new_core(replace(WIDE, num_speculative_tokens=8))
    guessed = run(cache, requests, core)
    for request in requests:
        name = request.request_id
        assert guessed.tokens(name) == plain.tokens(name)
        assert fits(schema, answer(guessed, name)[0])
    assert core.load.num_accepted > 30
