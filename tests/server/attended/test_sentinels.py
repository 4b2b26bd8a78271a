from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.cli.local_completer import load_completer
from cynosure.core.errors import InputError, NotFound
from cynosure.engine.settings import EngineSettings
from cynosure.server.attended.drift_board import DriftBoard
from cynosure.server.attended.sentinels import EVERY, SentinelPrompt, Sentinels, answer_to, read_sentinels
from cynosure.server.services import Services
from tests.insight.drift_world import answers
from tests.server.fakes import FakeCompleter
from tests.server.served_tiny import write_decoder

ASKED = [
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Tides.", "segment": "doc:1"}]}]},
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Tell."}]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> tuple[SentinelPrompt, ...]:
    file = tmp_path_factory.mktemp("asked") / "sentinels.jsonl"
    file.write_text("\n\n".join(map(json.dumps, ASKED)) + "\n")
    return read_sentinels(file)


def services_of(folder: Path, settings: EngineSettings | None = None) -> Services:
    return Services({}, {}, {"m": load_completer("m", folder, dtype="float32", settings=settings)}, 0)


async def run(services: Services, board: DriftBoard, sentinels: Sentinels, num_answers: int) -> None:
    """Answers pass, and a look whether a sentinel is due after each; what is asked has its time."""
    for answer in answers(7, num_answers):
        board.add("m", "cafe", answer, 0.0)
        sentinels.passed(services)
        work = sentinels._work
        if work is not None:
            await work


def test_int8_keys_are_seen_in_frozen_prompts_and_nothing_without(
    folder: Path, prompts: tuple[SentinelPrompt, ...]
) -> None:
    sound, rounded = services_of(folder), services_of(folder, EngineSettings(kv_cache_dtype="int8"))
    board = DriftBoard()
    for answer in answers(1, 500):
        board.add("m", "cafe", answer, 0.0)
    sentinels = Sentinels(prompts, board)

    async def drive() -> None:
        frozen = await sentinels.frozen(sound, "m")
        assert [one.id for one in frozen] == ["line 1", "line 2"]
        assert [one.answer.numbers for one in frozen] == [
            (await answer_to(sound.completer("m"), prompt)).numbers for prompt in prompts
        ]
        board.freeze("m", 0.0, frozen)
        await run(sound, board, sentinels, 3 * EVERY)
        with board.models() as models:
            monitor = models["m"].monitor
            assert monitor is not None
            assert [reading.state for reading in monitor.sentinels.readings] == ["same", "same"]
            assert sum(reading.num_answers for reading in monitor.sentinels.readings) == 3
            assert monitor.alarm is None
        before = monitor.num_answers
        await run(rounded, board, sentinels, EVERY)
        assert monitor.alarm is not None
        assert monitor.alarm.kind == "sentinel"
        assert monitor.alarm.at_answer <= before + EVERY

    try:
        asyncio.run(drive())
    finally:
        sound.close()
        rounded.close()


def test_nothing_is_asked_without_a_reference_or_prompts(
    folder: Path, prompts: tuple[SentinelPrompt, ...]
) -> None:
    services, board = Services({}, {}, {"m": FakeCompleter("m")}, 0), DriftBoard()
    quiet = Sentinels((), board)

    async def drive() -> None:
        for sentinels in (quiet, Sentinels(prompts, board)):
            await run(services, board, sentinels, 3)
            assert sentinels._work is None
        assert await quiet.frozen(services, "m") == ()
        with pytest.raises(NotFound):
            await Sentinels(prompts, board).frozen(services, "another")
        with pytest.raises(InputError, match="can't be watched"):
            await Sentinels(prompts, board).frozen(services, "m")

    asyncio.run(drive())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "0 sentinels"),
        ("{}", "line 1 .* is no conversation: it is no object with messages alone"),
        ("[", "line 1 .* is no conversation"),
        ('{"messages": [{"role": "user"}]}', "line 1 .* is no conversation"),
        ('{"messages": [{"role": "user", "content": "a"}], "n": 2}', "messages alone"),
    ],
)
def test_what_is_no_conversation_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "s.jsonl").write_text(text)
    with pytest.raises(InputError, match=told):
        read_sentinels(tmp_path / "s.jsonl")
    with pytest.raises(InputError, match="can't be read"):
        read_sentinels(tmp_path / "none.jsonl")


def test_a_sentinel_of_another_file_is_not_asked(folder: Path, prompts: tuple[SentinelPrompt, ...]) -> None:
    board, services = DriftBoard(), services_of(folder)
    for answer in answers(1, 500):
        board.add("m", "cafe", answer, 0.0)

    async def drive() -> None:
        frozen = await Sentinels(prompts, board).frozen(services, "m")
        board.freeze("m", 0.0, [replace(frozen[0], id="line 9")])
        await run(services, board, Sentinels(prompts, board), 2)
        with board.models() as models:
            monitor = models["m"].monitor
            assert monitor is not None
            assert monitor.sentinels.readings[0].state == "unread"

    try:
        asyncio.run(drive())
    finally:
        services.close()
