"""Turn planted prompts into rows of tokens to learn from, and count right answers. Knows nothing of rates.

A row is a conversation: documents and a question, its answer, and then more questions about the same
documents, so that what is read once is asked for several times. To begin with, words are repeated, then facts
recited: a model learns to copy in a few hundred steps where most tokens are copies, and hardly ever where few
are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from cynosure.train.planted_checkpoint import ASSISTANT, CONTROL, END, USER
from cynosure.train.planted_documents import KINDS, Asked, Kind, PlantedPrompt, Regime, drawn, with_mentions
from cynosure.train.planted_documents_language import FAMILIES
from cynosure.train.tiny_decoder import TinyDecoder

#: What a token outside of answers counts, beside one of an answer.
_PROMPT_WEIGHT = 0.05
#: How often each kind is asked.
_KIND_WEIGHTS = (0.5, 0.2, 0.15, 0.15)
#: Until these shares of the steps words are repeated, facts recited, and questions asked about few documents.
_REPEATED, _RECITED, _SHORT = 0.2, 0.45, 0.6
#: Of the steps after the first, rows that go on repeating or reciting: what was learned is not to be lost.
_STILL = 0.25
#: How many words are repeated, and of how many documents facts are recited.
_NUM_REPEATED, _NUM_RECITED = (8, 40), (2, 4)
#: How many sentences speak of what is asked and do not tell it.
_NUM_MENTIONS = (0, 0, 1, 2, 4, 6)

#: Tokens, and what each counts as the next one.
Row = tuple[list[int], list[float]]


class RowMaker:
    """Makes rows; the words of a text are looked up one by one, as the tokenizer does."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take the words of a tokenizer."""
        self._ids = tokenizer.get_vocab()
        self._end = self._ids[END]
        self._words = sorted(self._ids.keys() - set(CONTROL))

    def row(self, prompt: PlantedPrompt, later: Sequence[Asked] = ()) -> Row:
        """A prompt with its answer, then each later question and answer as a turn of its own."""
        return self._talk([(prompt.content, prompt.answer), *((one.question, one.answer) for one in later)])

    def repeated(self, dice: random.Random) -> Row:
        """Random words, and the same again."""
        words = " ".join(dice.choices(self._words, k=dice.randint(*_NUM_REPEATED)))
        return self._talk([(words, words)])

    def recited(self, dice: random.Random) -> Row:
        """Documents, and all that they tell in another order, worded as answers are."""
        kinds: list[Kind] = ["answerable"] * dice.randint(4, 8)
        prompt = drawn(dice, kinds, dice.choice(FAMILIES), "short", _NUM_RECITED)
        prompt = with_mentions(dice, prompt, dice.choice(_NUM_MENTIONS))
        documents = "\n".join(text for _, text in prompt.documents)
        return self._talk([(documents, prompt.answer)])

    def batch(
        self, seed: int, share: float, num_rows: int, num_asked: int
    ) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Rows of a step at a share of the run."""
        dice = random.Random(seed)
        regime: Regime = "short" if share < _SHORT or dice.random() < 0.6 else "long"
        return self.padded([self._drawn(dice, share, regime, num_asked) for _ in range(num_rows)])

    def _drawn(self, dice: random.Random, share: float, regime: Regime, num_asked: int) -> Row:
        is_still = dice.random() < _STILL
        if share < _REPEATED or (share < _RECITED and is_still):
            return self.repeated(dice)
        if share < _RECITED or is_still:
            return self.recited(dice)
        kinds = dice.choices(KINDS, _KIND_WEIGHTS, k=num_asked)
        whole = drawn(dice, kinds, dice.choice(FAMILIES), regime)
        num_first = 2 if dice.random() < 0.3 else 1
        whole = with_mentions(dice, whole, dice.choice(_NUM_MENTIONS))
        first = PlantedPrompt(whole.family, regime, whole.documents, whole.asked[:num_first])
        return self.row(first, whole.asked[num_first:])

    def padded(self, rows: Sequence[Row]) -> tuple[Int[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Rows side by side; what fills them up counts nothing."""
        longest = max(len(ids) for ids, _ in rows)
        ids = [one + [self._end] * (longest - len(one)) for one, _ in rows]
        weights = [one + [0.0] * (longest - len(one)) for _, one in rows]
        return torch.tensor(ids), torch.tensor(weights)

    def _talk(self, turns: Sequence[tuple[str, str]]) -> Row:
        """What is said and what is answered, in turn."""
        ids, weights = list[int](), list[float]()
        for said, answer in turns:
            given = self._of(f"{USER} {said} {ASSISTANT}")
            wanted = self._of(f"{answer} {END}")
            ids += [*given, *wanted]
            weights += [_PROMPT_WEIGHT] * len(given) + [1.0] * len(wanted)
        return ids, weights

    def _of(self, text: str) -> list[int]:
        return [self._ids[word] for word in text.split()]


def loss_of_rows(
    decoder: TinyDecoder, ids: Int[Tensor, "b n"], weights: Float[Tensor, "b n"]
) -> Float[Tensor, ""]:
    """The mean loss of a batch, in nats a token, each counted by its weight."""
    logits = decoder(ids[:, :-1]).float()
    losses = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    counted = weights[:, 1:].flatten()
    return (losses * counted).sum() / counted.sum()


@dataclass(frozen=True)
class Exactness:
    """Of so many answers, the share that is right to the last word."""

    num_prompts: int
    exact: float


@torch.inference_mode()
def exactness(decoder: TinyDecoder, maker: RowMaker, prompts: Sequence[PlantedPrompt]) -> Exactness:
    """Count answers whose every token is the likeliest: what greedy decoding would say."""
    num_exact = 0
    for start in range(0, len(prompts), 64):
        ids, weights = maker.padded([maker.row(prompt) for prompt in prompts[start : start + 64]])
        best = decoder(ids[:, :-1]).argmax(-1)
        is_right = (best == ids[:, 1:]) | (weights[:, 1:] < 1)
        num_exact += int(is_right.all(-1).sum())
    return Exactness(len(prompts), num_exact / max(1, len(prompts)))
