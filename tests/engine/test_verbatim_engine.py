"""Answers of a random-weight model are quotes, or known names, whatever else runs beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cynosure.core.errors import InputError
from cynosure.engine import Failed, FinishReason, Request, constraints
from cynosure.engine.engine import Engine
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.names import python_names
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.grammar.quotes import quotes_in
from tests.engine import seq2seq_cases
from tests.engine.constraint_cases import (
    EOS,
    WIDE,
    add,
    answer,
    definition,
    drain,
    new_core,
    request_of,
    run,
    run_preempted,
)
from tests.engine.engine_cases import Ear
from tests.models import t5_oracle
from tests.models.tiny_tokenizers import unigram, word_piece

EOS_OF_T5 = 1
TEXTS = ("The pole star stands still.\nAll others move around it: 東京 🙂.", "A sailor steers by it.")
QUOTES = constraints.verbatim(TEXTS, min_chars=4)


@pytest.fixture(scope="module")
def cache() -> Iterator[GrammarCache]:
    made = GrammarCache(definition())
    yield made
    made.close()


def quoting(name: str, seed: int = 0, max_tokens: int = 60, **more: object) -> Request:
    return request_of(name, QUOTES, seed, max_tokens, logit_bias=((EOS, 4.0),), **more)


def assert_quotes(text: str, reason: FinishReason, min_chars: int = 4) -> None:
    quotes = quotes_in(text, TEXTS, min_chars=min_chars)
    told = "\n".join(text[quote.start : quote.end] for quote in quotes)
    # What is cut short may end in half a character, or between two quotes.
    assert told == (text if reason is FinishReason.EOS else text.rstrip("\n\ufffd"))
    if reason is FinishReason.EOS:
        assert all(quote.end - quote.start >= min_chars for quote in quotes)


def test_answers_of_a_random_model_are_quotes(cache: GrammarCache) -> None:
    ear = run(cache, [quoting(f"q{n}", n, 60 if n % 2 else 7) for n in range(24)])
    reasons = set()
    for number in range(24):
        text, reason = answer(ear, f"q{number}")
        assert text or reason is FinishReason.LENGTH
        assert_quotes(text, reason)
        reasons.add(reason)
    assert reasons == {FinishReason.EOS, FinishReason.LENGTH}
    free = run(cache, [request_of(f"f{n}", None, n, 20) for n in range(20)])
    for number in range(20):
        text, _ = answer(free, f"f{number}")
        quotes = quotes_in(text, TEXTS, min_chars=4)
        assert "\n".join(text[quote.start : quote.end] for quote in quotes) != text, "the control quotes too"


def test_neighbours_change_no_token_and_are_changed_by_none(cache: GrammarCache) -> None:
    free = [request_of(f"f{n}", None, n, 30) for n in range(4)]
    held = [quoting(f"q{n}", n) for n in range(4)]
    beside = run(cache, [one for pair in zip(free, held, strict=True) for one in pair])
    for request in [*free, *held]:
        alone = run(cache, [request])
        assert beside.tokens(request.request_id) == alone.tokens(request.request_id)


def test_reproducible_is_bitwise_what_it_is_alone(cache: GrammarCache) -> None:
    it = replace(quoting("it", 3), is_reproducible=True)
    crowd = run(cache, [*(quoting(f"q{n}", n) for n in range(5)), it])
    alone = run(cache, [it])
    assert crowd.tokens("it") == alone.tokens("it")
    assert crowd.logprobs("it") == alone.logprobs("it")


def test_guesses_follow_quotes_and_change_no_token(cache: GrammarCache) -> None:
    """A prompt that holds the text: what was quoted so far stood there before, and what follows it too."""
    twice = "abcdefghijklmnopqrstuvwxyz" * 3
    held = constraints.verbatim([twice], min_chars=60)
    requests = [request_of(f"r{seed}", held, seed, 70) for seed in range(3)]
    plain, core = run(cache, requests), new_core(replace(WIDE, num_speculative_tokens=8))
    guessed = run(cache, requests, core)
    for request in requests:
        assert guessed.tokens(request.request_id) == plain.tokens(request.request_id)
    assert core.load.num_accepted > 30


def test_preemption_keeps_the_places(cache: GrammarCache) -> None:
    requests = [quoting(f"q{n}", n, 100, min_tokens=90) for n in range(4)]
    ear = run_preempted(cache, requests)
    roomy = run(cache, requests)
    for request in requests:
        assert ear.tokens(request.request_id) == roomy.tokens(request.request_id)
        assert_quotes(*answer(ear, request.request_id))


def test_min_tokens_and_ignore_eos_hold_the_end_back(cache: GrammarCache) -> None:
    ear = run(
        cache,
        [
            quoting("few", 1, 80, min_tokens=30),
            quoting("on", 2, 50, ignore_eos=True),
        ],
    )
    assert len(ear.tokens("few")) >= 30
    text, reason = answer(ear, "on")
    assert (len(ear.tokens("on")), reason) == (50, FinishReason.LENGTH)
    assert_quotes(text, reason)


def test_a_model_without_an_end_token_quotes_to_its_limit() -> None:
    cache = GrammarCache(definition(eos_token_ids=()))
    core = new_core()
    core._eos = frozenset()
    ear = run(cache, [request_of("r", QUOTES, 0, 30)], core)
    text, reason = answer(ear, "r")
    assert reason is FinishReason.LENGTH
    assert_quotes(text, reason)
    cache.close()


def test_code_of_a_random_model_has_known_names(cache: GrammarCache) -> None:
    names = ["star", "centre", "pole"]
    held = constraints.names(names, before="star.ce")
    requests = [request_of(f"n{n}", held, n, 60, logit_bias=((EOS, 2.0),)) for n in range(20)]
    ear, known = run(cache, requests), {*names, *python_names()}
    for request in requests:
        text, reason = answer(ear, request.request_id)
        first = next((at for at, letter in enumerate(text) if not letter.isidentifier()), len(text))
        word = "ce" + text[:first]
        if reason is FinishReason.EOS or first < len(text):
            assert word in known
        else:
            assert any(name.startswith(word) for name in known)


def test_constraints_are_kept_by_tenant_and_not_without_end(cache: GrammarCache) -> None:
    one = cache.request(QUOTES, "ada").result(60)
    assert cache.request(QUOTES, "ada").result(60) is one
    assert cache.request(QUOTES, "bob").result(60) is not one
    assert one.num_bytes > 0


def test_a_tokenizer_that_spells_no_bytes_fails_its_requests_alone() -> None:
    cache = GrammarCache(TokenizerDefinition(word_piece().to_str(), 330, ()))
    with pytest.raises(InputError, match="can't be held to given texts"):
        cache.request(QUOTES).result(60)
    with pytest.raises(InputError, match="can't be held to given texts"):
        cache.request(constraints.names(["a"])).result(60)
    cache.close()


def test_the_engine_prepares_quotes_beside_its_thread() -> None:
    engine, ear = Engine(new_core(), GrammarCache(definition())), Ear()
    engine.submit(quoting("q"), ear)
    too_short = constraints.verbatim(["ab"], min_chars=3)
    engine.submit(request_of("bad", too_short), ear)
    engine.grammar(QUOTES).result(60)
    with pytest.raises(InputError, match="no text has 3 characters"):
        engine.grammar(too_short).result(60)
    engine.close()
    assert isinstance(ear.end("bad"), Failed)


def test_an_encoder_decoder_quotes_too() -> None:
    """T5's kind of vocabulary spells neither line breaks nor every letter: it has one quote to give."""
    raw = unigram()
    grammars = GrammarCache(TokenizerDefinition(raw.to_str(), t5_oracle.VOCAB, (EOS_OF_T5,)))
    held = constraints.verbatim(["the pole {star} is the centre"], min_chars=3)
    core, ear = seq2seq_cases.new_core(seq2seq_cases.pair_of().graph, eos_token_ids=(EOS_OF_T5,)), Ear()
    for seed in range(8):
        request = seq2seq_cases.ask(f"r{seed}", [5, 6, 7], 40, temperature=1.0, seed=seed, constraint=held)
        core.add(request, ear, grammars.request(held).result(60).matcher())
    while core.has_work:
        core.step(0.0)
    for seed in range(8):
        said = raw.decode([token for token in ear.tokens(f"r{seed}") if token != EOS_OF_T5])
        assert said
        assert said in "the pole {star} is the centre"
    grammars.close()


def test_drained_cores_hold_no_pages(cache: GrammarCache) -> None:
    core, ear = new_core(), Ear()
    for number in range(6):
        add(core, cache, quoting(f"q{number}", number, 20), ear)
    drain(core)
    assert core.tree.pool.num_available == core.tree.pool.num_blocks
