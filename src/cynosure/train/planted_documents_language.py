"""Spell facts, questions and answers of a small made-up world. Knows nothing of prompts, seeds or models.

A fact is that the KEY of a NAME is a VALUE of two or three words. Names and keys repeat in every prompt, so
that only both together say which sentence answers a question. Everything is written in words apart from each
other.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

#: How facts, questions and answers are worded.
Family = Literal["plain", "record"]
FAMILIES: tuple[Family, ...] = ("plain", "record")

UNKNOWN = "unknown"
#: A question with this word in front gets an answer, whether there is one or not.
GUESS = "guess"

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu")
KEYS = ("age", "badge", "city", "color", "desk", "diet", "job", "mood", "pet", "rank", "song", "team")
NUM_NAMES, NUM_KNOWN, NUM_VALUES = 64, 16, 120
#: Facts that are in the weights: of each known name, so many keys.
NUM_KEYS_KNOWN = 3
#: What is made up for a key is one of these many values, the first most often.
STOCK_WEIGHTS = (0.55, 0.25, 0.12, 0.08)
#: Tables of the world are drawn from it; no prompt is.
WORLD_SEED = 20_250_711

_FUNCTION_WORDS = ("the", "of", "we", "note", "list", "what", "is", "tell", "?", ".", ":", UNKNOWN, GUESS)

#: How a document words a fact. The value comes right behind the name: what is one step back is found first.
_STATED: Mapping[Family, tuple[str, ...]] = {
    "plain": ("the {key} of {name} {value} .", "we note the {key} of {name} {value} ."),
    "record": ("{key} {name} {value} .", "list : {key} {name} {value} ."),
}
#: How a document speaks of a name and a key, and does not tell the value.
_MENTIONED: Mapping[Family, tuple[str, ...]] = {
    "plain": ("we tell {name} of the {key} .", "we note what is the {key} of {name} ?"),
    "record": ("list : {key} {name} ?", "tell {name} : {key} {name} ."),
}
_ASKED: Mapping[Family, str] = {"plain": "what is the {key} of {name} ?", "record": "tell {key} {name} ?"}
_ANSWERED: Mapping[Family, str] = {
    "plain": "the {key} of {name} {value} .",
    "record": "{key} {name} {value} .",
}


@dataclass(frozen=True)
class Fact:
    """What is told of a name."""

    name: str
    key: str
    value: str

    def stated(self, family: Family, dice: random.Random) -> str:
        """A sentence of a document."""
        return dice.choice(_STATED[family]).format(**vars(self))

    def mentioned(self, family: Family, dice: random.Random) -> str:
        """A sentence of a document that is about it, and does not tell it."""
        return dice.choice(_MENTIONED[family]).format(**vars(self))

    def asked(self, family: Family, *, is_guess: bool = False) -> str:
        """The question that it answers."""
        question = _ASKED[family].format(name=self.name, key=self.key)
        return f"{GUESS} {question}" if is_guess else question

    def answered(self, family: Family) -> str:
        """The sentence of an answer."""
        return _ANSWERED[family].format(**vars(self))


@dataclass(frozen=True)
class World:
    """What is the same in all prompts.

    - `names`: those that have facts in the weights first; `values`: words that values are made of.
    - `known`: the facts in the weights, by name and key; `stock`: values that are made up for a key.
    """

    names: tuple[str, ...]
    values: tuple[str, ...]
    known: Mapping[tuple[str, str], Fact]
    stock: Mapping[str, tuple[str, ...]]

    @classmethod
    def drawn(cls) -> World:
        """The only one there is."""
        dice = random.Random(WORLD_SEED)
        words = [first + second for first in _SYLLABLES for second in _SYLLABLES]
        dice.shuffle(words)
        names, values = tuple(words[:NUM_NAMES]), tuple(words[NUM_NAMES : NUM_NAMES + NUM_VALUES])
        known = {}
        for name in names[:NUM_KNOWN]:
            for key in dice.sample(KEYS, NUM_KEYS_KNOWN):
                known[name, key] = Fact(name, key, " ".join(dice.sample(values, dice.randint(2, 3))))
        stock = {key: tuple(" ".join(dice.sample(values, 2)) for _ in STOCK_WEIGHTS) for key in KEYS}
        return cls(names, values, known, stock)

    @cached_property
    def subjects(self) -> tuple[Sequence[tuple[str, str]], Sequence[tuple[str, str]]]:
        """Names with keys whose facts are not in the weights, and those whose facts are."""
        pairs = [(name, key) for name in self.names for key in KEYS]
        return [pair for pair in pairs if pair not in self.known], list(self.known)

    @property
    def words(self) -> tuple[str, ...]:
        """All words that are ever written."""
        return (*_FUNCTION_WORDS, *KEYS, *self.names, *self.values)
