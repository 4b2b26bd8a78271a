"""Planted prompts tell what they say they tell, and prompts of one purpose are never those of another."""

from __future__ import annotations

from itertools import combinations

import pytest

from cynosure.train.planted_documents import (
    FITTING_SEEDS,
    HELD_OUT_SEEDS,
    KINDS,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    Kind,
    PlantedPrompt,
    prompts,
)
from cynosure.train.planted_documents_language import GUESS, Fact, World


def some(kind: Kind, **chosen: object) -> list[PlantedPrompt]:
    return list(prompts(FITTING_SEEDS[:60], [kind], **chosen))  # type: ignore[arg-type]


def value_of(prompt: PlantedPrompt) -> str:
    """The value that the first answer names."""
    num_before = 4 if prompt.family == "plain" else 2
    return " ".join(prompt.asked[0].answer.removesuffix(" .").split()[num_before:])


def test_purposes_share_no_seed() -> None:
    ranges = [TRAINING_SEEDS, FITTING_SEEDS, VALIDATION_SEEDS, HELD_OUT_SEEDS]
    for one, other in combinations(ranges, 2):
        assert one.stop <= other.start or other.stop <= one.start


def test_a_seed_gives_its_prompt_whatever_is_asked_beside_it() -> None:
    seeds = FITTING_SEEDS[:5]
    assert list(prompts(seeds))[3] == next(prompts(seeds[3:4]))
    assert len(set(prompts(seeds))) == 5


@pytest.mark.parametrize("kind", ["answerable", "conflict"])
def test_the_gold_document_alone_tells_the_answer(kind: Kind) -> None:
    for prompt in some(kind):
        assert prompt.gold is not None
        holding = [place for place, (_, text) in enumerate(prompt.documents) if value_of(prompt) in text]
        assert holding == [prompt.gold]


def test_a_conflict_is_with_the_weights() -> None:
    known = {(fact.name, fact.key): fact.value for fact in World.drawn().known.values()}
    for prompt in some("conflict", families=["plain"]):
        _, key, _, name, *_ = prompt.asked[0].answer.split()
        assert known[name, key] != value_of(prompt)


@pytest.mark.parametrize("kind", ["unanswerable", "memorised"])
def test_nothing_tells_what_is_not_grounded(kind: Kind) -> None:
    for prompt in some(kind, families=["plain"]):
        assert prompt.gold is None
        assert not prompt.is_grounded
        _, key, _, name, *_ = prompt.asked[0].answer.split()
        assert not any(f"the {key} of {name}" in text for _, text in prompt.documents)


def test_what_nothing_tells_is_unknown_or_made_up() -> None:
    asked = [prompt.asked[0] for prompt in some("unanswerable")]
    assert all(one.is_unknown != one.is_guess for one in asked)
    assert {one.is_guess for one in asked} == {True, False}
    # The word gives nothing away: questions with an answer carry it too.
    assert any(prompt.question.startswith(GUESS) for prompt in some("answerable"))


def test_lengths_are_those_of_their_regime() -> None:
    short = {len(prompt.documents) for prompt in prompts(FITTING_SEEDS[:80], regimes=["short"])}
    long = {len(prompt.documents) for prompt in prompts(FITTING_SEEDS[:80], regimes=["long"])}
    assert short == {4}
    assert long == {8, 9, 10, 11, 12}
    longest = max(len(prompt.content.split()) for prompt in prompts(FITTING_SEEDS[:80], regimes=["long"]))
    assert longest <= 256


def test_several_questions_are_answered_in_their_order() -> None:
    for prompt in prompts(FITTING_SEEDS[:20], num_asked=[2]):
        first, second = prompt.asked
        assert prompt.question == f"{first.question} {second.question}"
        assert prompt.answer == f"{first.answer} {second.answer}"
        assert first.question != second.question


def test_messages_name_their_documents() -> None:
    prompt = next(prompts(FITTING_SEEDS[:1]))
    [message] = prompt.messages
    parts = message["content"]
    assert isinstance(parts, list)
    assert [part.get("segment") for part in parts] == [*(name for name, _ in prompt.documents), None]
    assert "\n".join(part["text"] for part in parts) == prompt.content


def test_words_stand_apart() -> None:
    words = set(World.drawn().words)
    for prompt in prompts(FITTING_SEEDS[:40]):
        assert set(f"{prompt.content} {prompt.answer}".split()) <= words


def test_a_fact_is_worded_in_several_ways() -> None:
    stated = {
        sentence.replace("  ", " ")
        for prompt in prompts(FITTING_SEEDS[:30], KINDS, families=["record"])
        for _, text in prompt.documents
        for sentence in text.split(" . ")
    }
    assert any(one.startswith("list : ") for one in stated)
    assert any(not one.startswith("list : ") for one in stated)
    assert Fact("ada", "age", "one two").answered("plain") == "the age of ada one two ."
