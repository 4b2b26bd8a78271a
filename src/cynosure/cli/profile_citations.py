"""Fit citations to a model's own answers in a file. Knows nothing of what a fit computes."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cynosure.cli.profile_risk import spelled
from cynosure.core.errors import InputError, NotFound
from cynosure.insight import HeadProfile
from cynosure.insight.citing.attribution import AttributedAnswer
from cynosure.insight.citing.citation_fit import CitationFit, answer_to_learn_from, fit_citations
from cynosure.insight.citing.citation_weights import SECTION
from cynosure.insight.heads.head_kinds import Report
from cynosure.models.chat.format import ChatFormat
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel
from cynosure.models.probe import DecoderProbe
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.answers.attention import MAX_PARTS
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.answers.sentence_citations import citable
from cynosure.server.schemas.chat import ChatRequest

#: Fewer answers tell of their wording more than of the model's heads.
MIN_ANSWERS = 20


class OwnAnswer(BaseModel):
    """A line of the file.

    - `messages`, `documents`: as `/v1/chat/completions` takes them; a document may be a named part: `doc:1`.
    - `answer`: what the model itself said. No label is needed: it is seen what it says without a source.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    messages: list[dict[str, JsonValue]]
    documents: list[dict[str, JsonValue]] | None = None
    answer: str


def with_citations(
    profile: HeadProfile,
    model: LanguageModel,
    file: Path,
    report: Report,
    recipe: CitationFit | None = None,
) -> HeadProfile:
    """The profile of a decoder with the section `citations`, fitted to the answers of a file.

    Every other answer gives the weights, the others what a score means.

    Raises:
        NotFound: there is no such file.
        InputError: a line of it is not usable, there are too few, or the model does not converse.
    """
    tokenizer = model.tokenizer
    chat = None if tokenizer is None else ChatFormat.of(model.chat_template, tokenizer)
    if tokenizer is None or chat is None:
        raise InputError(
            f"{profile.name} has no chat template, which answers to learn from need. Leave --citations out."
        )
    assert isinstance(model.graph, Decoder), "others have no profile"
    answers = read_answers(file, tokenizer, chat)
    described = f"{len(answers)} answers of {file.name}"
    weights = fit_citations(DecoderProbe(model.graph), answers[::2], answers[1::2], described, recipe, report)
    return profile.with_section(SECTION, weights.as_json())


def read_answers(file: Path, tokenizer: Tokenizer, chat: ChatFormat) -> list[AttributedAnswer]:
    """The answers of a file, as ablations need them.

    Raises:
        NotFound: there is no such file.
        InputError: a line is no answer from documents, or there are too few.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as fault:
        raise NotFound(f"there is no file {file}. Name one with an answer a line.") from fault
    answers = []
    for number, line in enumerate(lines, 1):
        try:
            answers.append(_read(OwnAnswer.model_validate_json(line), tokenizer, chat))
        except ValidationError as fault:
            first = fault.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise InputError(f"{file}, line {number}: {where}: {first['msg']}. Correct it.") from fault
        except InputError as fault:
            raise InputError(f"{file}, line {number}: {fault}") from fault
    if len(answers) < MIN_ANSWERS:
        raise InputError(f"{file} has {len(answers)} answers; a fit needs {MIN_ANSWERS}. Give more.")
    return answers


def _read(own: OwnAnswer, tokenizer: Tokenizer, chat: ChatFormat) -> AttributedAnswer:
    asked = {"model": "m", "messages": own.messages, "documents": own.documents}
    body = ChatRequest.model_validate_json(json.dumps(asked))
    prompt = chat.prompt(body.turns)
    segments = citable(chat_segments(prompt, body.segment_names), MAX_PARTS)
    tokens = spelled(tokenizer, own.answer)
    answer = answer_to_learn_from(segments, prompt.token_ids, tokens, own.answer)
    if answer is None:
        raise InputError("the answer says nothing. Leave it out.")
    return answer
