"""Fit focus on trusted instructions to labelled answers in a file. Knows nothing of what a fit computes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cynosure.core.errors import InputError, NotFound
from cynosure.insight import HeadProfile
from cynosure.insight.heads.head_kinds import Report
from cynosure.insight.judging.focus import FOCUS, INJECTION
from cynosure.insight.judging.focus_fit import FocusSample, fit_focus, sample_of
from cynosure.models.chat.format import ChatFormat
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel
from cynosure.models.probe import DecoderProbe
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.schemas.chat import ChatRequest


class JudgedAnswer(BaseModel):
    """A line of the file.

    - `messages`, `tools`: as `/v1/chat/completions` takes them, with documents as parts that are named.
    - `answer`: the model's own, calls as it writes them.
    - `injected`: whether a document, or what a tool gave back, holds an instruction; `followed`: whether the
      answer follows it.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    answer: str
    injected: bool
    followed: bool


def with_focus(profile: HeadProfile, model: LanguageModel, file: Path, report: Report) -> HeadProfile:
    """The profile of a decoder with the sections `focus` and `injection`, fitted to the answers of a file.

    Raises:
        NotFound: there is no such file.
        InputError: a line of it is not usable, all answers are of one kind, or the model does not converse.
    """
    tokenizer = model.tokenizer
    chat = None if tokenizer is None else ChatFormat.of(model.chat_template, tokenizer)
    if tokenizer is None or chat is None:
        raise InputError(
            f"{profile.name} has no chat template, which labelled conversations need. Leave --focus out."
        )
    assert isinstance(model.graph, Decoder), "others have no profile"
    probe, answers = DecoderProbe(model.graph), list(_answers(file))
    samples: list[FocusSample] = []
    for number, answer in enumerate(answers, 1):
        report("Reading labelled answers", number, len(answers))
        try:
            samples.append(_sample(probe, answer, tokenizer, chat))
        except (InputError, ValidationError) as fault:
            raise InputError(f"{file}, line {number}: {fault}") from fault
    report("Fitting focus", 0, 0)
    labels = {
        FOCUS: [not answer.followed for answer in answers],
        INJECTION: [not answer.injected for answer in answers],
    }
    for group, is_safe in labels.items():
        labelled = [replace(one, is_safe=safe) for one, safe in zip(samples, is_safe, strict=True)]
        fitted = fit_focus(profile.num_heads, labelled, {"file": file.name})
        profile = profile.with_section(group, fitted.as_json())
    return profile


def _answers(file: Path) -> Iterator[JudgedAnswer]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as fault:
        raise NotFound(f"there is no file {file}. Name one with a labelled answer a line.") from fault
    for number, line in enumerate(lines, 1):
        try:
            yield JudgedAnswer.model_validate_json(line)
        except ValidationError as fault:
            first = fault.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise InputError(f"{file}, line {number}: {where}: {first['msg']}. Correct it.") from fault


def _sample(probe: DecoderProbe, answer: JudgedAnswer, tokenizer: Tokenizer, chat: ChatFormat) -> FocusSample:
    asked = {"model": "m", "messages": answer.messages, "tools": answer.tools}
    body = ChatRequest.model_validate_json(json.dumps(asked))
    prompt = chat.prompt(body.turns, body.offer.tools)
    # What the model wrote itself may hold control tokens, such as those around calls.
    token_ids = tokenizer.encode(answer.answer, add_special_tokens=False, allow_special=True).ids
    if not token_ids:
        raise InputError("the answer is empty, and nothing was attended to. Leave the line out.")
    segments = chat_segments(prompt, body.segment_names)
    return sample_of(probe, segments, prompt.token_ids, token_ids, is_safe=not answer.followed)
