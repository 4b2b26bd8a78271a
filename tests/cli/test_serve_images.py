"""Models that read images answer texts over HTTP; a picture is refused by name, and a place without one."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cynosure.cli.assembly import ServeOptions, assemble
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import load
from tests.models import image_decoder_oracle
from tests.models.image_decoder_cases import CASES, IMAGE_ID
from tests.models.image_oracle import write as write_checkpoint
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.fakes import serving

PROMPT = [(7 * place) % 90 + 3 for place in range(40)]
NUM_NEW = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA with as many tokens as the tokenizer has."""
    settings = deepcopy(CASES["llava"].settings)
    text = settings["text_config"]
    assert isinstance(text, dict)
    settings["text_config"] = {**text, "vocab_size": 325}
    pair = write_checkpoint(replace(CASES["llava"], settings=settings), image_decoder_oracle.Pair)
    found = tmp_path_factory.mktemp("llava")
    pair.oracle.save_pretrained(found)
    (found / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return write(found, byte_level())


@pytest.fixture(scope="module")
def client(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    models = (ServedModel("llava", str(folder), dtype="float32"),)
    options = ServeOptions(
        tmp_path_factory.mktemp("home"), models, with_docs=False, num_threads=1, pool=PoolSettings()
    )
    with (
        serving(lambda report: assemble(options, report), wait_s=60) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def test_texts_are_answered_as_by_the_plain_loop(client: httpx.Client, folder: Path) -> None:
    body = {"model": "llava", "prompt": PROMPT, "max_tokens": NUM_NEW, "temperature": 0, "ignore_eos": True}
    answer = client.post("/v1/completions", json=body | {"return_token_ids": True})
    assert answer.status_code == 200, answer.text
    options = SamplingOptions(max_new_tokens=NUM_NEW, eos_token_ids=())
    expected = generate(load(folder, dtype="float32"), [PROMPT], options)[0].token_ids
    assert tuple(answer.json()["choices"][0]["token_ids"]) == expected


def test_a_picture_is_refused_with_what_can_be_done(client: httpx.Client) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    content = [{"type": "text", "text": "what is it?"}, picture]
    body = {"model": "llava", "messages": [{"role": "user", "content": content}]}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "picture" in answer.text
    assert "in Python" in answer.text


def test_a_place_without_its_image_is_refused(client: httpx.Client) -> None:
    body = {"model": "llava", "prompt": [5, IMAGE_ID, 6], "max_tokens": 2}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 400, answer.text
    assert "0 images take 0 places" in answer.json()["error"]["message"]
