"""Answer planted prompts through the server's own path, and give rows to judge drift by. Judges nothing.

A server without a port: the application of `cynosure serve`, its routes, templates, engine and reports, for
one planted model. Each way of breaking it is a `Fault`: what the operator, or a caller, changed.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import httpx
import torch
from torch import nn

from cynosure.cli.local_completer import local_completer
from cynosure.engine.settings import EngineSettings
from cynosure.insight import AttentionReport, WatchPolicy
from cynosure.insight.drift.drift_features import AnswerFeatures, features_of
from cynosure.insight.drift.drift_sentinel import SentinelAnswer
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel, load
from cynosure.models.probe import DecoderProbe
from cynosure.models.self_attention import SelfAttention
from cynosure.server.app import make_app
from cynosure.server.attended.sentinels import SentinelPrompt, answer_to
from cynosure.server.runtime import Runtime
from cynosure.server.services import Services
from cynosure.server.settings import ServerSettings
from cynosure.train.planted_documents import PlantedPrompt, prompts

MODEL = "planted"
MAX_TOKENS = 24
_NUM_TOGETHER = 16
#: A template that says the same in another order: an empty turn of the system's stands before the first.
OTHER_TEMPLATE_START = "<|system|>\n<|end|>\n"


class Answered(NamedTuple):
    """One answer: its row, how many tokens it had, and their mean log-probability in nats."""

    row: AnswerFeatures
    num_tokens: int
    mean_logprob: float


@dataclass(frozen=True)
class Fault:
    """What is changed of a service that was sound.

    - `template`: put before every conversation; `kv_cache_dtype`: what keys and values are kept in.
    - `without`: heads whose output is nothing; `drops_document`: whether one document is lost of each prompt.
    """

    template: str = ""
    kv_cache_dtype: str = "auto"
    without: tuple[tuple[int, int], ...] = ()
    drops_document: bool = False


@dataclass
class Kept:
    """Keeps what it is told."""

    reports: dict[str, AttentionReport] = field(default_factory=dict)

    def told(self, report: AttentionReport) -> None:
        """Take a report."""
        self.reports[report.request_id] = report


_SOUND = Fault()


def answered(folder: Path, seeds: Sequence[int], fault: Fault = _SOUND) -> list[Answered]:
    """Every prompt's answer, in order."""
    kept = Kept()
    with broken(folder, fault) as model, _served(model, fault, kept) as runtime:
        app = make_app(runtime, ServerSettings())
        asyncio.run(_ask_all(app, list(prompts(seeds)), fault))
    return [_row(kept.reports[f"r{at}"]) for at in range(len(seeds))]


def sentinel_answers(
    folder: Path, seeds: Sequence[int], fault: Fault = _SOUND, beside: Sequence[int] = ()
) -> list[SentinelAnswer]:
    """Each prompt's answer as a sentinel, one after the other, while other prompts are answered."""
    asked = [SentinelPrompt(str(seed), tuple(next(prompts([seed])).messages)) for seed in seeds]

    async def ask(runtime: Runtime) -> list[SentinelAnswer]:
        services = runtime.services
        assert services is not None
        others = asyncio.create_task(
            _ask_all(make_app(runtime, ServerSettings()), list(prompts(beside)), fault)
        )
        found = [await answer_to(services.completer(MODEL), prompt) for prompt in asked]
        await others
        return found

    with broken(folder, fault) as model, _served(model, fault, Kept()) as runtime:
        return asyncio.run(ask(runtime))


@contextmanager
def broken(folder: Path, fault: Fault) -> Iterator[LanguageModel]:
    """A model with a fault in it, from a copy of its folder where a file must change."""
    copy = folder.with_name(f"{folder.name}-other-template")
    if fault.template:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        file = copy / "chat_template.jinja"
        file.write_text(fault.template + (folder / "chat_template.jinja").read_text())
    try:
        model = load(copy if fault.template else folder, dtype="float32")
        assert isinstance(model.graph, Decoder)
        for layer, head in fault.without:
            _silence(model.graph, layer, head)
        yield model
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def important_head(folder: Path, seeds: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The head without which right answers are least likely, and the one whose absence matters least."""
    model = load(folder, dtype="float32")
    assert isinstance(model.graph, Decoder)
    assert model.tokenizer is not None
    probe, vocabulary = DecoderProbe(model.graph), model.tokenizer.encode
    heads = [(layer, head) for layer, count in enumerate(probe.num_heads) for head in range(count)]
    drops = dict.fromkeys(heads, 0.0)
    for prompt in prompts(seeds, kinds=("answerable",)):
        asked = vocabulary(f"<|user|> {prompt.content} <|assistant|>").ids
        ids = [*asked, *vocabulary(prompt.answer).ids]
        whole = float(probe.log_probs(ids, len(asked)).sum())
        for head in heads:
            drops[head] += whole - float(probe.log_probs(ids, len(asked), without=[head]).sum())
    ranked = sorted(heads, key=lambda head: drops[head])
    return ranked[-1], ranked[0]


def _silence(graph: Decoder, layer: int, head: int) -> None:
    """Have a head say nothing: its columns of the output projection are 0."""
    block = graph.layers[layer].attention
    assert isinstance(block, SelfAttention)
    assert isinstance(block.o, nn.Linear)
    width = block.o.in_features // graph.spec.num_heads[layer]
    with torch.no_grad():
        block.o.weight[:, head * width : (head + 1) * width] = 0


@contextmanager
def _served(model: LanguageModel, fault: Fault, kept: Kept) -> Iterator[Runtime]:
    settings = EngineSettings(kv_cache_bytes=64 << 20, kv_cache_dtype=fault.kv_cache_dtype)
    completer = local_completer(MODEL, model, settings)
    completer.watching = WatchPolicy(is_always=True)
    services = replace(Services({}, {}, {MODEL: completer}, int(time.time())), report_sinks=(kept,))
    runtime = Runtime(lambda report: services)
    runtime.start()
    while runtime.services is None:
        time.sleep(0.01)
    try:
        yield runtime
    finally:
        runtime.stop()


async def _ask_all(app: object, asked: Sequence[PlantedPrompt], fault: Fault) -> None:
    turnstile = asyncio.Semaphore(_NUM_TOGETHER)
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:

        async def ask(at: int, prompt: PlantedPrompt) -> None:
            async with turnstile:
                body = {
                    "model": MODEL,
                    "messages": _messages(prompt, fault),
                    "max_tokens": MAX_TOKENS,
                    "temperature": 0,
                    "logprobs": True,
                }
                headers = {"X-Request-Id": f"r{at}", "Content-Type": "application/json"}
                content = json.dumps(body)
                response = await client.post("/v1/chat/completions", content=content, headers=headers)
                assert response.status_code == 200, response.text

        await asyncio.gather(*(ask(at, prompt) for at, prompt in enumerate(asked)))


def _messages(prompt: PlantedPrompt, fault: Fault) -> list[dict[str, object]]:
    """The conversation; where a document is lost, it is one at random, and never the only one."""
    messages = prompt.messages
    if fault.drops_document and len(prompt.documents) > 1:
        content = messages[0]["content"]
        assert isinstance(content, list)
        lost = random.Random(prompt.content).randrange(len(prompt.documents))
        messages[0]["content"] = [part for at, part in enumerate(content) if at != lost]
    return messages


def _row(report: AttentionReport) -> Answered:
    row = features_of(report)
    assert row is not None, "every answer is watched"
    logprobs = [token.logprob for token in report.tokens if token.logprob is not None]
    return Answered(row, len(report.tokens), sum(logprobs) / max(1, len(logprobs)))
