"""Every field of `/v1/completions` through the stock client, against a tiny model computed for real."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
import transformers
from openai.types import CompletionChoice

from cynosure.cli.local_completer import load_completer
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.services import Services
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.fakes import serving
from tests.server.served_tiny import MAX_MODEL_LEN, write_decoder

PROMPT = "a sailor steers"
OK: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "max_tokens": 6, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_decoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def url(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    coder = tmp_path_factory.mktemp("coder")
    shutil.copytree(folder, coder, dirs_exist_ok=True)
    raw = byte_level()
    raw.add_special_tokens(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
    write(coder, raw)

    def load(_: object) -> Services:
        tiny = load_completer("tiny", folder, dtype="float32")
        filler = load_completer("coder", coder, dtype="float32")
        return Services({}, {}, {"tiny": tiny, "coder": filler}, int(time.time()))

    with serving(load, wait_s=60) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_folder(folder)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> transformers.LlamaForCausalLM:
    return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def likelihoods(oracle: transformers.LlamaForCausalLM, ids: list[int]) -> torch.Tensor:
    """Row i: how likely each token is at place i + 1."""
    with torch.no_grad():
        return oracle(torch.tensor([ids])).logits[0].log_softmax(-1)


def refused(url: str, words: list[str], **more: object) -> None:
    response = httpx.post(f"{url}/v1/completions", json=OK | more)
    assert response.status_code == 400, response.text
    assert all(word in response.json()["error"]["message"] for word in words), response.text


def test_a_session_is_named_as_openai_does(client: openai.OpenAI, url: str) -> None:
    session = {"prompt_cache_key": "talk", "prompt_cache_retention": "in_memory"}
    first, again = (client.completions.create(**OK, extra_body=session) for _ in range(2))
    assert again.choices[0].text == first.choices[0].text
    refused(url, ["--cache-dir"], prompt_cache_key="talk", prompt_cache_retention="24h")
    refused(url, ["needs a prompt_cache_key"], prompt_cache_retention="24h")
    refused(url, ["reproducible"], prompt_cache_key="talk", reproducible=True)
    refused(url, ["prompt_cache_key"], prompt_cache_key="")
    refused(url, ["prompt_cache_retention"], prompt_cache_key="talk", prompt_cache_retention="1h")


def test_speculation_by_name_means_that_or_an_error(client: openai.OpenAI, url: str) -> None:
    off = client.completions.create(**OK, extra_body={"speculation": False})
    assert off.choices[0].text == client.completions.create(**OK).choices[0].text
    refused(url, ["--num-speculative-tokens"], speculation=True)
    refused(url, ["reproducible"], speculation=True, reproducible=True)


def test_page_selection_by_name_means_that_or_an_error(url: str) -> None:
    refused(url, ["page_selection", "--page-bounds"], page_selection={"pages": 64})
    refused(url, ["reproducible"], page_selection={"pages": 64}, reproducible=True)


def test_logprobs_are_the_model_s(
    client: openai.OpenAI, tokenizer: Tokenizer, oracle: transformers.LlamaForCausalLM
) -> None:
    answer = client.completions.create(**OK, logprobs=3, extra_body={"return_token_ids": True})
    [choice] = answer.choices
    told = choice.logprobs
    assert told is not None
    assert told.tokens is not None
    assert told.token_logprobs is not None
    assert told.top_logprobs is not None
    ids, prompt = list(choice.model_extra["token_ids"]), list(choice.model_extra["prompt_token_ids"])
    assert prompt == list(tokenizer.encode(PROMPT).ids)
    rows = likelihoods(oracle, prompt + ids)[len(prompt) - 1 :]
    for place, token_id in enumerate(ids):
        assert told.token_logprobs[place] == pytest.approx(float(rows[place, token_id]), abs=1e-4)
        best = rows[place].topk(3)
        tops = told.top_logprobs[place]
        assert max(tops.values()) == pytest.approx(float(best.values[0]), abs=1e-4)
        assert len(tops) in (2, 3), "two tokens may be one text"
        assert told.tokens[place] in tops
    joined = "".join(token for token in told.tokens if not token.startswith("bytes:"))
    assert joined.replace("\N{REPLACEMENT CHARACTER}", "") in choice.text or "bytes:" in "".join(told.tokens)


def test_offsets_lead_into_the_text(client: openai.OpenAI) -> None:
    for extra, offset in (({}, 0), ({"echo": True}, len(PROMPT))):
        [choice] = client.completions.create(**OK, logprobs=0, **extra).choices
        told = choice.logprobs
        assert told is not None
        assert told.tokens is not None
        assert told.text_offset is not None
        assert told.text_offset == sorted(told.text_offset)
        assert choice.text.startswith(PROMPT) == bool(extra)
        assert told.text_offset[-6] == offset
        # Bytes that never become a character are text together with the token behind them.
        is_whole = [not token.startswith("bytes:") for token in told.tokens]
        for place, (token, start) in enumerate(zip(told.tokens, told.text_offset, strict=True)):
            if all(is_whole[max(0, place - 1) : place + 1]):
                assert choice.text[start : start + len(token)] == token
        assert sum(is_whole) > len(is_whole) // 2


@pytest.mark.parametrize("as_tokens", [False, True])
def test_a_prompt_is_echoed_and_scored(
    client: openai.OpenAI, tokenizer: Tokenizer, oracle: transformers.LlamaForCausalLM, as_tokens: bool
) -> None:
    text = "größe ☆ star"
    ids = list(tokenizer.encode(text).ids)
    answer = client.completions.create(
        model="tiny", prompt=ids if as_tokens else text, max_tokens=0, echo=True, logprobs=1, temperature=0
    )
    [choice] = answer.choices
    assert (choice.text, choice.finish_reason) == (text, "length")
    told = choice.logprobs
    assert told is not None
    assert told.token_logprobs is not None
    assert told.token_logprobs[0] is None
    rows = likelihoods(oracle, ids)
    expected = [float(rows[place, token]) for place, token in enumerate(ids[1:])]
    assert told.token_logprobs[1:] == pytest.approx(expected, abs=1e-4)
    assert told.text_offset is not None
    assert len(told.text_offset) == len(ids)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 0)


def test_a_stream_says_the_same_and_its_logprobs_add_up(client: openai.OpenAI) -> None:
    for extra in ({}, {"echo": True}):
        [whole] = client.completions.create(**OK, logprobs=2, **extra).choices
        parts = list(client.completions.create(**OK, logprobs=2, stream=True, **extra))
        assert "".join(part.choices[0].text for part in parts) == whole.text
        assert whole.logprobs is not None
        told = [part.choices[0].logprobs for part in parts]
        for name in ("tokens", "token_logprobs", "text_offset"):
            joined = [item for piece in told if piece is not None for item in getattr(piece, name)]
            assert joined == getattr(whole.logprobs, name)
        assert parts[-1].choices[0].finish_reason == whole.finish_reason


def test_many_prompts_and_many_answers_each(client: openai.OpenAI) -> None:
    prompts = [PROMPT, "the pole star", "größe"]
    alone = [client.completions.create(**OK | {"prompt": prompt}).choices[0].text for prompt in prompts]
    answer = client.completions.create(**OK | {"prompt": prompts}, n=2)
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert [choice.text for choice in answer.choices] == [text for text in alone for _ in range(2)]
    assert answer.usage is not None
    single = client.completions.create(**OK | {"prompt": prompts})
    assert single.usage is not None
    assert answer.usage.prompt_tokens == single.usage.prompt_tokens
    assert answer.usage.completion_tokens == 2 * single.usage.completion_tokens
    parts = list(client.completions.create(**OK | {"prompt": prompts}, n=2, stream=True))
    texts = [""] * 6
    for part in parts:
        texts[part.choices[0].index] += part.choices[0].text
    assert texts == [choice.text for choice in answer.choices]
    assert sum(part.choices[0].finish_reason is not None for part in parts) == 6


def test_seeds_of_several_answers_follow_each_other(client: openai.OpenAI) -> None:
    drawn = OK | {"temperature": 1.5, "max_tokens": 12}
    answer = client.completions.create(**drawn, n=3, seed=40)
    texts = [choice.text for choice in answer.choices]
    assert len(set(texts)) == 3
    for place, text in enumerate(texts):
        assert client.completions.create(**drawn, seed=40 + place).choices[0].text == text


def test_the_best_of_several_is_the_likeliest(client: openai.OpenAI) -> None:
    drawn = OK | {"temperature": 1.5, "max_tokens": 8, "seed": 7}
    every = client.completions.create(**drawn, n=4, logprobs=0)

    def mean(choice: CompletionChoice) -> float:
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        return sum(choice.logprobs.token_logprobs) / len(choice.logprobs.token_logprobs)

    ranked = sorted(every.choices, key=mean, reverse=True)
    best = client.completions.create(**drawn, best_of=4, n=2)
    assert [choice.text for choice in best.choices] == [choice.text for choice in ranked[:2]]
    assert best.choices[0].logprobs is None
    assert best.usage is not None
    assert every.usage is not None
    assert best.usage.completion_tokens == every.usage.completion_tokens, "all that was drawn is paid"


def test_prompt_logprobs(url: str, tokenizer: Tokenizer, oracle: transformers.LlamaForCausalLM) -> None:
    body = httpx.post(f"{url}/v1/completions", json=OK | {"prompt_logprobs": 2, "max_tokens": 1}).json()
    rows = body["choices"][0]["prompt_logprobs"]
    ids = tokenizer.encode(PROMPT).ids
    expected = likelihoods(oracle, list(ids))
    assert rows[0] is None
    assert len(rows) == len(ids)
    for place, token_id in enumerate(ids[1:]):
        found = rows[place + 1][str(token_id)]
        assert found["logprob"] == pytest.approx(float(expected[place, token_id]), abs=1e-4)
        assert found["decoded_token"]
        best = next(item for item in rows[place + 1].values() if item["rank"] == 1)
        assert best["logprob"] == pytest.approx(float(expected[place].max()), abs=1e-4)


def test_stop_strings_end_a_text_before_or_behind_themselves(client: openai.OpenAI) -> None:
    long = OK | {"max_tokens": 12}
    whole = client.completions.create(**long).choices[0].text
    stop = whole[4:6]
    place = whole.find(stop)
    before = client.completions.create(**long, stop=["zzzz", stop], logprobs=0).choices[0]
    assert (before.text, before.finish_reason) == (whole[:place], "stop")
    assert before.logprobs is not None
    assert before.logprobs.text_offset is not None
    assert all(offset < place for offset in before.logprobs.text_offset), "its tokens are no part of it"
    behind = client.completions.create(**long, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert behind.choices[0].text == whole[: place + len(stop)]


def test_a_stopped_answer_tells_what_was_found_too(client: openai.OpenAI) -> None:
    long = OK | {"prompt": "the pole star " * 8, "max_tokens": 4}
    text = client.completions.create(**long).choices[0].text
    again = client.completions.create(**long, stop=text[1])
    assert again.choices[0].finish_reason == "stop"
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert (again.usage.prompt_tokens_details.cached_tokens or 0) >= 32


def test_what_ends_an_answer_is_counted_and_is_no_text(client: openai.OpenAI, tokenizer: Tokenizer) -> None:
    [free] = client.completions.create(**OK, extra_body={"return_token_ids": True}).choices
    ids = free.model_extra["token_ids"]
    [ended] = client.completions.create(
        **OK, logprobs=0, extra_body={"stop_token_ids": [ids[3]], "return_token_ids": True}
    ).choices
    count = ids.index(ids[3]) + 1
    assert (ended.finish_reason, ended.model_extra["token_ids"]) == ("stop", ids[:count])
    assert ended.text == tokenizer.decode(ids[: count - 1])
    assert ended.logprobs is not None
    assert ended.logprobs.tokens is not None
    assert len(ended.logprobs.tokens) == count


def test_control_tokens_are_text_where_that_is_asked_for(url: str, tokenizer: Tokenizer) -> None:
    special = tokenizer.token_to_id("<|im_start|>")
    forced = OK | {"logit_bias": {str(special): 100}, "max_tokens": 2}
    for extra, text in (({}, ""), ({"skip_special_tokens": False}, "<|im_start|>" * 2)):
        response = httpx.post(f"{url}/v1/completions", json=forced | extra)
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["text"] == text


def test_a_reproducible_answer_is_the_same_in_a_crowd(client: openai.OpenAI) -> None:
    extra = {"reproducible": True}
    alone = client.completions.create(**OK, logprobs=1, extra_body=extra).choices[0].logprobs
    crowd = client.completions.create(
        **OK | {"prompt": [PROMPT, "a", "b" * 20]}, logprobs=1, extra_body=extra
    )
    assert alone is not None
    assert crowd.choices[0].logprobs is not None
    assert crowd.choices[0].logprobs.token_logprobs == alone.token_logprobs, "bit for bit"


def test_an_answer_that_would_come_too_late_is_refused(url: str) -> None:
    # Served once, so that there is a pace to predict from.
    long = OK | {"max_tokens": 60, "ignore_eos": True}
    httpx.post(f"{url}/v1/completions", json=long).raise_for_status()
    for stream in (False, True):
        refusal = httpx.post(f"{url}/v1/completions", json=long | {"deadline_ms": 1, "stream": stream})
        assert refusal.status_code == 503
        assert int(refusal.headers["Retry-After"]) >= 1
        error = refusal.json()["error"]
        assert error["code"] == "deadline_unmet"
        assert "deadline" in error["message"]
    in_time = httpx.post(f"{url}/v1/completions", json=long | {"deadline_ms": 600_000, "priority": 3})
    assert in_time.status_code == 200


def test_a_gap_is_filled_in(client: openai.OpenAI, url: str) -> None:
    answer = client.completions.create(**OK | {"model": "coder"}, suffix=" by the star", logprobs=0)
    written = f"<|fim_prefix|>{PROMPT}<|fim_suffix|> by the star<|fim_middle|>"
    ids = byte_level()
    ids.add_special_tokens(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
    arranged = ids.encode(written).ids
    same = client.completions.create(**OK | {"model": "coder", "prompt": arranged}, logprobs=0)
    assert answer.choices[0].text == same.choices[0].text
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(arranged)
    refused(url, ["suffix", "tokens"], model="coder", prompt=[1, 2], suffix="x")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"suffix": "x"}, ["suffix", "vocabulary"]),
        ({"n": 33}, ["n", "32"]),
        ({"n": 3, "best_of": 2}, ["best_of"]),
        ({"best_of": 2, "stream": True}, ["streamed"]),
        ({"max_tokens": 0}, ["max_tokens", "echo"]),
        ({"logprobs": 21}, ["logprobs", "20"]),
        ({"prompt_logprobs": 1, "stream": True}, ["prompt_logprobs"]),
        ({"prompt": ["a"] * 100, "n": 3}, ["300", "256"]),
        ({"prompt": [[1], []]}, ["prompt"]),
        ({"prompt": []}, ["prompt"]),
        ({"prompt": ["a", [1]]}, ["prompt"]),
        ({"prompt": [PROMPT, "b" * MAX_MODEL_LEN]}, [str(MAX_MODEL_LEN)]),
        ({"prompt": [[1], [9999]]}, ["9999"]),
        ({"prompt": [9999], "echo": True}, ["9999"]),
        ({"suffix": "x", "echo": True}, ["suffix and echo"]),
        ({"stop": ["a"] * 17}, ["16"]),
        ({"user": "me", "safety_identifier": "you"}, ["two people"]),
    ],
)
def test_what_can_not_be_is_refused_by_name(url: str, more: dict[str, Any], words: list[str]) -> None:
    refused(url, words, **more)


def test_nothing_is_left_running_when_one_prompt_of_many_is_refused(url: str) -> None:
    refused(url, [str(MAX_MODEL_LEN)], prompt=[PROMPT, "b" * MAX_MODEL_LEN])
    ended = time.monotonic() + 5
    while 'num_requests_running{model_name="tiny"} 0.0' not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < ended
        time.sleep(0.02)
