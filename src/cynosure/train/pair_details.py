"""Ask for the details of a documentation: its later sentences, in other words. Knows nothing of search.

Where only summaries were right, a ranker would learn to take the first sentence whatever is asked. Wrong are
the object's other sentences and its signature, then those of the objects beside it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from cynosure.retrieval import Entry
from cynosure.retrieval.text import identifier_words
from cynosure.train.pair_questions import MIN_WORDS, in_other_words, is_held_out, sentences
from cynosure.train.pairs import MADE, Case, TextTable

MAX_WORDS = 30
#: Sentences of one text that a question is chosen among, and wrong ones from the same text.
MIN_SENTENCES, MAX_OWN = 3, 6
#: Texts to each side from which the other wrong ones are.
NEAR = 6


def detail_cases(entries: Sequence[Entry], seed: int, wanted: int, table: TextTable) -> Iterator[Case]:
    """Yield a case for each of `wanted` texts that have details; none of what is held out."""
    free = [entry for entry in entries if not is_held_out(entry.name)]
    said = [_sentences(entry) for entry in free]
    rich = [place for place, found in enumerate(said) if len(found) >= MIN_SENTENCES]
    dice = random.Random(seed)
    for place in sorted(dice.sample(rich, min(wanted, len(rich)))):
        entry, found = free[place], said[place]
        details = [one for one in found[1:] if MIN_WORDS <= len(one.split()) <= MAX_WORDS]
        if not details:
            continue
        right = dice.choice(details)
        own = [one for one in found if one != right]
        own = [*dice.sample(own, min(MAX_OWN, len(own))), *_signature(entry)]
        near = range(max(0, place - NEAR), min(len(free), place + NEAR + 1))
        others = [
            _under(free[other], said[other][0])
            for other in near
            if free[other].name != entry.name and said[other]
        ]
        yield Case(
            kind=MADE,
            question=in_other_words(right, entry.name, dice),
            object=entry.name,
            right=(table.place(_under(entry, right)),),
            wrong=tuple(
                dict.fromkeys(table.place(text) for text in (*(_under(entry, one) for one in own), *others))
            ),
            of_sentences=True,
        )


def _sentences(entry: Entry) -> list[str]:
    found = [
        " ".join(entry.doc[start:end].split()) for start, end in sentences(entry.doc, (0, len(entry.doc)))
    ]
    return list(dict.fromkeys(found))


def _signature(entry: Entry) -> list[str]:
    return [f"{entry.name}{entry.signature}"] if entry.signature else []


def _under(entry: Entry, sentence: str) -> str:
    return f"{identifier_words(entry.name)}: {sentence}"
