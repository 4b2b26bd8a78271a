"""Tokens of answers are kept for one tenant and one model, and not without bounds. Knows no HTTP."""

from __future__ import annotations

import pytest

from cynosure.server.answers.generated_ids import GeneratedIds, GeneratedLimits, TenantAnswers


def put(answers: TenantAnswers, text: str, *token_ids: int) -> None:
    answers.put(answers.place(text), token_ids)


def ways(answers: TenantAnswers, text: str) -> list[tuple[int, tuple[int, ...]]]:
    return [(found.start, tuple(found.token_ids)) for found in answers.behind(text)]


def test_answers_are_found_behind_each_beginning_of_a_text() -> None:
    answers = GeneratedIds().of("t", "m")
    put(answers, "asked? ", 1, 2)
    put(answers, "asked? 🙂 more? ", 3)
    put(answers, "asked! ", 4)
    assert ways(answers, "asked? 🙂 more? yes") == [(7, (1, 2)), (15, (3,))]
    assert ways(answers, "asked? ") == [(7, (1, 2))]
    assert ways(answers, "asked?") == ways(answers, "") == []


def test_nobody_finds_what_another_was_answered() -> None:
    store = GeneratedIds()
    put(store.of("t", "m"), "asked? ", 1)
    assert ways(store.of("t", "m"), "asked? so") == [(7, (1,))]
    assert ways(store.of("u", "m"), "asked? so") == ways(store.of("t", "other"), "asked? so") == []


def test_names_and_texts_do_not_run_into_each_other() -> None:
    store = GeneratedIds()
    put(store.of("t", "ab"), "c", 1)
    assert ways(store.of("t", "a"), "bc") == ways(store.of("t", "abc"), "") == []
    assert ways(store.of("t", "ab"), "c") == [(1, (1,))]


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_what_was_used_longest_ago_goes(count: int) -> None:
    answers = GeneratedIds(GeneratedLimits(max_prompts=2)).of("t", "m")
    texts = ["a", "b", "c"][:count]
    for number, text in enumerate(texts):
        put(answers, text, number)
    assert [text for text in texts if ways(answers, text)] == texts[-2:]


def test_what_was_found_stays_longer() -> None:
    answers = GeneratedIds(GeneratedLimits(max_prompts=2)).of("t", "m")
    put(answers, "a", 1)
    put(answers, "b", 2)
    assert ways(answers, "a")
    put(answers, "c", 3)
    assert ways(answers, "a")
    assert not ways(answers, "b")


def test_tokens_are_counted() -> None:
    answers = GeneratedIds(GeneratedLimits(max_tokens=4)).of("t", "m")
    put(answers, "a", 1, 2, 3, 4, 5)
    assert not ways(answers, "a"), "longer than everything that may be kept"
    put(answers, "b", 1, 2)
    put(answers, "c", 1, 2)
    assert ways(answers, "b")
    put(answers, "d", 1)
    assert not ways(answers, "c")
    assert ways(answers, "b")
    assert ways(answers, "d")
    put(answers, "e")
    assert not ways(answers, "e"), "nothing was said"


def test_a_few_answers_to_one_text_are_kept_each_once() -> None:
    answers = GeneratedIds(GeneratedLimits(max_tokens=8)).of("t", "m")
    for token_id in [*range(12), 11]:
        put(answers, "a", token_id)
    assert ways(answers, "a") == [(1, (token_id,)) for token_id in range(4, 12)]
