"""A tiny T5 through everything, from HTTP to the engine's process, gives what the plain loop gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch
from transformers import T5ForConditionalGeneration

from cynosure.cli.assembly import ServeOptions, assemble
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.models.seq2seq import generate_seq2seq
from tests.models import seq2seq_oracle, t5_oracle
from tests.models.seq2seq_cases import CASES, MAX_LEN
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.fakes import serving

TEXT = "a sailor steers by the pole star"
GREEDY = {"model": "t5", "prompt": TEXT, "max_tokens": 12, "temperature": 0, "return_token_ids": True}


@pytest.fixture(scope="module")
def t5() -> T5ForConditionalGeneration:
    return t5_oracle.build(t5_oracle.VARIANTS["v1.1"], vocab_size=325)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, t5: T5ForConditionalGeneration) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    t5_oracle.save(t5, folder)
    # It would converse, were it a decoder.
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    return write(folder, byte_level())


@pytest.fixture(scope="module")
def bart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written("bart", tmp_path_factory.mktemp("bart"))


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _written("whisper", tmp_path_factory.mktemp("whisper"))


def _written(name: str, folder: Path) -> Path:
    """A tiny model with as many tokens as the tokenizer has."""
    case = CASES[name]
    model = seq2seq_oracle.build(replace(case, settings={**case.settings, "vocab_size": 325}))
    model.save_pretrained(folder)
    return write(folder, byte_level())


@pytest.fixture(scope="module")
def client(folder: Path, checkpoint: Path, bart: Path, whisper: Path) -> Iterator[httpx.Client]:
    models = (
        ServedModel("t5", str(folder), dtype="float32"),
        ServedModel("llama", str(checkpoint), dtype="float32"),
        ServedModel("bart", str(bart), dtype="float32"),
        ServedModel("whisper", str(whisper), dtype="float32"),
    )
    pool = PoolSettings(kv_cache_bytes=8 << 20)
    options = ServeOptions(folder, models, with_docs=False, num_threads=1, pool=pool)
    with (
        serving(lambda report: assemble(options, report), wait_s=60) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def _choice(client: httpx.Client, **fields: object) -> dict[str, object]:
    response = client.post("/v1/completions", json=GREEDY | fields)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]


def _refusal(client: httpx.Client, path: str = "/v1/completions", **fields: object) -> str:
    response = client.post(path, json=fields if path != "/v1/completions" else GREEDY | fields)
    assert response.status_code == 400, response.text
    return response.json()["error"]["message"]


@pytest.mark.parametrize("prompt", [TEXT, [5, 6, 7, 8], [9]])
def test_a_prompt_is_the_input_and_the_answer_that_of_the_plain_loop(
    client: httpx.Client, folder: Path, prompt: str | list[int]
) -> None:
    ids = byte_level().encode(prompt).ids if isinstance(prompt, str) else prompt
    plain = generate_seq2seq(t5_oracle.loaded(folder), [ids], start_id=0, max_new_tokens=12)[0]
    choice = _choice(client, prompt=prompt)
    assert choice["token_ids"] == plain
    assert choice["text"] == byte_level().decode(plain)
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({"num_beams": 3}, {"num_beams": 3}),
        ({"use_beam_search": True, "best_of": 4}, {"num_beams": 4}),
        ({"num_beams": 3, "length_penalty": -2.0}, {"num_beams": 3, "length_penalty": -2.0}),
        ({"num_beams": 3, "early_stopping": True}, {"num_beams": 3, "early_stopping": True}),
        ({"num_beams": 3, "early_stopping": "never"}, {"num_beams": 3, "early_stopping": "never"}),
    ],
)
def test_beams_find_what_those_of_transformers_find(
    client: httpx.Client,
    t5: T5ForConditionalGeneration,
    asked: dict[str, object],
    wanted: dict[str, object],
) -> None:
    ids, end = byte_level().encode(TEXT).ids, 7
    given = t5.generate(
        torch.tensor([ids]), max_new_tokens=10, do_sample=False, eos_token_id=end, pad_token_id=0, **wanted
    )  # type: ignore[operator]
    # What ends an answer is its last token, and what follows fills the row.
    expected = given[0, 1:].tolist()
    expected = expected[: expected.index(end) + 1] if end in expected else expected
    fields = GREEDY | {"max_tokens": 10, "stop_token_ids": [end], "temperature": None} | asked
    assert _choice(client, **fields)["token_ids"] == expected


def test_a_search_finds_more_than_the_likeliest_token_does(client: httpx.Client) -> None:
    """So that the comparison above compares searches."""
    assert _choice(client, num_beams=4)["token_ids"] != _choice(client)["token_ids"]
    assert _choice(client, num_beams=1)["token_ids"] == _choice(client)["token_ids"]


def test_an_answer_that_was_searched_for_streams_too(client: httpx.Client) -> None:
    whole = _choice(client, num_beams=3)["text"]
    with client.stream("POST", "/v1/completions", json=GREEDY | {"num_beams": 3, "stream": True}) as response:
        events = [line for line in response.iter_lines() if line.startswith("data: {")]
    texts = [httpx.Response(200, text=event[6:]).json()["choices"][0]["text"] for event in events]
    assert "".join(texts) == whole


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": "llama", "num_beams": 3}, "only encoder-decoders search along beams"),
        ({"num_beams": 3, "temperature": 0.5}, "a beam search draws nothing"),
        ({"num_beams": 3, "n": 2}, "n is 2"),
        ({"num_beams": 3, "best_of": 2}, "num_beams and best_of"),
        ({"num_beams": 3, "use_beam_search": True, "best_of": 3}, "num_beams and use_beam_search"),
        ({"use_beam_search": True}, "best_of"),
        ({"length_penalty": 0.5}, "length_penalty"),
        ({"early_stopping": True}, "early_stopping"),
        ({"num_beams": 33}, "num_beams"),
        ({"num_beams": 3, "guided_regex": "a"}, "takes no constraint"),
        ({"echo": True, "logprobs": 1}, "prompt_logprobs"),
    ],
)
def test_what_it_does_not_do_is_said_by_name(
    client: httpx.Client, fields: dict[str, object], words: str
) -> None:
    assert words in _refusal(client, **fields)


def test_another_family_completes_as_its_plain_loop_does(client: httpx.Client, bart: Path) -> None:
    ids = byte_level().encode(TEXT).ids
    plain = generate_seq2seq(seq2seq_oracle.loaded(bart), [ids], start_id=2, max_new_tokens=12)[0]
    assert _choice(client, model="bart")["token_ids"] == plain
    assert f"the limit is {MAX_LEN}" in _refusal(client, model="bart", max_tokens=MAX_LEN + 1)
    assert f"the limit is {MAX_LEN}" in _refusal(client, model="bart", prompt=[5] * (MAX_LEN + 1))


def test_what_listens_takes_no_text(client: httpx.Client) -> None:
    assert "this model reads features of 10 bins and 60 frames" in _refusal(client, model="whisper")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_it_does_not_converse(client: httpx.Client, path: str) -> None:
    asked = {"input": TEXT} if path == "/v1/responses" else {"messages": [{"role": "user", "content": TEXT}]}
    limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    assert "t5 does not converse" in _refusal(client, path, model="t5", **{limit: 4}, **asked)
