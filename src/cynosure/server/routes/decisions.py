"""Serve `/v1/decisions`. Knows nothing of how likely anything is."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter, Depends, Request

from cynosure.core.errors import NotFound, UnknownOption
from cynosure.server.answers.deciding import Asked, Chances, by_classifier, by_decoder
from cynosure.server.routes.access import Ready, known_query, note_end_user
from cynosure.server.schemas.decisions import (
    ChoiceAnswer,
    ChoiceProbability,
    ChoiceQuestion,
    Decision,
    DecisionsRequest,
    LevelProbability,
    PredicateAnswer,
    Question,
    ScoreAnswer,
    ScoreQuestion,
)
from cynosure.server.schemas.responses import InputTokensDetails, OutputTokensDetails, ResponseUsage
from cynosure.server.services import Services

router = APIRouter(tags=["decisions"], dependencies=[Depends(known_query())])


@router.post("/v1/decisions")
async def create_decision(body: DecisionsRequest, request: Request, services: Ready) -> Decision:
    """Answer questions about one input, each by how likely its possible answers are."""
    note_end_user(request, body.end_user)
    questions = [_asked(question, f"questions[{at}]") for at, question in enumerate(body.questions)]
    found = await _found(body, services, questions)
    return Decision(
        model=body.model,
        answers=[_answer(question, chances) for question, chances in zip(body.questions, found, strict=True)],
        usage=_usage(found),
    )


async def _found(body: DecisionsRequest, services: Services, questions: Sequence[Asked]) -> list[Chances]:
    if body.model in services.completers:
        return await by_decoder(services.completers[body.model], body.turns, questions)
    if body.model in services.rankers:
        if not isinstance(body.input, str):
            raise UnknownOption(f"{body.model} reads a text and no messages. Send `input` as a string.")
        return await by_classifier(services.rankers[body.model], body.input, questions)
    known = ", ".join(sorted([*services.completers, *services.rankers])) or "none"
    raise NotFound(f"no model that decides is called {body.model[:100]!r}; here: {known}. Correct the name.")


def _asked(question: Question, path: str) -> Asked:
    if isinstance(question, ChoiceQuestion):
        options = tuple(_written(choice.value) for choice in question.choices)
        return Asked(path, question.text, options, tuple(choice.description for choice in question.choices))
    if isinstance(question, ScoreQuestion):
        options = tuple(level.label for level in question.levels)
        return Asked(path, question.text, options, tuple(level.description for level in question.levels))
    return Asked(path, question.text)


def _written(value: str | bool) -> str:
    return value if isinstance(value, str) else str(value).lower()


def _answer(question: Question, chances: Chances) -> PredicateAnswer | ChoiceAnswer | ScoreAnswer:
    of_answers = chances.of_answers
    best = max(range(len(of_answers)), key=lambda at: of_answers[at])
    if isinstance(question, ChoiceQuestion):
        listed = zip(question.choices, of_answers, strict=True)
        return ChoiceAnswer(
            name=question.name,
            choice=question.choices[best].value,
            confidence=of_answers[best],
            probabilities=[ChoiceProbability(value=one.value, probability=chance) for one, chance in listed],
            coverage=chances.coverage,
        )
    if isinstance(question, ScoreQuestion):
        return ScoreAnswer(
            name=question.name,
            score=sum(at * chance for at, chance in enumerate(of_answers)),
            confidence=of_answers[best],
            probabilities=[
                LevelProbability(label=level.label, value=at, probability=of_answers[at])
                for at, level in enumerate(question.levels)
            ],
            coverage=chances.coverage,
        )
    return PredicateAnswer(name=question.name, probability=of_answers[0], coverage=chances.coverage)


def _usage(found: Sequence[Chances]) -> ResponseUsage:
    """Tokens read: the input once for each possible answer, since each is read with it."""
    num_tokens = sum(chances.num_tokens for chances in found)
    return ResponseUsage(
        input_tokens=num_tokens,
        input_tokens_details=InputTokensDetails(cached_tokens=sum(chances.num_cached for chances in found)),
        output_tokens=0,
        output_tokens_details=OutputTokensDetails(),
        total_tokens=num_tokens,
    )
