"""Models with states, from HTTP to the engine's process, give what the plain loop gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

from cynosure.cli.assembly import ServeOptions, assemble
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import load
from tests.models import moe_oracle
from tests.models.mixer_cases import CASES
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.fakes import serving

NAMES = ("mamba2", "bamba")
PROMPT = [(7 * place) % 300 + 1 for place in range(70)]
NUM_NEW = 12
PAGE = 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models with as many tokens as the tokenizer has."""
    found = {}
    for name in NAMES:
        case = CASES[name]
        settings = {**deepcopy(case.settings), "vocab_size": 325}
        with torch.no_grad():
            pair = moe_oracle.make_pair(replace(case, settings=settings))
        found[name] = tmp_path_factory.mktemp(name)
        pair.oracle.save_pretrained(found[name])
        (found[name] / "chat_template.jinja").write_text("{{ messages[0].content }}")
        write(found[name], byte_level())
    return found


@pytest.fixture(scope="module")
def client(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    models = tuple(
        ServedModel(name, str(folder), dtype="float32", max_model_len=256) for name, folder in folders.items()
    )
    options = ServeOptions(
        tmp_path_factory.mktemp("home"),
        models,
        with_docs=False,
        num_threads=1,
        # What each gets is chosen: of a model without pages, room for states.
        pool=PoolSettings(),
    )
    with (
        serving(lambda report: assemble(options, report), wait_s=60) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def ask(client: httpx.Client, name: str, **fields: object) -> httpx.Response:
    asked = {"model": name, "prompt": PROMPT, "max_tokens": NUM_NEW, "temperature": 0, "ignore_eos": True}
    return client.post("/v1/completions", json=asked | {"return_token_ids": True} | fields)


def explained(client: httpx.Client, answer: httpx.Response) -> dict[str, object]:
    """What is told of the pages that a request found."""
    told = client.get(f"/v1/requests/{answer.headers['X-Request-Id']}/explain").json()
    return told["sequences"][0]["pages"]


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_plain_loop_and_prompts_are_found_again(
    client: httpx.Client, folders: dict[str, Path], name: str
) -> None:
    model = load(folders[name], dtype="float32")
    expected = generate(model, [PROMPT], SamplingOptions(NUM_NEW, eos_token_ids=()))[0].token_ids
    answers = [ask(client, name) for _ in range(2)]
    bodies = [answer.json() for answer in answers]
    assert [tuple(body["choices"][0]["token_ids"]) for body in bodies] == [expected, expected]
    cached = [body["usage"]["prompt_tokens_details"]["cached_tokens"] for body in bodies]
    assert cached == [0, len(PROMPT) // PAGE * PAGE]
    assert explained(client, answers[1])["why_no_more"] == "prompt_end"
    parted = ask(client, name, prompt=[*PROMPT[:40], *PROMPT[:20]])
    assert parted.json()["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert explained(client, parted)["why_no_more"] == "no_state"


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_streamed(client: httpx.Client, name: str) -> None:
    whole = ask(client, name).json()["choices"][0]["text"]
    fields = {"model": name, "prompt": PROMPT, "max_tokens": NUM_NEW, "temperature": 0, "ignore_eos": True}
    with client.stream("POST", "/v1/completions", json=fields | {"stream": True}) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert "".join(json.loads(line)["choices"][0]["text"] for line in lines[:-1]) == whole


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"attention": {"level": "summary"}}, "carries a state past"),
        ({"speculation": True}, "guesses no tokens"),
        ({"prompt_cache_key": "s"}, "carries a state"),
    ],
)
def test_what_is_not_done_is_refused_by_name(
    client: httpx.Client, fields: dict[str, object], named: str
) -> None:
    response = ask(client, "bamba", **fields)
    assert response.status_code == 400, response.text
    assert named in response.json()["error"]["message"]
