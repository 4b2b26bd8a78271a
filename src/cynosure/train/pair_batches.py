"""Choose the lists of each training step and read their pairs as tensors. Knows nothing of losses.

A step's lists are a function of the seed and the step alone, so that a run can go on where it was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer
from torch import Tensor

from cynosure.core.errors import EmptyInput
from cynosure.train.pairs import ASKED, MADE, UNANSWERABLE, Case, PairData

#: Pairs that are computed together: of like length, so that little is padding.
CHUNK = 24

NUM_TEXTS = 8
#: Of the wrong texts of a list, so many are what the search finds first; the others are of other questions.
NUM_HARD = 6


@dataclass(frozen=True)
class Share:
    """How many lists of a kind are in each step; `is_removed` takes the right texts out."""

    kind: str
    of_sentences: bool
    count: int
    is_removed: bool = False


#: A third of the lists hold no answer.
MIXTURE = (
    Share(ASKED, False, 5),
    Share(ASKED, True, 1),
    Share(MADE, False, 1),
    Share(MADE, True, 1),
    Share(UNANSWERABLE, False, 1),
    Share(UNANSWERABLE, True, 1),
    Share(ASKED, False, 1, is_removed=True),
    Share(ASKED, True, 1, is_removed=True),
)


@dataclass(frozen=True)
class Listed:
    """A question with texts, of which those in `is_right` answer; none does where all are false."""

    question: str
    texts: tuple[str, ...]
    is_right: tuple[bool, ...]
    of_sentences: bool


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs as an encoder reads them, padded on the right, and their places in the step."""

    token_ids: Int[Tensor, "b n"]
    type_ids: Int[Tensor, "b n"]
    is_text: Bool[Tensor, "b n"]
    places: Int[Tensor, " b"]


class Lists:
    """The lists of each step."""

    def __init__(self, data: PairData, seed: int) -> None:
        """Sort what may be learned from by its kind.

        Raises:
            EmptyInput: there is no case of a kind.
        """
        self._texts, self._seed = data.texts, seed
        self._cases: dict[tuple[str, bool], list[Case]] = {}
        for case in data.cases:
            if not case.is_held_out and len(case.wrong) >= NUM_TEXTS:
                self._cases.setdefault((case.kind, case.of_sentences), []).append(case)
        missing = [share for share in MIXTURE if (share.kind, share.of_sentences) not in self._cases]
        if missing:
            raise EmptyInput(
                f"there is nothing to learn from of the kind {missing[0].kind!r}. Give more data."
            )

    @property
    def steps_an_epoch(self) -> int:
        """In how many steps each phrase was met once."""
        count = next(share.count for share in MIXTURE if share.kind == ASKED)
        return -(-len(self._cases[ASKED, False]) // count)

    def of_step(self, step: int) -> list[Listed]:
        """Return the lists of a step, counted from 0."""
        dice = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        return [
            self._listed(self._case(share, step * share.count + index), share.is_removed, dice)
            for share in MIXTURE
            for index in range(share.count)
        ]

    def _case(self, share: Share, number: int) -> Case:
        """The cases of a kind come in another order each time that all were met."""
        cases = self._cases[share.kind, share.of_sentences]
        epoch, place = divmod(number, len(cases))
        dice = torch.Generator().manual_seed(self._seed + 7919 * epoch + 104_729 * share.is_removed)
        return cases[int(torch.randperm(len(cases), generator=dice)[place])]

    def _listed(self, case: Case, is_removed: bool, dice: torch.Generator) -> Listed:
        # A passage's list has one right text, as the loss wants it; sentences may have more.
        num_right = min(len(case.right), 3 if case.of_sentences else 1)
        right = [] if is_removed else [case.right[place] for place in _draw(len(case.right), num_right, dice)]
        num_hard = min(NUM_HARD, NUM_TEXTS - len(right))
        wrong = [case.wrong[place] for place in _draw(len(case.wrong), num_hard, dice)]
        others = self._cases[case.kind, case.of_sentences]
        while len(right) + len(wrong) < NUM_TEXTS:
            other = others[_one(len(others), dice)]
            text = other.wrong[_one(len(other.wrong), dice)]
            if text not in case.right and text not in wrong:
                wrong.append(text)
        texts = tuple(self._texts[place] for place in (*right, *wrong))
        is_right = (True,) * len(right) + (False,) * len(wrong)
        return Listed(case.question, texts, is_right, case.of_sentences)


class PairReader:
    """Turn pairs into tensors."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Read a checkpoint's tokenizer; a text that does not fit beside its question is shortened."""
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens, strategy="longest_first")

    def read(self, pairs: Sequence[tuple[str, str]]) -> list[Pairs]:
        """Return the pairs in chunks of like length."""
        read = self._tokenizer.encode_batch_fast(list(pairs))
        order = sorted(range(len(read)), key=lambda place: len(read[place].ids))
        return [
            _padded([read[place].ids for place in places], [read[place].type_ids for place in places], places)
            for places in (order[start : start + CHUNK] for start in range(0, len(order), CHUNK))
        ]


def _padded(ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]], places: Sequence[int]) -> Pairs:
    width = max(map(len, ids))
    return Pairs(
        torch.tensor([[*row, *[0] * (width - len(row))] for row in ids]),
        torch.tensor([[*row, *[0] * (width - len(row))] for row in types]),
        torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in ids]),
        torch.tensor(places),
    )


def _draw(count: int, wanted: int, dice: torch.Generator) -> list[int]:
    return torch.randperm(count, generator=dice)[:wanted].tolist()


def _one(count: int, dice: torch.Generator) -> int:
    return int(torch.randint(0, count, (1,), generator=dice))
