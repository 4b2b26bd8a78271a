"""Shape `/v1/decisions`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from cynosure.models.chat.prompt import CallerText, Message
from cynosure.server.schemas.chat import MAX_PARTS
from cynosure.server.schemas.end_user import EndUserFields
from cynosure.server.schemas.response_input import InputItems, InputText, asked_turns
from cynosure.server.schemas.responses import ResponseUsage
from cynosure.server.schemas.wire import Text, WireRequest

MAX_QUESTIONS, MAX_CHOICES, MAX_LEVELS = 400, 255, 10

Name = Annotated[Text, Field(max_length=64)]
Word = Annotated[Text, Field(min_length=1, max_length=1000)]
Instructions = Word | Annotated[list[InputText], Field(min_length=1, max_length=MAX_PARTS)]


class _Question(WireRequest):
    """What every question has. A decoder needs instructions; what was trained for one question reads none."""

    name: Name | None = None
    instructions: Instructions | None = None

    @property
    def text(self) -> str | None:
        """The instructions in one piece."""
        if self.instructions is None or isinstance(self.instructions, str):
            return self.instructions
        return "\n".join(part.text for part in self.instructions)


class PredicateQuestion(_Question):
    """How likely a statement about the input is true."""

    type: Literal["predicate"]


class ChoiceParam(WireRequest):
    """One thing to choose; a text and a truth value that read alike are two things."""

    value: Word | bool
    description: Word | None = None


class ChoiceQuestion(_Question):
    """Which of several things fits the input."""

    type: Literal["choice"]
    choices: Annotated[list[ChoiceParam], Field(min_length=2, max_length=MAX_CHOICES)]

    @model_validator(mode="after")
    def _each_once(self) -> ChoiceQuestion:
        values = [(type(choice.value), choice.value) for choice in self.choices]
        if len(set(values)) < len(values):
            raise ValueError("a choice stands twice")
        return self


class LevelParam(WireRequest):
    """One step of a scale."""

    label: Word
    description: Word | None = None


class ScoreQuestion(_Question):
    """Where on a scale the input stands; the levels are in their order."""

    type: Literal["score"]
    levels: Annotated[list[LevelParam], Field(min_length=2, max_length=MAX_LEVELS)]

    @model_validator(mode="after")
    def _each_once(self) -> ScoreQuestion:
        if len({level.label for level in self.levels}) < len(self.levels):
            raise ValueError("a level stands twice")
        return self


Question = Annotated[PredicateQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class DecisionsRequest(EndUserFields):
    """Questions over one input. Fields with one permitted value are known and not served otherwise."""

    model: Text
    input: Word | InputItems
    questions: Annotated[list[Question], Field(min_length=1, max_length=MAX_QUESTIONS)]
    prompt_cache_key: None = None
    prompt_cache_options: None = None

    @property
    def turns(self) -> list[Message]:
        """The input as turns."""
        if isinstance(self.input, str):
            return [Message("user", "input", (CallerText(self.input, "input"),))]
        return asked_turns(self.input, "input")


class PredicateAnswer(BaseModel):
    """The chance that the statement is true.

    `coverage`, ours, is how much of the model's own probability the possible answers had before they were
    made to sum to 1: where it is small, none of them is what the model would say.
    """

    type: Literal["predicate"] = "predicate"
    name: str | None
    probability: float
    coverage: float


class ChoiceProbability(BaseModel):
    """The chance of one thing."""

    value: str | bool
    probability: float


class ChoiceAnswer(BaseModel):
    """The likeliest thing, and the chance of each; `coverage` as for a predicate."""

    type: Literal["choice"] = "choice"
    name: str | None
    choice: str | bool
    confidence: float
    probabilities: list[ChoiceProbability]
    coverage: float


class LevelProbability(BaseModel):
    """The chance of one level; `value` counts from 0."""

    label: str
    value: int
    probability: float


class ScoreAnswer(BaseModel):
    """The mean of the levels' values by their chances; `confidence` is the largest of these."""

    type: Literal["score"] = "score"
    name: str | None
    score: float
    confidence: float
    probabilities: list[LevelProbability]
    coverage: float


class Decision(BaseModel):
    """Answers in the order of the questions."""

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | ScoreAnswer]
    usage: ResponseUsage
