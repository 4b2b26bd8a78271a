"""Attention on the API: whose words an answer attended to, in one piece and in a stream; what is denied."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from cynosure.cli.local_completer import load_completer
from cynosure.server.runtime import Report
from cynosure.server.services import Services
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

STORY = "The first sentence is here. " * 3 + "A secret: 4711 🦊!"
MESSAGES = [
    {"role": "system", "content": "Be brief, naïve fox."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": STORY, "segment": "doc:1"},
            {"type": "text", "text": "Another text.", "segment": "doc:2"},
            {"type": "text", "text": "What is it about?"},
        ],
    },
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=1024)
    write(folder, byte_level())
    (folder / "chat_template.jinja").write_text(SOURCE)

    def load(_: Report) -> Services:
        completer = load_completer("tiny", folder, dtype="float32")
        return Services({}, {}, {"tiny": completer}, int(time.time()))

    with serving(load, wait_s=60) as address:
        yield address


def chat(url: str, attention: dict[str, Any] | None, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    body |= options if attention is None else {"attention": attention, **options}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()


def events(url: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    with httpx.stream("POST", f"{url}{path}", json=body | {"stream": True}, timeout=60) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def sum_of(told: dict[str, Any]) -> float:
    segments = told["segments"] if "segments" in told else [{"mass": mass} for mass in told["mass"].values()]
    others = ("sink_mass", "template_mass", "generated_mass")
    return sum(one["mass"] for one in segments) + sum(told[name] for name in others)


def test_an_answer_says_what_it_attended_to(url: str) -> None:
    told = chat(url, {"level": "summary"})["choices"][0]["attention"]
    assert [(one["id"], one["role"], one["source"]) for one in told["segments"]] == [
        ("system", "system", {"message": 0, "part": None}),
        ("doc:1", "document", {"message": 1, "part": 0}),
        ("doc:2", "document", {"message": 1, "part": 1}),
        ("user:0", "user", {"message": 1, "part": 2}),
    ]
    # Code points, not bytes or UTF-16 units.
    assert [(one["start"], one["end"]) for one in told["segments"]][:2] == [(0, 20), (0, len(STORY))]
    assert all(one["num_tokens"] > 0 and 0 < one["mass"] < 1 for one in told["segments"])
    assert sum_of(told) == pytest.approx(1, abs=1e-5)
    assert 0 < told["entropy_bits"] < 10
    assert told["num_tokens"] == 6
    assert told["coverage"]["tokens"] == 1.0
    assert 0 < told["coverage"]["heads"] < 1
    assert "no profile" in told["coverage"]["reason"]
    assert "tokens" not in told


def test_it_is_not_there_where_nobody_asks(url: str) -> None:
    for attention in (None, {"level": "off"}, {}):
        assert "attention" not in chat(url, attention)["choices"][0]


def test_asking_changes_no_word(url: str) -> None:
    answers = {
        chat(url, attention, seed=3, temperature=1)["choices"][0]["message"]["content"]
        for attention in (None, {"level": "summary"}, {"level": "full", "every": 2}, {"level": "topk"})
    }
    assert len(answers) == 1


@pytest.mark.parametrize("level", ["summary", "topk", "full"])
def test_a_stream_tells_of_each_token_and_at_last_of_all(url: str, level: str) -> None:
    attention = {"level": level, "heads": [[0, 1], [1, 0]]}
    whole = chat(url, attention)["choices"][0]["attention"]
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    pieces = events(url, "/v1/chat/completions", body | {"attention": attention})
    told = [piece["choices"][0].get("attention") for piece in pieces]
    *parts, last = [one for one in told if one is not None]
    assert last == {name: value for name, value in whole.items() if name != "tokens"}
    tokens = [token for part in parts for token in part["tokens"]]
    assert [token["index"] for token in tokens] == list(range(6))
    if level != "summary":
        assert tokens == whole["tokens"]
    if level == "topk":
        masses = [list(token["mass"].values()) for token in tokens]
        assert all(row == sorted(row, reverse=True) and len(row) == 5 for row in masses)
        return
    for token in tokens:
        assert sum_of(token) == pytest.approx(1, abs=1e-5)
    for segment in last["segments"]:
        mean = sum(token["mass"][segment["id"]] for token in tokens) / len(tokens)
        assert mean == pytest.approx(segment["mass"], abs=1e-6)
    for name in ("sink_mass", "template_mass", "generated_mass", "entropy_bits"):
        assert sum(token[name] for token in tokens) / len(tokens) == pytest.approx(last[name], abs=1e-6)


def test_the_most_attended_sentences(url: str) -> None:
    told = chat(url, {"level": "topk", "top_k": 2})["choices"][0]["attention"]
    sentences = [one for one in told["segments"] if one["id"].startswith("doc:1")]
    assert [one["id"] for one in sentences] == [f"doc:1#{number}" for number in range(4)]
    texts = [STORY[one["start"] : one["end"]] for one in sentences]
    assert texts[0] == "The first sentence is here. "
    assert "".join(texts) == STORY
    assert all(len(token["mass"]) == 2 for token in told["tokens"])


def test_some_tokens_alone(url: str) -> None:
    told = chat(url, {"level": "full", "every": 4})["choices"][0]["attention"]
    assert [token["index"] for token in told["tokens"]] == [0, 4]
    assert told["coverage"]["tokens"] == pytest.approx(2 / 6)


def test_each_of_several_answers(url: str) -> None:
    choices = chat(url, {"level": "summary"}, n=2, temperature=1.5, seed=1)["choices"]
    assert all(sum_of(choice["attention"]) == pytest.approx(1, abs=1e-5) for choice in choices)
    assert choices[0]["attention"] != choices[1]["attention"]


def test_what_is_denied_is_attended_to_by_nothing_and_tells_nothing(url: str) -> None:
    def answer(secret: str, deny: list[str]) -> tuple[list[Any], dict[str, float]]:
        messages = json.loads(json.dumps(MESSAGES).replace("4711", secret))
        attention = {"level": "summary", "deny": deny}
        choice = chat(url, attention, messages=messages, logprobs=True, top_logprobs=5)["choices"][0]
        masses = {one["id"]: one["mass"] for one in choice["attention"]["segments"]}
        return choice["logprobs"]["content"], masses

    def gap(ours: list[Any], theirs: list[Any]) -> float:
        pairs = [
            (one["logprob"], other["logprob"])
            for mine, yours in zip(ours, theirs, strict=True)
            for one, other in zip(mine["top_logprobs"], yours["top_logprobs"], strict=True)
        ]
        return max(abs(one - other) for one, other in pairs)

    first, masses = answer("4711", ["doc:1"])
    assert masses["doc:1"] == 0.0
    assert masses["doc:2"] > 0.0
    assert gap(first, answer("0815", ["doc:1"])[0]) <= 1e-6
    # The positive control.
    assert gap(answer("4711", [])[0], answer("0815", [])[0]) > 1e-4


def test_what_is_weighed_is_attended_to_more(url: str) -> None:
    def mass(add: float | None) -> float:
        bias = [] if add is None else [{"segment": "doc:2", "add": add}]
        told = chat(url, {"level": "summary", "bias": bias}, max_tokens=1)["choices"][0]["attention"]
        return next(one["mass"] for one in told["segments"] if one["id"] == "doc:2")

    assert mass(-2.0) < mass(None) < mass(2.0)


@pytest.mark.parametrize(
    ("attention", "words"),
    [
        ({"level": "all"}, "should be 'off', 'summary'"),
        ({"level": "summary", "citations": True}, "field 'attention' is not usable"),
        ({"citations": {}}, "tiny has no weights for them"),
        ({"citations": {}, "heads": [[0, 0]]}, "leave heads and every out"),
        ({"level": "summary", "heads": [[0, 99]]}, "head 99 of layer 0"),
        ({"level": "summary", "heads": []}, "at least 1 item"),
        ({"level": "summary", "top_k": 3}, "top_k needs level topk"),
        ({"every": 3}, "level is off"),
        ({"level": "summary", "every": 0}, "greater than or equal to 1"),
        ({"bias": [{"segment": "system", "add": 99}]}, "less than or equal to 10"),
        ({"deny": ["doc:7"]}, "'doc:7' is no segment of the prompt; its segments are system, doc:1"),
        ({"deny": ["template"]}, "'template' is no segment"),
        ({"deny": ["system"], "bias": [{"segment": "system", "add": 1}]}, "more than once"),
    ],
)
def test_what_is_refused(url: str, attention: dict[str, Any], words: str) -> None:
    failure = chat(url, attention)["error"]
    assert words in failure["message"]
    assert failure["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["system", "user:1", "template", "generated:2", "a b", "doc:"])
def test_names_that_no_caller_may_give(url: str, name: str) -> None:
    content = [{"type": "text", "text": "x", "segment": name}]
    assert "error" in chat(url, None, messages=[{"role": "user", "content": content}])


def test_a_completion_tells_of_its_prompt(url: str) -> None:
    body = {"model": "tiny", "prompt": [STORY, "Hi."], "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    attention = {"level": "full"}
    answer = httpx.post(f"{url}/v1/completions", json=body | {"attention": attention}, timeout=60).json()
    for choice, text in zip(answer["choices"], (STORY, "Hi."), strict=True):
        told = choice["attention"]
        (segment,) = told["segments"]
        assert (segment["id"], segment["start"], segment["end"]) == ("prompt", 0, len(text))
        assert sum_of(told) == pytest.approx(1, abs=1e-5)
        # There is nothing but the prompt for the first token, and something for the last.
        assert told["tokens"][0]["generated_mass"] == 0.0 < told["tokens"][-1]["generated_mass"]
    pieces = events(url, "/v1/completions", body | {"prompt": "Hi.", "attention": attention})
    told = [piece["choices"][0].get("attention") for piece in pieces]
    *parts, last = [one for one in told if one is not None]
    assert [token for part in parts for token in part["tokens"]] == answer["choices"][1]["attention"][
        "tokens"
    ]
    assert last["num_tokens"] == 4


def test_a_prompt_of_tokens_has_no_offsets(url: str) -> None:
    body = {"model": "tiny", "prompt": [5, 6, 7], "max_tokens": 2, "attention": {"level": "summary"}}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()
    (segment,) = answer["choices"][0]["attention"]["segments"]
    assert (segment["start"], segment["end"], segment["num_tokens"]) == (None, None, 3)


def test_the_stock_client_asks_for_it(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": "Hello."}],
            max_tokens=3,
            extra_body={"attention": {"level": "summary"}},
        )
    told = (answer.choices[0].model_extra or {})["attention"]
    assert told["segments"][0]["id"] == "user:0"


@pytest.mark.parametrize("level", ["summary", "full"])
def test_messages_tell_it_too(url: str, level: str) -> None:
    body = {
        "model": "tiny",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": STORY}]}],
        "max_tokens": 4,
        "temperature": 0,
    }
    plain = httpx.post(f"{url}/v1/messages", json=body, timeout=60).json()
    assert "attention" not in plain
    attention = {"level": level, "deny": ["system"]}
    told = httpx.post(f"{url}/v1/messages", json=body | {"attention": attention}, timeout=60).json()[
        "attention"
    ]
    assert [(one["id"], one["end"]) for one in told["segments"]] == [("system", 9), ("user:0", len(STORY))]
    assert told["segments"][0]["mass"] == 0.0
    assert sum_of(told) == pytest.approx(1, abs=1e-5)
    assert ("tokens" in told) == (level == "full")
    pieces = events(url, "/v1/messages", body | {"attention": attention})
    (last,) = [piece for piece in pieces if piece["type"] == "message_delta"]
    assert last["attention"] == told


def test_responses_tell_it_too(url: str) -> None:
    body = {
        "model": "tiny",
        "instructions": "Be brief.",
        "input": STORY,
        "max_output_tokens": 4,
        "temperature": 0,
    }
    assert httpx.post(f"{url}/v1/responses", json=body, timeout=60).json()["attention"] is None
    attention = {"level": "full", "heads": [[1, 2]]}
    whole = httpx.post(f"{url}/v1/responses", json=body | {"attention": attention}, timeout=60).json()
    told = whole["attention"]
    assert [(one["id"], one["end"]) for one in told["segments"]] == [("system", 9), ("user:0", len(STORY))]
    assert sum_of(told) == pytest.approx(1, abs=1e-5)
    assert [token["index"] for token in told["tokens"]] == list(range(len(told["tokens"])))
    last = events(url, "/v1/responses", body | {"attention": attention})[-1]
    assert last["response"]["attention"] == told


def test_parts_of_a_completion_s_prompt_have_names(url: str) -> None:
    prompt = "Read: a naïve 🦊 text. And: another one. Then answer."
    spans = [("doc:1", "a naïve 🦊 text."), ("doc:2", "another one.")]
    named = [
        {"id": name, "start": prompt.index(text), "end": prompt.index(text) + len(text)}
        for name, text in spans
    ]
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 3, "temperature": 0}
    attention = {"level": "summary", "segments": named, "deny": ["doc:2"]}
    answer = httpx.post(f"{url}/v1/completions", json=body | {"attention": attention}, timeout=60).json()
    told = answer["choices"][0]["attention"]
    assert [one["id"] for one in told["segments"]] == ["prompt", "doc:1", "prompt.1", "doc:2", "prompt.2"]
    assert "".join(prompt[one["start"] : one["end"]] for one in told["segments"]) == prompt
    assert [one["mass"] == 0.0 for one in told["segments"]] == [False, False, False, True, False]
    assert sum_of(told) == pytest.approx(1, abs=1e-5)
    bad = [
        ({"segments": [named[0] | {"end": 999}]}, "52 code points", {}),
        ({"segments": named[::-1]}, "sorted and apart", {}),
        ({"segments": named}, "one prompt that is a text", {"prompt": [1, 2]}),
    ]
    for wrong, words, more in bad:
        asked = body | more | {"attention": wrong}
        assert words in httpx.post(f"{url}/v1/completions", json=asked, timeout=60).json()["error"]["message"]
    assert "'segments' is not known" in chat(url, {"segments": named})["error"]["message"]


def test_tokenizing_calls_parts_the_same(url: str) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "return_segments": True}
    segments = httpx.post(f"{url}/tokenize", json=body, timeout=60).json()["segments"]
    names = [segment["name"] for segment in segments]
    assert names == ["template", "system", "doc:1", "doc:2", "user:0"]
