"""Answers that quote, over HTTP: held to the given texts, told where from, refused beside other forms."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import openai
import pytest
from pydantic import ValidationError

from cynosure.cli.local_completer import load_completer
from cynosure.engine.constraints import MAX_NAMES, MAX_QUOTED_BYTES
from cynosure.engine.grammar.names import python_names
from cynosure.guard import Policy, Rules
from cynosure.server.records.oversight import Oversight
from cynosure.server.schemas.completions import CompletionRequest
from cynosure.server.services import Services
from tests.guard.cases import CARD
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

DOCS = ("The pole star stands still.\nAll others move: 東京 🙂.", "A sailor steers by it.")
EOS = 2
#: A random model ends nowhere by itself.
ENDS = {"logit_bias": {str(EOS): 6.0}, "max_tokens": 60}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tiny")
    write_decoder(folder, 1024)

    def load(_: object) -> Services:
        return Services({}, {}, {"tiny": load_completer("tiny", folder, dtype="float32")}, int(time.time()))

    policy = Policy(input=Rules(), output=Rules())
    with serving(load, wait_s=60, oversight=Oversight(policy=policy)) as address:
        yield address


def post(url: str, path: str, status: int = 200, **body: object) -> dict[str, Any]:
    answer = httpx.post(f"{url}{path}", json={"model": "tiny"} | body, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(url: str, path: str, **body: object) -> str:
    return post(url, path, 400, **body)["error"]["message"]


def asked(**more: object) -> dict[str, object]:
    parts = [
        {"type": "text", "text": "Which star stands still?"},
        {"type": "text", "text": DOCS[0], "segment": "doc:pole"},
        {"type": "text", "text": DOCS[1], "segment": "doc:sailor"},
        {"type": "text", "text": "Be brief.", "segment": "note"},
    ]
    return {"messages": [{"role": "user", "content": parts}], **more}


def assert_told(text: str, report: Mapping[str, Any], names: tuple[str | None, ...], shift: int = 0) -> None:
    """The spans are the text, but for the line breaks between them."""
    assert report["type"] == "verbatim"
    place = shift
    for span in report["spans"]:
        assert span["author"] == "constraint"
        assert span["start"] == place
        said = text[span["start"] : span["end"]]
        assert DOCS[span["text"]][span["text_start"] : span["text_end"]] == said
        assert span["segment"] == names[span["text"]]
        place = span["end"] + 1
    assert report["spans"]
    assert place == len(text) + 1


NAMED, UNNAMED = ("doc:pole", "doc:sailor"), (None, None)


def test_a_conversation_is_answered_by_quotes_of_its_documents(url: str) -> None:
    for seed in range(4):
        answer = post(url, "/v1/chat/completions", **asked(grounding="verbatim", seed=seed, n=2), **ENDS)
        for choice in answer["choices"]:
            assert choice["finish_reason"] == "stop"
            assert_told(choice["message"]["content"], choice["grounding"], NAMED)


def test_without_it_a_random_model_quotes_nothing_and_nothing_is_told(url: str) -> None:
    choice = post(url, "/v1/chat/completions", **asked(seed=1), max_tokens=12)["choices"][0]
    assert "grounding" not in choice
    assert not any(choice["message"]["content"] in doc for doc in DOCS)


def test_a_stream_tells_at_its_end_what_the_whole_does(url: str) -> None:
    body = asked(grounding={"type": "verbatim", "segments": ["doc:sailor"], "min_chars": 5}, seed=3, **ENDS)
    whole = post(url, "/v1/chat/completions", **body)["choices"][0]
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        held = {"grounding": body.pop("grounding")}
        chunks = list(client.chat.completions.create(model="tiny", stream=True, extra_body=held, **body))  # type: ignore[call-overload]
    content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert content == whole["message"]["content"]
    told = [chunk.choices[0].model_extra.get("grounding") for chunk in chunks]
    assert told[:-1] == [None] * (len(told) - 1)
    assert told[-1] == whole["grounding"]
    for span in told[-1]["spans"]:
        assert content[span["start"] : span["end"]] == DOCS[1][span["text_start"] : span["text_end"]]
        assert span["segment"] == "doc:sailor"
        assert span["end"] - span["start"] >= 5


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("echo", [False, True])
def test_completions_quote_given_texts(url: str, stream: bool, echo: bool) -> None:
    body: dict[str, Any] = {"grounding": {"type": "verbatim", "texts": DOCS}, "echo": echo, "seed": 5, **ENDS}
    if not stream:
        answer = post(url, "/v1/completions", prompt=["What? ", "Who?"], n=2, **body)
        for choice in answer["choices"]:
            shift = len(["What? ", "Who?"][choice["index"] // 2]) if echo else 0
            assert_told(choice["text"], choice["grounding"], UNNAMED, shift)
        return
    request = {"model": "tiny", "prompt": "What? ", "stream": True, **body}
    events = httpx.post(f"{url}/v1/completions", json=request, timeout=60).text
    choices = [json.loads(event)["choices"][0] for event in re.findall(r"data: (\{.*\})", events)]
    text = "".join(choice["text"] for choice in choices)
    assert_told(text, choices[-1]["grounding"], UNNAMED, len("What? ") if echo else 0)
    assert not any("grounding" in choice for choice in choices[:-1])


def test_completions_quote_named_stretches_of_their_prompt(url: str) -> None:
    prompt = f"{DOCS[1]} -- {DOCS[0]} -- What?"
    second = len(DOCS[1]) + 4
    segments = [{"id": "doc:pole", "start": second, "end": second + len(DOCS[0])}]
    answer = post(
        url, "/v1/completions", prompt=prompt, attention={"segments": segments}, grounding="verbatim", **ENDS
    )
    choice = answer["choices"][0]
    assert_told(choice["text"], choice["grounding"], ("doc:pole",))


def test_responses_quote_given_texts(url: str) -> None:
    held = {"grounding": {"type": "verbatim", "texts": DOCS, "min_chars": 3}, "max_output_tokens": 40}
    answer = post(url, "/v1/responses", input="Which star?", temperature=0.9, **held)
    text = answer["output"][0]["content"][0]["text"]
    if answer["status"] == "completed":
        assert_told(text, answer["grounding"], UNNAMED)
    for span in answer["grounding"]["spans"]:
        assert text[span["start"] : span["end"]] == DOCS[span["text"]][span["text_start"] : span["text_end"]]
    events = httpx.post(
        f"{url}/v1/responses", timeout=60, json={"model": "tiny", "input": "x", "stream": True} | held
    )
    last = json.loads(re.findall(r"data: (\{.*\})", events.text)[-1])
    assert last["response"]["grounding"]["spans"]
    assert post(url, "/v1/responses", input="x", max_output_tokens=2)["grounding"] is None


def test_explain_tells_of_the_constraint(url: str) -> None:
    answer = httpx.post(
        f"{url}/v1/completions",
        json={"model": "tiny", "prompt": "a", "grounding": {"type": "verbatim", "texts": ["abc"]}},
    )
    told = httpx.get(f"{url}/v1/requests/{answer.headers['x-request-id']}/explain").json()
    assert told["sequences"][0]["constraint"]["kind"] == "verbatim"
    assert told["sequences"][0]["constraint"]["num_tokens"] > 0


CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
HELD = {"type": "verbatim", "texts": ["abc"]}


@pytest.mark.parametrize(
    ("path", "fields", "said"),
    [
        (CHAT, {"grounding": HELD, "response_format": {"type": "json_object"}}, r"\(json_schema, verbatim\)"),
        (CHAT, {"grounding": HELD, "guided_regex": "a"}, r"2 constraints are given \(regex, verbatim\)"),
        (CHAT, {"grounding": HELD, "tools": [TOOL]}, "grounding asks for the one, tools for the other"),
        (CHAT, {"grounding": HELD, "tools": [TOOL], "tool_choice": "required"}, "calls no functions"),
        (CHAT, {"grounding": "verbatim", "messages": [{"role": "user", "content": "x"}]}, "send texts"),
        (CHAT, {"grounding": {"type": "verbatim", "segments": ["doc:x"]}}, r"'doc:x'; named here: doc:pole"),
        (CHAT, {"grounding": {"type": "verbatim", "segments": ["note"], "texts": ["a"]}}, "give one of them"),
        (CHAT, {"grounding": "literal"}, "verbatim"),
        (CHAT, {"grounding": {"type": "literal"}}, "verbatim"),
        (CHAT, {"grounding": {"type": "verbatim", "min_tokens": 3}}, "'min_tokens' is not known"),
        (CHAT, {"grounding": {**HELD, "min_chars": 0}}, "min_chars"),
        (CHAT, {"grounding": {**HELD, "min_chars": 4}}, "no text has 4 characters in a row"),
        (CHAT, {"grounding": {"type": "verbatim", "texts": []}}, "texts"),
        (CHAT, {"grounding": {"type": "verbatim", "texts": [""]}}, "texts"),
        (CHAT, {"names": ["a"]}, "'names' is not known"),
        (TEXT, {"grounding": "verbatim"}, "attention.segments"),
        (TEXT, {"grounding": HELD, "guided_choice": ["a"]}, r"\(choice, verbatim\)"),
        (TEXT, {"grounding": HELD, "names": ["a"]}, r"\(verbatim, names\)"),
        (TEXT, {"grounding": {"type": "verbatim", "texts": ["a" * (MAX_QUOTED_BYTES + 1)]}}, "is 262144"),
        (TEXT, {"names": ["a b"]}, "'a b' is no name of Python"),
        (TEXT, {"names": ["a"], "response_format": {"type": "json_object"}}, r"\(json_schema, names\)"),
        (TEXT, {"names": "a"}, "names"),
        (RESPONSES, {"grounding": "verbatim"}, "Send texts"),
        (RESPONSES, {"grounding": HELD, "text": {"format": {"type": "json_object"}}}, r"\(json_schema, v"),
        (RESPONSES, {"grounding": HELD, "tools": [{"type": "function", "name": "look"}]}, "calls no funct"),
    ],
)  # fmt: skip
def test_what_can_not_be_meant_is_refused_by_name(
    url: str, path: str, fields: dict[str, object], said: str
) -> None:
    plain: dict[str, object] = {CHAT: asked(), TEXT: {"prompt": "x"}, RESPONSES: {"input": "x"}}[path]  # type: ignore[assignment]
    assert re.search(said, refused(url, path, **(plain | fields)))


def test_names_are_bounded() -> None:
    with pytest.raises(ValidationError, match=f"at most {MAX_NAMES}"):
        CompletionRequest.model_validate({"model": "m", "prompt": "p", "names": ["a"] * (MAX_NAMES + 1)})


def test_texts_to_quote_are_read_by_the_guard(url: str) -> None:
    held = {"type": "verbatim", "texts": ["harmless", f"pay with {CARD}"]}
    answer = httpx.post(f"{url}/v1/completions", json={"model": "tiny", "prompt": "x", "grounding": held})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "content_policy_violation"
    assert "card in grounding.texts[1]" in error["message"]
    assert CARD not in error["message"]


def test_code_has_known_names_behind_every_prompt(url: str) -> None:
    names, prompts = ["star", "centre"], ["sky.st", "'a str", [60, 61]]
    for prompt in prompts:
        answer = post(url, "/v1/completions", prompt=prompt, names=names, seed=2, **ENDS)
        text = answer["choices"][0]["text"]
        if prompt == "sky.st":
            first = re.match(r"\w*", text)
            assert first is not None
            assert f"st{first[0]}" in {*names, *python_names()}
    both = post(url, "/v1/completions", prompt=prompts[:2], names=names, seed=2, **ENDS)["choices"]
    assert (
        both[0]["text"]
        == post(url, "/v1/completions", prompt="sky.st", names=names, seed=2, **ENDS)["choices"][0]["text"]
    )
