"""Read prompts with answers that copy from them, as token ids. Knows nothing of heads.

A small model that was made for one kind of text may copy nothing from random tokens; on its own kind it does.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from cynosure.core.errors import InputError, NotFound
from cynosure.insight.heads.probe_tasks import ProbeCase, copied_case
from cynosure.models.chat.format import ChatFormat
from cynosure.models.load import LanguageModel
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.schemas.chat import ChatRequest

#: Fewer tell little of any head.
MIN_NEEDLES = 8
#: A probe keeps a map of all tokens for every head.
MAX_NEEDLE_TOKENS = 512


class Needle(BaseModel):
    """A line of the file.

    - `prompt`, or `messages` as `/v1/chat/completions` takes them; `answer`: what the model goes on with.
    - `copied`: what of the answer stands in the prompt, word for word; without it, the whole answer.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: str | None = None
    messages: list[dict[str, JsonValue]] | None = None
    answer: str
    copied: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Needle:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give a prompt, or messages: one of both")
        if (self.copied or self.answer).strip() not in self.answer or not self.answer.strip():
            raise ValueError("what is copied does not stand in the answer")
        return self


def read_needles(file: Path, model: LanguageModel) -> tuple[ProbeCase, ...]:
    """The lines of a file as a model reads them.

    Raises:
        NotFound: there is no such file.
        InputError: a line is not usable, or there are too few.
    """
    if model.tokenizer is None:
        raise InputError(f"{model.folder} has no tokenizer.json, which needles need. Leave --needles out.")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as fault:
        raise NotFound(
            f"{file} can't be read: {fault.strerror}. Name a file with a needle a line."
        ) from fault
    except UnicodeDecodeError as fault:
        raise InputError(f"{file} is no UTF-8 at byte {fault.start}. Convert it.") from fault
    if len(lines) < MIN_NEEDLES:
        raise InputError(f"{file} has {len(lines)} lines; the limit is {MIN_NEEDLES}. Add some.")
    chat = ChatFormat.of(model.chat_template, model.tokenizer)
    cases = []
    for number, line in enumerate(lines, 1):
        try:
            cases.append(_case(Needle.model_validate_json(line), model.tokenizer, chat))
        except ValidationError as fault:
            first = fault.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise InputError(f"{file}, line {number}: {where}: {first['msg']}. Correct it.") from fault
        except InputError as fault:
            raise InputError(f"{file}, line {number}: {fault}") from fault
    return tuple(cases)


def _case(needle: Needle, tokenizer: Tokenizer, chat: ChatFormat | None) -> ProbeCase:
    prompt = _prompt(needle, tokenizer, chat)
    answer, start, end = _answer(needle, tokenizer)
    if len(prompt) + len(answer) > MAX_NEEDLE_TOKENS:
        raise InputError(
            f"prompt and answer have {len(prompt) + len(answer)} tokens; the limit is {MAX_NEEDLE_TOKENS}. "
            "Shorten the prompt."
        )
    case = copied_case(prompt, answer, start, end)
    if case is None:
        raise InputError(
            "what is copied is not in the prompt, token for token. Write it there as in the answer, spaces "
            "too."
        )
    return case


def _prompt(needle: Needle, tokenizer: Tokenizer, chat: ChatFormat | None) -> tuple[int, ...]:
    if needle.prompt is not None:
        return tokenizer.encode(needle.prompt).ids
    if chat is None:
        raise InputError("the model has no chat template. Give a prompt in place of messages.")
    body = ChatRequest.model_validate_json(json.dumps({"model": "m", "messages": needle.messages}))
    return tuple(chat.prompt(body.turns).token_ids)


def _answer(needle: Needle, tokenizer: Tokenizer) -> tuple[tuple[int, ...], int, int]:
    """The tokens of an answer, and which of them what is copied begins and ends in."""
    token_ids = tokenizer.encode_later(needle.answer)
    copied = (needle.copied or needle.answer).strip()
    start = needle.answer.index(copied)
    decoder, lengths, length = tokenizer.stream(), [0], 0
    for token_id in token_ids:
        length += len(decoder.push(token_id))
        lengths.append(length)
    own = [
        place
        for place in range(len(token_ids))
        if lengths[place + 1] > start and lengths[place] < start + len(copied)
    ]
    return token_ids, own[0], own[-1] + 1
