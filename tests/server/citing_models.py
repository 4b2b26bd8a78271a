"""Stand in for a model whose heads look at known documents while it speaks. Computes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from cynosure.engine.watch import AttendedTo, Watchable
from cynosure.insight import WatchPolicy
from cynosure.insight.citing.citation_weights import CitationWeights
from cynosure.insight.heads.profile_choice import choice_of
from cynosure.insight.profile import HeadProfile
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.services import Generation, Token, Tokens
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE, ScriptedModel

WEIGHTS = CitationWeights(((0, 1), (1, 0)), (1.0, 0.5), -2.0, 2.0, 1.0, 0.5, 1.0, "made-up answers")
PROFILE = HeadProfile("f", "p", (2, 2), {}, {"citations": WEIGHTS.as_json()})

#: What is said, and which part of the prompt it is from; the spaces are of the sentence before.
SCRIPT: tuple[tuple[str, str | None], ...] = (
    ("Foxes are red. ", "doc:0#1"),
    ("I think. ", None),
    ("They sleep ☆.", "doc:1"),
)


@dataclass
class CitingModel(ScriptedModel):
    """Says the script, three characters a token, and tells what its weighted heads gave each part."""

    script: tuple[tuple[str, str | None], ...] = SCRIPT

    def complete(self, asked: Generation, tenant: str = "") -> Tokens:
        self.asked.append(asked)
        self.prompts.append(asked.token_ids)
        return self._said(asked)

    async def _said(self, asked: Generation) -> Tokens:
        pieces = [
            (sentence[start : start + 3], part)
            for sentence, part in self.script
            for start in range(0, len(sentence), 3)
        ]
        for index, (piece, part) in enumerate(pieces):
            await asyncio.sleep(0)
            reason = "stop" if index + 1 == len(pieces) else None
            yield [Token(piece, reason, token_id=index, attended=self._attended(asked, part))]

    def _attended(self, asked: Generation, part: str | None) -> AttendedTo | None:
        if asked.reading is None:
            return None
        parts = asked.reading.segments.parts
        masses = [1 / (len(parts) + 1)] * (len(parts) + 1)
        fold = [*(float(one.id == part) for one in parts), 0.0]
        return AttendedTo(tuple(masses), 0.0, 1.0, tuple(tuple(fold) for _ in asked.reading.choice.groups))


def citing(folder: Path, source: str = SOURCE) -> CitingModel:
    """A model over a tokenizer in `folder`, with a profile that was fitted for citations."""
    tokenizer = Tokenizer.from_folder(write(folder, byte_level()))
    template = ChatTemplate({"default": source}, {}, tokenizer.control_tokens)
    made = CitingModel(tokenizer, ChatFormat.of(template, tokenizer), name="citing")
    made.watchable = Watchable((2, 2), (0, 1))  # type: ignore[assignment]
    made.watching = WatchPolicy(choice_of(PROFILE), profile=PROFILE)
    return made
