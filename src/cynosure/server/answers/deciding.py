"""Find how likely each of several answers to a question is. Knows no protocol.

A decoder is asked how likely it would write each answer: the product of the chances of its tokens after one
fixed prompt, whatever their number. The input is read once, each question behind it once, and each answer
behind that: whoever comes later finds the pages of what stands before. These are chances of different texts,
so that a long answer has less than a short one that says the same: answers of like length are compared best.
A classifier says it of its labels.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cynosure.core.errors import EngineFault, InputError, InputTooLong, UnknownOption
from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat import reasoning
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.server.answers.chat_turn import build_prompt
from cynosure.server.answers.ranking import values
from cynosure.server.services import CompletionModel, Generation, RankingModel, ScoreKind

#: Answers of all questions of one request.
MAX_ANSWERS = 1024
#: Answers of one request that are read at a time, so that it does not take all places.
_AT_A_TIME = 16
_YES, _NO = "Yes", "No"
_SWITCH = "enable_thinking"


@dataclass(frozen=True)
class Asked:
    """A question: what is asked, the possible answers, and what each means; no answers ask for yes or no."""

    path: str
    instructions: str | None
    options: tuple[str, ...] = ()
    descriptions: tuple[str | None, ...] = ()

    @property
    def is_predicate(self) -> bool:
        """Whether a statement is to be judged."""
        return not self.options

    @property
    def answers(self) -> tuple[str, ...]:
        """What the model may answer."""
        return self.options or (_YES, _NO)


@dataclass(frozen=True)
class Chances:
    """Of each answer, summing to 1; `coverage` is what they summed to before. A predicate's first is yes."""

    of_answers: tuple[float, ...]
    coverage: float
    num_tokens: int
    num_cached: int = 0


async def by_decoder(
    model: CompletionModel, turns: Sequence[Message], questions: Sequence[Asked]
) -> list[Chances]:
    """How likely a decoder is to write each answer.

    Raises:
        UnknownOption: a question has no instructions, or the model can't but think first.
        InputError: answers can't be told apart; the message says which.
        InputTooLong: there are too many answers, or the input is too long.
    """
    num_answers = sum(len(question.answers) for question in questions)
    if num_answers > MAX_ANSWERS:
        raise InputTooLong(
            f"the questions have {num_answers} possible answers; the limit is {MAX_ANSWERS} a request. Send "
            "fewer at a time."
        )
    readings = [await _readings(model, turns, question) for question in questions]
    reader = _Reader(model)
    await reader.read(readings[0][:1])
    await reader.read([some[0] for some in readings[1:]])
    await reader.read([one for some in readings for one in some[1:]])
    return [_chances([reader.found[one] for one in some]) for some in readings]


@dataclass(frozen=True)
class _Reading:
    """A prompt with one answer after it, which begins at token `start`."""

    token_ids: tuple[int, ...]
    start: int


@dataclass(frozen=True)
class _Read:
    logprob: float
    num_tokens: int
    num_cached: int


async def _readings(model: CompletionModel, turns: Sequence[Message], question: Asked) -> list[_Reading]:
    if question.instructions is None:
        raise UnknownOption(
            f"{question.path} has no instructions, and {model.name} answers no other question. Add them."
        )
    asked = _with_question(turns, question)
    if model.chat is None:
        readings = await _plain_readings(model, asked, question)
    else:
        variables: dict[str, object] = {_SWITCH: False} if model.chat.template.reads(_SWITCH) else {}
        prompt = await build_prompt(model, asked, variables=variables)
        if model.chat.has_reasoning and prompt.text.rstrip().endswith(reasoning.OPEN):
            raise UnknownOption(f"{model.name} always thinks before it answers. Take another model.")
        ids, tokenizer = prompt.token_ids, model.tokenizer
        answers = [tokenizer.encode(text, add_special_tokens=False).ids for text in question.answers]
        readings = [_Reading((*ids, *answer), len(ids)) for answer in answers]
    _check_apart(question, [reading.token_ids for reading in readings])
    return readings


async def _plain_readings(
    model: CompletionModel, turns: Sequence[Message], question: Asked
) -> list[_Reading]:
    """The same for a model that reads no messages; where a token spans the seam, it counts as answer."""
    prompt = "\n\n".join("\n".join(text.text for text in turn.texts) for turn in turns) + "\nAnswer:"
    whole = [tuple(model.encode(f"{prompt} {answer}")) for answer in question.answers]
    start = _num_common([tuple(model.encode(prompt)), *whole])
    return [_Reading(ids, start) for ids in whole]


def _num_common(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all begin with; at least the first, which has no chance of its own."""
    for at, tokens in enumerate(zip(*sequences, strict=False)):
        if len(set(tokens)) > 1:
            return max(1, at)
    return max(1, min(map(len, sequences)))


def _with_question(turns: Sequence[Message], question: Asked) -> list[Message]:
    """The question as the end of the last turn, or as a turn of its own after somebody else's."""
    lines = [CallerText(text, "") for text in _lines(question)]
    asked = (lines[0], CallerText(question.instructions or "", f"{question.path}.instructions"), *lines[1:])
    last = turns[-1]
    if last.role != "user":
        return [*turns, Message("user", question.path, asked)]
    return [*turns[:-1], Message(last.role, last.path, (*last.texts, *asked), name=last.name)]


def _lines(question: Asked) -> Iterable[str]:
    """What stands before the instructions, and after them."""
    if question.is_predicate:
        return ("\nIs this statement true of what is above?", f"Answer {_YES} or {_NO}, and nothing else.")
    described = zip(question.options, question.descriptions, strict=True)
    listed = [f"- {text}: {said}" if said else f"- {text}" for text, said in described]
    return ("\nA question about what is above:", "Answer with one of these, and nothing else:", *listed)


def _check_apart(question: Asked, sequences: Sequence[tuple[int, ...]]) -> None:
    """Chances add up only where no answer is the beginning of another."""
    order = sorted(range(len(sequences)), key=lambda at: sequences[at])
    for at, after in pairwise(order):
        if sequences[after][: len(sequences[at])] == sequences[at]:
            one, other = question.answers[at], question.answers[after]
            raise InputError(
                f"{question.path}: {other[:60]!r} begins with {one[:60]!r} to this model, so that their "
                "chances can't be told apart. Reword one."
            )


class _Reader:
    """Has a decoder read answers; they share what they have in common, though an engine may keep no pages."""

    def __init__(self, model: CompletionModel) -> None:
        self.found: dict[_Reading, _Read] = {}
        self._model = model
        self._group = uuid.uuid4().hex
        self._places = asyncio.Semaphore(_AT_A_TIME)

    async def read(self, readings: Iterable[_Reading]) -> None:
        """Have these read, beside each other; each is read once."""
        new = [one for one in dict.fromkeys(readings) if one not in self.found]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._read(one)) for one in new]
        except BaseExceptionGroup as failures:
            # The first ended the others.
            raise failures.exceptions[0] from None
        self.found |= {one: task.result() for one, task in zip(new, tasks, strict=True)}

    async def _read(self, reading: _Reading) -> _Read:
        sampling = SamplingParams(max_tokens=0, prompt_logprobs=0, prompt_logprobs_start=reading.start)
        asked = Generation(reading.token_ids, sampling, group=self._group)
        scored, num_cached = [], 0
        async with self._places, aclosing(self._model.complete(asked)) as tokens:
            async for token in (token async for together in tokens for token in together):
                scored += token.prompt_logprobs
                num_cached = max(num_cached, token.num_cached)
        logprob = math.fsum(one.token.logprob for one in scored)
        if len(scored) != len(reading.token_ids) - reading.start or math.isnan(logprob):
            raise EngineFault("the model did not say how likely an answer is. Send the request again.")
        return _Read(logprob, len(reading.token_ids), num_cached)


def _chances(reads: Sequence[_Read]) -> Chances:
    logprobs = np.array([one.logprob for one in reads], dtype=np.float64)
    total = float(np.logaddexp.reduce(logprobs))
    if total == -math.inf:
        raise EngineFault("the model holds every answer impossible. Report it with the questions.")
    return Chances(
        tuple(np.exp(logprobs - total).tolist()),
        min(1.0, math.exp(total)),
        sum(one.num_tokens for one in reads),
        sum(one.num_cached for one in reads),
    )


async def by_classifier(model: RankingModel, text: str, questions: Sequence[Asked]) -> list[Chances]:
    """What a classifier says of its labels, or a cross-encoder of how well a text fits the instructions.

    Raises:
        UnknownOption: the model was not trained for such a question; the message says for which.
        EmptyInput, InputTooLong: the text can't be read.
    """
    readings = [_reading_of(model, text, question) for question in questions]
    unique = list(dict.fromkeys(readings))
    found = await model.score(unique)
    rows = dict(zip(unique, values(model.kind, found), strict=True))
    counts = dict(zip(unique, found.token_counts, strict=True))
    chances = []
    for question, reading in zip(questions, readings, strict=True):
        of_answers, coverage = _of_labels(model, rows[reading].tolist(), question)
        # Questions that read the same are read once, and paid once.
        chances.append(Chances(of_answers, coverage, counts.pop(reading, 0)))
    return chances


def _reading_of(model: RankingModel, text: str, question: Asked) -> tuple[str, ...]:
    is_pair = len(model.labels) == 1
    if is_pair != (question.instructions is not None):
        raise UnknownOption(
            f"{question.path}: {model.name} "
            + (
                "reads a statement or query with the text. Put it into `instructions`."
                if is_pair
                else "was trained for one question and reads no instructions. Leave them out."
            )
        )
    if model.kind is ScoreKind.NUMBERS:
        raise UnknownOption(f"{question.path}: the numbers of {model.name} are no chances. Ask /v1/score.")
    return (question.instructions or "", text) if is_pair else (text,)


def _of_labels(model: RankingModel, row: Sequence[float], question: Asked) -> tuple[tuple[float, ...], float]:
    if question.is_predicate:
        if len(row) != 1:
            raise UnknownOption(
                f"{question.path}: {model.name} tells {len(row)} labels apart ({_listed(model)}). Ask a "
                "choice."
            )
        return (row[0], 1 - row[0]), 1.0
    if model.kind is not ScoreKind.SHARES:
        raise UnknownOption(
            f"{question.path}: labels of {model.name} do not exclude each other. Ask no choice."
        )
    by_label = dict(zip(model.labels, row, strict=True))
    for option in question.options:
        if option not in by_label:
            raise UnknownOption(
                f"{question.path}: {option[:60]!r} is no label of {model.name}; these are: {_listed(model)}. "
                "Take them."
            )
    shares = [by_label[option] for option in question.options]
    coverage = math.fsum(shares)
    if coverage == 0:
        raise EngineFault("the model holds every answer impossible. Report it with the questions.")
    return tuple(share / coverage for share in shares), min(1.0, coverage)


def _listed(model: RankingModel) -> str:
    return ", ".join(model.labels)[:200]
