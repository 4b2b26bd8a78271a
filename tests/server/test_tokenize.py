"""`/tokenize` and `/detokenize`: ids, their text, and whose each token is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server.chat_models import MAX_MODEL_LEN, ScriptedModel, scripted, serves
from tests.server.fakes import serving

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Où?"}, {"type": "text", "text": "🙂"}]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    return scripted(tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def client(model: ScriptedModel) -> Iterator[httpx.Client]:
    with serving(lambda _: serves(model)) as url, httpx.Client(base_url=url) as made:
        yield made


def tokenize(client: httpx.Client, **body: object) -> Any:  # noqa: ANN401
    response = client.post("/tokenize", json={"model": "scripted"} | body)
    assert response.status_code == 200, response.text
    return response.json()


def test_a_prompt_and_back(client: httpx.Client, model: ScriptedModel) -> None:
    body = tokenize(client, prompt="the star <|im_end|>", return_token_strs=True)
    assert body["tokens"] == list(model.tokenizer.encode("the star <|im_end|>").ids)
    assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
    assert body["max_model_len"] == MAX_MODEL_LEN
    back = client.post("/detokenize", json={"model": "scripted", "tokens": body["tokens"]}).json()
    assert back == {"prompt": "the star <|im_end|>"}


def test_a_conversation(client: httpx.Client) -> None:
    opened = tokenize(client, messages=MESSAGES)
    closed = tokenize(client, messages=MESSAGES, add_generation_prompt=False)
    assert opened["tokens"][: closed["count"]] == closed["tokens"]
    assert opened["count"] > closed["count"]
    assert opened["segments"] is None


def test_segments_lead_back_to_the_request(client: httpx.Client) -> None:
    body = tokenize(client, messages=MESSAGES, return_segments=True)
    assert body["segments"] == [
        {"name": "template", "path": ""},
        {"name": "system", "path": "messages[0].content"},
        {"name": "user:0", "path": "messages[1].content[0].text"},
        {"name": "user:0", "path": "messages[1].content[1].text"},
    ]
    texts = ["", "Be brief.", "Où?", "🙂"]
    covered: list[set[int]] = [set() for _ in texts]
    for number, offsets in zip(body["token_segments"], body["token_offsets"], strict=True):
        assert (offsets is None) == (number == 0)
        covered[number].update(range(*(offsets or (0, 0))))
    assert [len(places) for places in covered] == [len(text) for text in texts]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/tokenize", {}, ["prompt or messages"]),
        ("/tokenize", {"prompt": "a", "messages": MESSAGES}, ["not both"]),
        ("/tokenize", {"prompt": "a", "return_segments": True}, ["belong to messages"]),
        ("/tokenize", {"messages": MESSAGES, "add_special_tokens": True}, ["add_special_tokens"]),
        ("/tokenize", {"prompt": "a", "add_generation": True}, ["not known"]),
        ("/detokenize", {"tokens": [10**9]}, ["no token 1000000000"]),
        ("/detokenize", {"tokens": [2**70]}, ["tokens", "less than or equal"]),
        ("/detokenize", {"tokens": [-1]}, ["greater than or equal to 0"]),
    ],
)
def test_what_can_not_be_used_is_refused(
    client: httpx.Client, path: str, body: dict[str, object], words: list[str]
) -> None:
    response = client.post(path, json={"model": "scripted"} | body)
    assert response.status_code == 400, response.text
    assert all(word in response.json()["error"]["message"] for word in words), response.text
