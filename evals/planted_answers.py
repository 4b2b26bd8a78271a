"""Have a planted model answer through the engine, as a server asks it. Judges nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_completer import local_completer
from cynosure.insight import HeadChoice, Reading, ReadToken, WatchPolicy
from cynosure.insight.citing.attribution import AttributedAnswer
from cynosure.insight.citing.citation_fit import answer_to_learn_from
from cynosure.insight.heads.head_probes import all_heads, copy_scores
from cynosure.insight.heads.probe_tasks import ProbeCase
from cynosure.insight.probing import Head
from cynosure.insight.profile import HeadProfile
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.probe import DecoderProbe
from cynosure.server.answers.attention import AttentionPlan
from cynosure.server.answers.attention_segments import chat_segments
from cynosure.server.answers.continuation import Placed
from cynosure.server.answers.said_tokens import SaidTokens
from cynosure.server.schemas.chat import ChatRequest
from cynosure.train.planted_documents import PlantedPrompt, prompts
from cynosure.train.planted_documents_language import World
from cynosure.train.planted_documents_model import PlantedRecipe, train_planted_documents

NAME = "planted-documents"
MAX_TOKENS, NUM_TOGETHER = 48, 64
#: A head retrieves if it looks at so many of the words that are said next (arXiv 2404.15574).
MIN_COPIED, MAX_RETRIEVING = 0.1, 4


@dataclass(frozen=True, eq=False)
class Answered:
    """What the model said to a prompt, and what it attended to."""

    prompt: PlantedPrompt
    prompt_ids: tuple[int, ...]
    reading: Reading
    tokens: tuple[ReadToken, ...]
    text: str

    @property
    def to_learn_from(self) -> AttributedAnswer:
        """As ablations need it."""
        made = answer_to_learn_from(self.reading.segments, self.prompt_ids, self.tokens, self.text)
        assert made is not None, "a planted answer has a sentence, and its prompt documents"
        return made


@dataclass(frozen=True, eq=False)
class PlantedServed:
    """The model, as it is served and as it is probed."""

    completer: EngineCompleter
    probe: DecoderProbe

    @classmethod
    def of(cls, folder: Path) -> PlantedServed:
        """Load a folder, training it first where it is not there, and start its engine."""
        if not folder.is_dir():
            sys.stderr.write(f"{folder} is not there: training the model\n")
            train_planted_documents(PlantedRecipe(), folder)
        model = load(folder, dtype="float32")
        assert isinstance(model.graph, Decoder)
        return cls(local_completer(NAME, model), DecoderProbe(model.graph))

    def watch(self, choice: HeadChoice, profile: HeadProfile | None = None) -> None:
        """Have these heads watched from now on."""
        self.completer.watching = WatchPolicy(choice, profile=profile)

    def answers(self, asked: Sequence[PlantedPrompt], attention: dict[str, object]) -> list[Answered]:
        """What is said to each prompt, many at a time."""
        return asyncio.run(self._all(asked, attention))

    def retrieving_heads(self, seeds: Sequence[int]) -> tuple[Head, ...]:
        """The heads that look at the word that is said next, where a document tells it."""
        assert self.completer.chat is not None
        values = set(self.completer.encode(" ".join(World.drawn().values)))
        cases = []
        for prompt in prompts(seeds, ["answerable"]):
            prompt_ids = self.completer.chat.prompt(_request(prompt, None).turns).token_ids
            answer = self.completer.encode(prompt.answer)
            copied = [place for place, token in enumerate(answer) if token in values]
            rows = tuple(len(prompt_ids) + place - 1 for place in copied)
            targets = tuple((prompt_ids.index(answer[place]),) for place in copied)
            cases.append(ProbeCase((*prompt_ids, *answer), rows, targets, len(prompt_ids)))
        scores = copy_scores(self.probe, cases, all_heads(self.probe.num_heads), 50, 0)
        return tuple(head for head, _ in scores.above(max(MIN_COPIED, scores.chance), MAX_RETRIEVING))

    async def _all(self, asked: Sequence[PlantedPrompt], attention: dict[str, object]) -> list[Answered]:
        slots = asyncio.Semaphore(NUM_TOGETHER)

        async def answer(prompt: PlantedPrompt) -> Answered:
            async with slots:
                return await self._answer(prompt, attention)

        return list(await asyncio.gather(*map(answer, asked)))

    async def _answer(self, prompt: PlantedPrompt, attention: dict[str, object]) -> Answered:
        body, chat = _request(prompt, attention), self.completer.chat
        assert chat is not None
        built = chat.prompt(body.turns)
        plan = AttentionPlan(self.completer, body.attention, lambda: chat_segments(built, body.segment_names))
        asked = plan.applied(body.asked(built.token_ids, body.sampling(MAX_TOKENS)))
        assert asked.reading is not None
        said, length = SaidTokens(), 0
        async for together in self.completer.complete(asked):
            for token in together:
                if token.token_id is not None:
                    said.add([Placed(token, length)])
                said.hear(token.text)
                length += len(token.text)
        tokens = said.tokens(asked.reading.segments)
        assert tokens is not None, "nothing but text was said"
        return Answered(prompt, built.token_ids, asked.reading, tuple(tokens), said.text)


def _request(prompt: PlantedPrompt, attention: dict[str, object] | None) -> ChatRequest:
    body = {"model": NAME, "messages": prompt.messages, "temperature": 0, "max_tokens": MAX_TOKENS}
    return ChatRequest.model_validate(body if attention is None else body | {"attention": attention})
