"""Constrained answers from the stock client, through the server, the engine and a real checkpoint."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import openai
import pytest

from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.local_completer import local_completer
from cynosure.core.errors import InputError
from cynosure.engine import SamplingParams, constraints
from cynosure.engine.settings import EngineSettings
from cynosure.models.load import load
from cynosure.server.services import Generation, Services
from tests.server.fakes import CREATED, serving

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Polaris", "Vega"]}, "magnitude": {"type": "integer", "minimum": 0,
                                                                       "maximum": 9}},
    "required": ["name", "magnitude"],
    "additionalProperties": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def completer(checkpoint: Path) -> Iterator[EngineCompleter]:
    made = local_completer("tiny", load(checkpoint, dtype="float32"), EngineSettings(kv_cache_bytes=1 << 20))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(completer: EngineCompleter) -> Iterator[openai.OpenAI]:
    made = Services({}, {}, {completer.name: completer}, CREATED)
    with (
        serving(lambda _: made) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as stock,
    ):
        yield stock


def ask(client: openai.OpenAI, seed: int = 0, max_tokens: int = 100, **fields: object) -> tuple[str, str]:
    done = client.completions.create(
        model="tiny", prompt="a star", max_tokens=max_tokens, seed=seed, extra_body=fields
    )
    [choice] = done.choices
    return choice.text, choice.finish_reason


@pytest.mark.parametrize("seed", range(4))
def test_a_schema_in_either_dialect(client: openai.OpenAI, seed: int) -> None:
    named = {"type": "json_schema", "json_schema": {"name": "star", "schema": SCHEMA}}
    text, reason = ask(client, seed, response_format=named)
    assert reason == "stop"
    jsonschema.validate(json.loads(text), SCHEMA)
    assert ask(client, seed, structured_outputs={"json": SCHEMA}) == (text, reason)
    assert ask(client, seed, guided_json=json.dumps(SCHEMA)) == (text, reason)


def test_the_last_token_of_a_choice_is_text(client: openai.OpenAI) -> None:
    found = {ask(client, seed, guided_choice=["north", "pole"]) for seed in range(12)}
    assert found == {("north", "stop"), ("pole", "stop")}


def test_length_cuts(client: openai.OpenAI) -> None:
    text, reason = ask(client, max_tokens=5, guided_regex="[a-c]{40}")
    assert reason == "length"
    assert re.fullmatch("[a-c]{5,10}", text)


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    stream = client.completions.create(
        model="tiny", prompt="a star", max_tokens=100, seed=3, stream=True, extra_body={"guided_json": SCHEMA}
    )
    parts = [choice for part in stream for choice in part.choices]
    text = "".join(choice.text for choice in parts)
    assert (text, parts[-1].finish_reason) == ask(client, 3, guided_json=SCHEMA)


@pytest.mark.parametrize("stream", [False, True])
def test_what_does_not_compile_is_a_status_also_of_a_stream(client: openai.OpenAI, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError, match=r"\[.*not.*\] at #/items"):
        client.completions.create(
            model="tiny", prompt="a", stream=stream, extra_body={"guided_json": {"items": {"not": {}}}}
        )


def test_one_who_leaves_while_it_compiles_takes_nothing_along(completer: EngineCompleter) -> None:
    sampling = SamplingParams(5, constraint=constraints.json_schema({"enum": [f"v{n}" for n in range(5000)]}))

    async def leave_and_stay() -> None:
        leaving, staying = (asyncio.create_task(completer.prepare(sampling)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await staying
        assert leaving.cancelled()

    asyncio.run(leave_and_stay())


def test_one_that_was_not_prepared_fails_by_itself(completer: EngineCompleter) -> None:
    async def collect(sampling: SamplingParams) -> str:
        asked = Generation((1, 2, 3), sampling)
        return "".join([token.text async for together in completer.complete(asked) for token in together])

    async def both() -> list[str | BaseException]:
        bad = SamplingParams(9, constraint=constraints.regex("("))
        good = SamplingParams(9, constraint=constraints.choice(["north"]))
        return await asyncio.gather(collect(bad), collect(good), return_exceptions=True)

    failed, text = asyncio.run(both())
    assert isinstance(failed, InputError)
    assert text == "north"
