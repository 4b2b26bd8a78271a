"""Fit the risk of sentences to labelled answers in a file. Knows nothing of what a fit computes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cynosure.core.errors import InputError, NotFound
from cynosure.insight import HeadProfile, PromptSegments, ReadToken
from cynosure.insight.heads.head_kinds import Report
from cynosure.insight.heads.profile_choice import KINDS
from cynosure.insight.judging.risk import RETRIEVAL, RISK, tokens_in
from cynosure.insight.judging.risk_fit import RiskExample, fit_risk
from cynosure.insight.probing import Head
from cynosure.insight.sentences import sentence_spans
from cynosure.models.chat.format import ChatFormat
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel
from cynosure.models.probe import DecoderProbe
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.schemas.chat import ChatRequest


class LabelledAnswer(BaseModel):
    """A line of the file.

    - `messages`, `documents`: as `/v1/chat/completions` takes them; documents may be parts that are named.
    - `answer`: the model's own; `grounded`: of each of its sentences, whether documents or tools told it. A
      sentence that claims nothing is null, and left out.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    messages: list[dict[str, JsonValue]]
    documents: list[dict[str, JsonValue]] | None = None
    answer: str
    grounded: list[bool | None]


def with_risk(profile: HeadProfile, model: LanguageModel, file: Path, report: Report) -> HeadProfile:
    """The profile of a decoder with the section `risk`, fitted to the answers of a file.

    Raises:
        NotFound: there is no such file.
        InputError: a line of it is not usable, there are too few sentences, or the model does not converse.
    """
    tokenizer = model.tokenizer
    chat = None if tokenizer is None else ChatFormat.of(model.chat_template, tokenizer)
    if tokenizer is None or chat is None:
        raise InputError(
            f"{profile.name} has no chat template, which labelled conversations need. Leave --risk out."
        )
    answers = read_answers(file)
    examples: list[RiskExample] = []
    for number, answer in enumerate(answers, 1):
        report("Reading labelled answers", number, len(answers))
        try:
            examples += _examples(answer, tokenizer, chat)
        except ValidationError as fault:
            raise InputError(f"{file}, line {number}: {_first(fault)}. Correct it.") from fault
        except InputError as fault:
            raise InputError(f"{file}, line {number}: {fault}") from fault
    report("Fitting risk", 0, 0)
    assert isinstance(model.graph, Decoder), "others have no profile"
    described = {"file": file.name, "num_answers": len(answers)}
    risk = fit_risk(DecoderProbe(model.graph), examples, described, retrieval=_retrieval_heads(profile))
    return profile.with_section(RISK, risk.as_json())


def read_answers(file: Path) -> list[LabelledAnswer]:
    """The lines of a file.

    Raises:
        NotFound: there is none.
        InputError: a line is no labelled answer.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as fault:
        raise NotFound(f"there is no file {file}. Name one with a labelled answer a line.") from fault
    answers = []
    for number, line in enumerate(lines, 1):
        try:
            answers.append(LabelledAnswer.model_validate_json(line))
        except ValidationError as fault:
            raise InputError(f"{file}, line {number}: {_first(fault)}. Correct it.") from fault
    return answers


def _first(fault: ValidationError) -> str:
    """What is wrong first, and where."""
    first = fault.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg']}"


def _examples(answer: LabelledAnswer, tokenizer: Tokenizer, chat: ChatFormat) -> Iterator[RiskExample]:
    asked = {"model": "m", "messages": answer.messages, "documents": answer.documents}
    body = ChatRequest.model_validate_json(json.dumps(asked))
    prompt = chat.prompt(body.turns)
    segments: PromptSegments = chat_segments(prompt, body.segment_names)
    tokens = spelled(tokenizer, answer.answer)
    spans = sentence_spans(answer.answer)
    if len(spans) != len(answer.grounded):
        raise InputError(
            f"the answer has {len(spans)} sentences, and grounded {len(answer.grounded)} labels; one "
            "is needed for each. Correct it."
        )
    token_ids = (*prompt.token_ids, *(token.token_id for token in tokens))
    places = {id(token): len(prompt.token_ids) + place for place, token in enumerate(tokens)}
    for span, is_grounded in zip(spans, answer.grounded, strict=True):
        own = [places[id(token)] for token in tokens_in(span, tokens)]
        if is_grounded is not None and own:
            yield RiskExample(token_ids, segments, (own[0], own[-1] + 1), is_grounded)


def spelled(tokenizer: Tokenizer, text: str) -> list[ReadToken]:
    """The tokens of an answer, each with what it adds to the text."""
    decoder, tokens, start = tokenizer.stream(), [], 0
    for token_id in tokenizer.encode_later(text):
        added = decoder.push(token_id)
        tokens.append(ReadToken(token_id, added, start))
        start += len(added)
    return tokens


def _retrieval_heads(profile: HeadProfile) -> Sequence[Head]:
    """Heads that were confirmed to retrieve; none where nobody looked, or none was."""
    found = (profile.section(KINDS) or {}).get(RETRIEVAL) or {}
    return [(layer, head) for layer, head in found["heads"]] if found.get("confirmed") is True else []
