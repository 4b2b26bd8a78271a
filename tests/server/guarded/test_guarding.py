"""No route goes around the guard: what models read, what stores quote, what answers say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anthropic
import httpx
import numpy as np
import openai
import pytest

from cynosure.guard import Action, Policy, Rules
from cynosure.server.records.oversight import Oversight
from cynosure.server.services import Attended, Highlight, Quote, ScoreKind, Scores, Services, Vectors
from tests.guard import cases
from tests.server.chat_models import ScriptedModel, scripted
from tests.server.fakes import CREATED, FakeEmbedder, FakeStore, services, serving

CARD = cases.CARD
BLOCKS = Policy(*[Rules.every(Action.BLOCK)] * 3)
OPEN = Policy(*[Rules.every(Action.ALLOW)] * 3)


@dataclass
class ReadingEmbedder(FakeEmbedder):
    """Keeps the texts that it was made to read."""

    read: list[str] = field(default_factory=list)

    async def embed(self, texts: Sequence[str], tenant: str = "") -> Vectors:
        self.read += texts
        return await super().embed(texts, tenant)

    def text_of(self, token_ids: Sequence[int]) -> str:
        return CARD


class LeakyStore(FakeStore):
    """Quotes a card, with the words around it attended to."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def search(self, query: str, max_results: int) -> Sequence[Quote]:
        self.asked.append(query)
        text = f"pay with {CARD} today"
        end = text.index(" today")
        words = (Attended(0, 3, 0.5), Attended(9, 13, 1.0), Attended(end + 1, end + 6, 0.2))
        # A heading and a file's name are its owner's words too.
        name, file = f"pay.md: {CARD}", f"pay {CARD}.md"
        leaky = Quote(
            text, name, "section", f"(card='{CARD}')", 0, len(text), 0.9, 0.9, words, file,
            highlight=Highlight(9, len(text)),
        )  # fmt: skip
        return [leaky, *await super().search(query, max_results)][:max_results]


@dataclass
class House:
    """What is served, and the address."""

    url: str
    model: ScriptedModel
    embedder: ReadingEmbedder
    store: LeakyStore

    def post(self, path: str, body: dict[str, object], status: int = 200) -> httpx.Response:
        response = httpx.post(f"{self.url}{path}", json=body)
        assert response.status_code == status, response.text
        return response

    @property
    def last_prompt(self) -> str:
        return self.model.tokenizer.decode(self.model.prompts[-1], skip_special_tokens=False)


@contextmanager
def house(folder: Path, policy: Policy | None, answer: str = "Hello there.") -> Iterator[House]:
    model, embedder, store = scripted(folder), ReadingEmbedder(), LeakyStore()
    model.answer = answer
    made = Services({embedder.name: embedder}, {store.name: store}, {model.name: model}, CREATED)
    with serving(lambda _: made, oversight=Oversight(policy)) as url:
        yield House(url, model, embedder, store)


@pytest.fixture(scope="module")
def redacting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("redacting"), Policy()) as made:
        yield made


@pytest.fixture(scope="module")
def blocking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("blocking"), BLOCKS) as made:
        yield made


TOOL = {"type": "function", "function": {"name": "pay", "description": f"e.g. {CARD}", "parameters": {}}}
CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "pay", "arguments": json.dumps({"card": CARD, "password": "Tr0ub4dor&3x"})},
}


def said(content: object, **more: object) -> dict[str, object]:
    return {"model": "scripted", "messages": [{"role": "user", "content": content}]} | more


#: Every way in which a caller's words reach a model that generates: where they stand, and the request.
WAYS_IN = {
    "prompt": ("/v1/completions", {"model": "scripted", "prompt": f"pay {CARD} now"}),
    "messages[0].content": ("/v1/chat/completions", said(f"pay {CARD} now")),
    "messages[0].content[1].text": (
        "/v1/chat/completions",
        said([{"type": "text", "text": "pay"}, {"type": "text", "text": CARD}]),
    ),
    "tools": ("/v1/chat/completions", said("pay", tools=[TOOL])),
    "messages[1].tool_calls": (
        "/v1/chat/completions",
        {
            "model": "scripted",
            "messages": [
                {"role": "user", "content": "pay"},
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "done"},
            ],
        },
    ),
    "messages[2].content": (
        "/v1/chat/completions",
        {
            "model": "scripted",
            "messages": [
                {"role": "user", "content": "pay"},
                {
                    "role": "assistant",
                    "tool_calls": [CALL | {"function": {"name": "pay", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": f"paid with {CARD}"},
            ],
        },
    ),
    "messages": ("/v1/messages", said(f"pay {CARD} now", max_tokens=5)),
    "system": ("/v1/messages", said("pay", max_tokens=5, system=f"the card is {CARD}")),
    "input": ("/v1/responses", {"model": "scripted", "input": f"pay {CARD} now"}),
}


@pytest.mark.parametrize("place", WAYS_IN)
def test_what_a_model_reads_is_redacted(redacting: House, place: str) -> None:
    path, body = WAYS_IN[place]
    response = redacting.post(path, body)
    assert CARD not in redacting.last_prompt
    assert "[card]" in redacting.last_prompt
    assert "Tr0ub4dor" not in redacting.last_prompt
    assert "input card redact" in response.headers["X-Guard"]


@pytest.mark.parametrize("place", WAYS_IN)
def test_what_is_blocked_is_told_by_kind_and_place_and_never_read(blocking: House, place: str) -> None:
    path, body = WAYS_IN[place]
    num_before = len(blocking.model.prompts)
    response = blocking.post(path, body, status=400)
    assert len(blocking.model.prompts) == num_before
    error = response.json()["error"]
    assert "card" in error["message"]
    assert place.partition("[")[0] in error["message"]
    if path != "/v1/messages":
        assert error["code"] == "content_policy_violation"
        assert error["param"].startswith(place.partition("[")[0])
    assert "4111" not in cases.without_ids(response.text)


@pytest.mark.parametrize("place", WAYS_IN)
def test_the_model_would_read_it(tmp_path: Path, place: str) -> None:
    """The positive control: without a guard each of these ways leads to the model."""
    path, body = WAYS_IN[place]
    with house(tmp_path, None) as made:
        response = made.post(path, body)
        assert "4111" in made.last_prompt
        assert "X-Guard" not in response.headers


def test_token_ids_are_read_and_never_rewritten(redacting: House, tmp_path: Path) -> None:
    ids = list(redacting.model.encode(f"pay {CARD}"))
    body: dict[str, object] = {"model": "scripted", "prompt": ids}
    response = redacting.post("/v1/completions", body, status=400)
    assert "can't be rewritten" in response.json()["error"]["message"]
    assert "4111" not in cases.without_ids(response.text)
    harmless = list(redacting.model.encode("the pole star"))
    redacting.post("/v1/completions", body | {"prompt": harmless})
    assert redacting.model.prompts[-1] == tuple(harmless)
    with house(tmp_path, OPEN) as made:
        found = made.post("/v1/completions", body)
        assert found.headers["X-Guard"] == "input card allow 1"
        assert made.model.prompts[-1] == tuple(ids)


@pytest.mark.parametrize("extra", [{"echo": True}, {"suffix": "x"}])
def test_prompts_that_a_route_reads_by_itself_are_read_by_the_guard_too(
    redacting: House, extra: dict[str, object]
) -> None:
    num_before = len(redacting.model.prompts)
    body = {"model": "scripted", "prompt": f"pay {CARD}"} | extra
    response = httpx.post(f"{redacting.url}/v1/completions", json=body)
    assert response.status_code == 400
    assert len(redacting.model.prompts) == num_before


def test_offsets_of_a_redacted_message_count_in_what_the_caller_wrote(redacting: House) -> None:
    text = f"pay {CARD} at the pole star"
    told = redacting.post("/tokenize", said(text, return_segments=True)).json()
    star = None
    for owner, span in zip(told["token_segments"], told["token_offsets"], strict=True):
        if told["segments"][owner]["path"] == "messages[0].content" and span is not None:
            assert 0 <= span[0] <= span[1] <= len(text)
            star = span
    assert star is not None
    assert text[star[0] : star[1]].strip() in "pole star"
    assert star[1] == len(text)


def test_embeddings_are_of_redacted_texts(redacting: House, blocking: House) -> None:
    body: dict[str, object] = {"model": "fake-embedder", "input": ["a word", f"pay {CARD}"]}
    redacting.post("/v1/embeddings", body)
    assert redacting.embedder.read[-2:] == ["a word", "pay [card]"]
    redacting.post("/v1/embeddings", body | {"input": [1, 2]})
    assert redacting.embedder.read[-1] == "[card]"
    error = blocking.post("/v1/embeddings", body, status=400).json()["error"]
    assert error["param"] == "input[1]"
    assert blocking.embedder.read == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/ask", {"question": f"whose is {CARD}"}),
        ("/v1/vector_stores/fake-docs/search", {"query": f"whose is {CARD}"}),
    ],
)
def test_questions_and_quotes(redacting: House, blocking: House, path: str, body: dict[str, object]) -> None:
    response = redacting.post(path, body)
    assert redacting.store.asked[-1] == "whose is [card]"
    told = response.json()
    # The search page says the query again, as it came.
    assert "4111" not in cases.without_ids(json.dumps(told.get("data", told)))
    assert "pay with [card] today" in response.text
    assert "retrieved card redact 4" in response.headers["X-Guard"]
    blocking.post(path, body, status=400)
    harmless = blocking.post(path, {next(iter(body)): "who pays"})
    assert "today" not in harmless.text
    assert "heapq.merge" in harmless.text


def test_attended_words_of_a_redacted_quote_are_where_they_say(redacting: House) -> None:
    quote = redacting.post("/v1/ask", {"question": "who pays"}).json()["quotes"][0]
    words = [quote["text"][word["start"] : word["end"]] for word in quote["attended"]]
    assert words == ["pay", "[card]", "today"]
    shown = quote["highlight"]
    assert quote["text"][shown["start"] : shown["end"]] == "[card] today"


def test_a_question_whose_every_quote_is_blocked_has_no_answer(blocking: House) -> None:
    body = {"question": "who pays", "max_results": 1}
    answer = blocking.post("/v1/ask", body).json()
    assert (answer["answered"], answer["quotes"]) == (False, [])
    assert "policy" in answer["reason"]


ANSWER = f"The card is {CARD}, thank you."


@pytest.fixture(scope="module", params=["redact", "block"])
def answering(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[House, str, bool]]:
    is_block = request.param == "block"
    policy = Policy(output=Rules(card=Action(request.param)))
    with house(tmp_path_factory.mktemp("answering"), policy, ANSWER) as made:
        yield made, "The card is " if is_block else "The card is [card], thank you.", is_block


def test_the_openai_client_reads_what_the_policy_lets_through(answering: tuple[House, str, bool]) -> None:
    made, shown, is_block = answering
    finish = "content_filter" if is_block else "stop"
    with openai.OpenAI(base_url=f"{made.url}/v1", api_key="none") as client:
        whole = client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "x"}])
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (shown, finish)
        chunks = list(
            client.chat.completions.create(
                model="scripted", messages=[{"role": "user", "content": "x"}], stream=True
            )
        )
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == shown
        assert chunks[-1].choices[0].finish_reason == finish
        text = client.completions.create(model="scripted", prompt="x", max_tokens=50)
        assert (text.choices[0].text, text.choices[0].finish_reason) == (shown, finish)


def test_the_anthropic_client_does_too(answering: tuple[House, str, bool]) -> None:
    made, shown, is_block = answering
    with anthropic.Anthropic(base_url=made.url, api_key="none") as client:
        whole = client.messages.create(
            model="scripted", max_tokens=50, messages=[{"role": "user", "content": "x"}]
        )
        assert "".join(part.text for part in whole.content if part.type == "text") == shown
        assert whole.stop_reason == ("refusal" if is_block else "end_turn")


def test_nothing_of_it_is_in_a_stream_or_its_probabilities(answering: tuple[House, str, bool]) -> None:
    made, _, _ = answering
    for body in (
        said("x", stream=True),
        {"model": "scripted", "prompt": "x", "max_tokens": 50, "stream": True},
    ):
        path = "/v1/completions" if "prompt" in body else "/v1/chat/completions"
        assert "411" not in cases.without_ids(made.post(path, body).text)


def test_thoughts_and_calls_of_functions_are_below_the_reader(tmp_path: Path) -> None:
    call = json.dumps({"name": "pay", "arguments": {"card": CARD}})
    answer = f"<tool_call>\n{call}\n</tool_call>"
    with house(tmp_path, Policy(), answer) as made:
        told = made.post("/v1/chat/completions", said("x", tools=[TOOL])).text
    assert "4111" not in cases.without_ids(told)
    assert "[card]" in told


class ReadingRanker:
    """Keeps the pairs that it was made to read."""

    name, labels, kind, max_tokens = "ranker", ("score",), ScoreKind.NUMBERS, 100

    def __init__(self) -> None:
        self.read: list[tuple[str, ...]] = []

    async def score(self, readings: Sequence[tuple[str, ...]], tenant: str = "") -> Scores:
        self.read += readings
        return Scores(np.zeros((len(readings), 1), np.float32), (1,) * len(readings))


@pytest.mark.parametrize("policy", [Policy(), BLOCKS])
def test_queries_and_passages_are_read_before_a_ranker_does(policy: Policy) -> None:
    ranker = ReadingRanker()
    made = Services({}, {}, {}, CREATED, rankers={"ranker": ranker})
    body = {"model": "ranker", "query": f"whose is {CARD}", "documents": ["a card", f"mine: {CARD}"]}
    with serving(lambda _: made, oversight=Oversight(policy)) as url:
        response = httpx.post(f"{url}/v1/rerank", json=body)
    if policy is BLOCKS:
        assert (response.status_code, ranker.read) == (400, [])
        assert "4111" not in cases.without_ids(response.text)
    else:
        assert response.status_code == 200, response.text
        assert ranker.read == [("whose is [card]", "a card"), ("whose is [card]", "mine: [card]")]


def test_a_harmless_request_says_nothing_of_the_guard(redacting: House) -> None:
    assert "X-Guard" not in redacting.post("/v1/chat/completions", said("hello")).headers


def test_words_of_a_text_that_the_policy_changes_are_not_told() -> None:
    redacts = Policy(*[Rules.every(Action.REDACT)] * 3)
    body = {"model": "fake-embedder", "attention": {"level": "summary"}}
    with serving(lambda _: services(), oversight=Oversight(policy=redacts)) as url:
        refused = httpx.post(f"{url}/v1/embeddings", json=body | {"input": f"pay {CARD} now"})
        told = httpx.post(f"{url}/v1/embeddings", json=body | {"input": "pay now"})
    assert refused.status_code == 400
    assert "policy changed the text" in refused.text
    assert CARD not in refused.text
    assert told.json()["data"][0]["attention"]["words"]
