"""Make sequences on which it shows what a head does. Knows nothing of models.

They are of a model's own ordinary tokens, drawn at random, each at most once where nothing is to be repeated:
so they run on any decoder, and a head that finds its target found it by what the task is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cynosure.core.errors import InputError

#: No sequence is longer, and none draws more tokens.
MAX_TOKENS = 64

#: Tokens of a random text, of which the second half is looked at.
_TEXT = 48
#: What is still called near: a token itself and those just before it.
NEAR = 4
#: How long a stretch is that is said twice; it varies, so that no fixed distance leads to the target.
_SHORTEST, _LONGEST = 12, 31
#: Documents of a needle, and the tokens of name and content of each.
_DOCUMENTS, _NAME, _CONTENT = 4, 2, 3
_FEWEST_FILLERS, _MOST_FILLERS = 2, 5


@dataclass(frozen=True)
class Vocabulary:
    """Tokens that probes may be made of, and what the model expects before everything."""

    ordinary: tuple[int, ...]
    leading: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that there are enough.

        Raises:
            InputError: there are not.
        """
        if len(set(self.ordinary)) < MAX_TOKENS:
            raise InputError(
                f"the model has {len(set(self.ordinary))} ordinary tokens; probes need {MAX_TOKENS}. Choose "
                "a model with more."
            )


@dataclass(frozen=True)
class ProbeCase:
    """One sequence.

    - `rows`: tokens whose queries are looked at; `targets`: for each, the keys that the kind looks at.
    - `first`: the tokens from here on are foretold by what came before, and by nothing else.
    """

    token_ids: tuple[int, ...]
    rows: tuple[int, ...]
    targets: tuple[tuple[int, ...], ...]
    first: int


def sink_cases(vocabulary: Vocabulary, count: int, seed: int) -> tuple[ProbeCase, ...]:
    """Random texts; the target is the first token, which tells nothing."""
    return tuple(_placed(text, (0,), from_start=True) for text in _texts(vocabulary, count, seed))


def local_cases(vocabulary: Vocabulary, count: int, seed: int) -> tuple[ProbeCase, ...]:
    """Random texts; the targets are a token itself and the few before it."""
    near = tuple(range(-NEAR + 1, 1))
    return tuple(_placed(text, near, from_start=False) for text in _texts(vocabulary, count, seed))


def repeated_cases(vocabulary: Vocabulary, count: int, seed: int) -> tuple[ProbeCase, ...]:
    """Stretches said twice; the target is what followed the token the first time (arXiv 2209.11895)."""
    dice = np.random.default_rng((seed, 1))
    cases = []
    for _ in range(count):
        length = int(dice.integers(_SHORTEST, _LONGEST - len(vocabulary.leading) + 1))
        stretch = _drawn(vocabulary, length, dice)
        again = len(vocabulary.leading) + length
        rows = tuple(range(again, again + length - 1))
        targets = tuple((row - length + 1,) for row in rows)
        cases.append(ProbeCase((*vocabulary.leading, *stretch, *stretch), rows, targets, again + 1))
    return tuple(cases)


def needle_cases(vocabulary: Vocabulary, count: int, seed: int) -> tuple[ProbeCase, ...]:
    """Documents with a name and a content each, then a name; the target is its content (arXiv 2404.15574)."""
    dice = np.random.default_rng((seed, 2))
    return tuple(_needle(vocabulary, dice) for _ in range(count))


def copied_case(prompt: Sequence[int], answer: Sequence[int], start: int, end: int) -> ProbeCase | None:
    """A prompt, and an answer whose tokens `start:end` stand in it; the targets are wherever they do.

    Returns:
        None where they do not.
    """
    copied = list(answer[start:end])
    places = [
        place
        for place in range(len(prompt) - len(copied) + 1)
        if list(prompt[place : place + len(copied)]) == copied
    ]
    if not places or not copied:
        return None
    first = len(prompt) + start
    targets = tuple(tuple(place + at for place in places) for at in range(len(copied)))
    rows = tuple(range(first - 1, first - 1 + len(copied)))
    return ProbeCase((*prompt, *answer[:end]), rows, targets, first)


def _needle(vocabulary: Vocabulary, dice: np.random.Generator) -> ProbeCase:
    fillers = dice.integers(_FEWEST_FILLERS, _MOST_FILLERS + 1, _DOCUMENTS)
    unused = iter(_drawn(vocabulary, int(fillers.sum()) + _DOCUMENTS * (_NAME + _CONTENT), dice))
    token_ids = list(vocabulary.leading)
    names: list[tuple[int, ...]] = []
    for count in fillers:
        token_ids += (next(unused) for _ in range(count))
        names.append(tuple(range(len(token_ids), len(token_ids) + _NAME)))
        token_ids += (next(unused) for _ in range(_NAME + _CONTENT))
    place = names[int(dice.integers(_DOCUMENTS))][0]
    asked = len(token_ids)
    token_ids += token_ids[place : place + _NAME + _CONTENT]
    rows = tuple(range(asked + _NAME - 1, len(token_ids) - 1))
    targets = tuple((place + row + 1 - asked,) for row in rows)
    return ProbeCase(tuple(token_ids), rows, targets, asked + _NAME)


def _texts(vocabulary: Vocabulary, count: int, seed: int) -> Iterator[tuple[int, ...]]:
    dice = np.random.default_rng((seed, 0))
    for _ in range(count):
        yield (*vocabulary.leading, *_drawn(vocabulary, _TEXT, dice))


def _placed(text: tuple[int, ...], targets: tuple[int, ...], *, from_start: bool) -> ProbeCase:
    """Look at the second half of a text: `targets` count from its start, or from each row."""
    rows = tuple(range(len(text) // 2, len(text)))
    placed = (targets if from_start else tuple(row + target for target in targets) for row in rows)
    return ProbeCase(text, rows, tuple(placed), len(text) // 2 + 1)


def _drawn(vocabulary: Vocabulary, count: int, dice: np.random.Generator) -> Sequence[int]:
    return [int(one) for one in dice.choice(sorted(set(vocabulary.ordinary)), count, replace=False)]
