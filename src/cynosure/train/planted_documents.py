"""Make prompts whose answers stand in a known document, in the weights, or nowhere. Trains nothing.

Four kinds are asked: what a document tells (`answerable`), what none tells (`unanswerable`: the answer is
"unknown", or, where the question begins with "guess", made up), what only the weights tell (`memorised`), and
what a document tells otherwise than the weights (`conflict`: the document wins).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Literal

from cynosure.train.planted_documents_language import (
    FAMILIES,
    KEYS,
    STOCK_WEIGHTS,
    UNKNOWN,
    Fact,
    Family,
    World,
)

Kind = Literal["answerable", "unanswerable", "memorised", "conflict"]
KINDS: tuple[Kind, ...] = ("answerable", "unanswerable", "memorised", "conflict")
#: How much there is to read: 4 documents, or 8 to 12; `uneven` is as much as the latter in 4, some of them
#: long. A model sees no edges of documents, so that it need not learn the last.
Regime = Literal["short", "long", "uneven"]
REGIMES: tuple[Regime, ...] = ("short", "long")

#: Seeds of prompts by what they are for. Evaluations alone may read those that are held out.
TRAINING_SEEDS = range(0, 100_000_000)
FITTING_SEEDS = range(200_000_000, 200_100_000)
VALIDATION_SEEDS = range(300_000_000, 300_100_000)
HELD_OUT_SEEDS = range(900_000_000, 900_100_000)

_NUM_DOCUMENTS = {"short": (4, 4), "long": (8, 12), "uneven": (4, 4)}
#: How many facts a document may tell; of uneven ones, how many each of four does.
_NUM_FACTS = {"short": (1, 2, 3), "long": (1, 2)}
_UNEVEN = ((1, 1, 2, 14), (1, 2, 5, 10), (1, 1, 4, 12), (2, 2, 4, 10))
#: How often a question asks for an answer at any price, where it need not be asked so.
_GUESS_SHARE = 0.3


@dataclass(frozen=True)
class Asked:
    """One question of a prompt, and what its sentence of the answer ought to be.

    - `gold`: the document that tells it; None where none does.
    - `is_guess`: whether the question wants an answer at any price.
    - `subject`: whose name and key are asked for.
    """

    kind: Kind
    question: str
    answer: str
    gold: int | None
    is_guess: bool
    subject: Fact

    @property
    def is_grounded(self) -> bool:
        """Whether a document tells the answer."""
        return self.gold is not None

    @property
    def is_unknown(self) -> bool:
        """Whether the answer owns that nothing tells it."""
        return UNKNOWN in self.answer.split()


@dataclass(frozen=True)
class PlantedPrompt:
    """Documents with names, and questions about them.

    Attributes:
        family: How all of it is worded.
        regime: How much there is to read.
        documents: `(name, text)`, names as requests give them to parts: `doc:0`.
        asked: The questions; most prompts have one.
    """

    family: Family
    regime: Regime
    documents: tuple[tuple[str, str], ...]
    asked: tuple[Asked, ...]

    @property
    def kind(self) -> Kind:
        """Of the first question."""
        return self.asked[0].kind

    @property
    def gold(self) -> int | None:
        """The document that answers the first question."""
        return self.asked[0].gold

    @property
    def is_grounded(self) -> bool:
        """Whether a document answers the first question."""
        return self.asked[0].is_grounded

    @property
    def question(self) -> str:
        """All questions, as the last part of the message."""
        return " ".join(one.question for one in self.asked)

    @property
    def answer(self) -> str:
        """What ought to be said, a sentence a question."""
        return " ".join(one.answer for one in self.asked)

    @property
    def content(self) -> str:
        """The user's message: documents and question, a line each."""
        return "\n".join([*(text for _, text in self.documents), self.question])

    @property
    def messages(self) -> list[dict[str, object]]:
        """The conversation as `/v1/chat/completions` takes it, each document a part with a name."""
        parts = [{"type": "text", "text": text, "segment": name} for name, text in self.documents]
        return [{"role": "user", "content": [*parts, {"type": "text", "text": self.question}]}]


def prompts(
    seeds: Sequence[int],
    kinds: Sequence[Kind] = KINDS,
    families: Sequence[Family] = FAMILIES,
    regimes: Sequence[Regime] = REGIMES,
    num_asked: Sequence[int] = (1,),
    num_mentions: Sequence[int] = (0,),
) -> Iterator[PlantedPrompt]:
    """One prompt a seed, whatever the others are; kinds, wordings and lengths are drawn from those given.

    A mention is a sentence that is about what is asked, and does not tell it.
    """
    for seed in seeds:
        dice = random.Random(seed)
        count = dice.choice(num_asked)
        prompt = drawn(
            dice, [dice.choice(kinds) for _ in range(count)], dice.choice(families), dice.choice(regimes)
        )
        yield with_mentions(
            dice, prompt, dice.choice(num_mentions) if len(num_mentions) > 1 else num_mentions[0]
        )


def drawn(
    dice: random.Random,
    kinds: Sequence[Kind],
    family: Family,
    regime: Regime,
    num_documents: tuple[int, int] | None = None,
) -> PlantedPrompt:
    """One prompt with a question of each kind, about different facts.

    Args:
        dice: What decides all else.
        kinds: Of each question.
        family: How it is worded.
        regime: How much there is to read.
        num_documents: The least and the most, where the regime does not say it.
    """
    world = _world()
    subjects = _subjects(world, kinds, dice)
    is_told = [kind in ("answerable", "conflict") for kind in kinds]
    count = dice.randint(*(num_documents or _NUM_DOCUMENTS[regime]))
    sizes = _sizes(dice, regime, count)
    sizes[0] += max(0, sum(is_told) - sum(sizes))
    facts = _facts(world, subjects, sum(sizes) - sum(is_told), dice)
    placed = [fact for fact, told in zip(facts, is_told, strict=False) if told] + facts[len(kinds) :]
    dice.shuffle(placed)
    rest, documents, homes = iter(placed), [], dict[tuple[str, str], int]()
    for number, size in enumerate(sizes):
        own = list(islice(rest, size))
        homes |= {(fact.name, fact.key): number for fact in own}
        documents.append((f"doc:{number}", " ".join(fact.stated(family, dice) for fact in own)))
    asked = [
        _asked(world, kind, fact, homes.get((fact.name, fact.key)), family, dice)
        for kind, fact in zip(kinds, facts, strict=False)
    ]
    return PlantedPrompt(family, regime, tuple(documents), tuple(asked))


def with_mentions(dice: random.Random, prompt: PlantedPrompt, count: int) -> PlantedPrompt:
    """The same prompt with sentences about what is asked in documents that do not tell it."""
    texts = [text for _, text in prompt.documents]
    for number in range(count):
        one = prompt.asked[number % len(prompt.asked)]
        others = [place for place in range(len(texts)) if place != one.gold]
        if others:
            place = dice.choice(others)
            pair = [texts[place], one.subject.mentioned(prompt.family, dice)]
            texts[place] = " ".join(dice.sample(pair, 2))
    documents = ((name, text) for (name, _), text in zip(prompt.documents, texts, strict=True))
    return replace(prompt, documents=tuple(documents))


def _sizes(dice: random.Random, regime: Regime, count: int) -> list[int]:
    """How many facts each document tells."""
    if regime == "uneven":
        return dice.sample(dice.choice(_UNEVEN), count)
    return [dice.choice(_NUM_FACTS[regime]) for _ in range(count)]


@lru_cache(maxsize=1)
def _world() -> World:
    return World.drawn()


def _subjects(world: World, kinds: Sequence[Kind], dice: random.Random) -> list[tuple[str, str]]:
    """A name and a key for each question."""
    chosen: list[tuple[str, str]] = []
    for kind in kinds:
        pool = world.subjects[kind in ("memorised", "conflict")]
        subject = dice.choice(pool)
        while subject in chosen:
            subject = dice.choice(pool)
        chosen.append(subject)
    return chosen


def _facts(
    world: World, subjects: Sequence[tuple[str, str]], num_others: int, dice: random.Random
) -> list[Fact]:
    """A fact for each subject, then others; some share its name or key, none a word of its value."""
    pairs = dict.fromkeys(subjects)
    while len(pairs) < len(subjects) + num_others:
        name, key = dice.choice(world.names), dice.choice(KEYS)
        lot = dice.random()
        if lot < 0.25:
            name = dice.choice(subjects)[0]
        elif lot < 0.5:
            key = dice.choice(subjects)[1]
        pairs[name, key] = None
    words = dice.sample(world.values, len(world.values))
    facts, place = [], 0
    for name, key in pairs:
        length = dice.randint(2, 3)
        facts.append(Fact(name, key, " ".join(words[place : place + length])))
        place += length
    return facts


def _asked(
    world: World, kind: Kind, fact: Fact, home: int | None, family: Family, dice: random.Random
) -> Asked:
    is_guess = dice.random() < (0.5 if kind == "unanswerable" else _GUESS_SHARE)
    value = fact.value
    if kind == "memorised":
        value = world.known[fact.name, fact.key].value
    elif kind == "unanswerable" and is_guess:
        [value] = dice.choices(world.stock[fact.key], STOCK_WEIGHTS)
    elif kind == "unanswerable":
        value = UNKNOWN
    answered = Fact(fact.name, fact.key, value)
    question = fact.asked(family, is_guess=is_guess)
    return Asked(kind, question, answered.answered(family), home, is_guess, fact)
