"""The text around a quote: over fakes, and behind the guard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from cynosure.guard import Action, Policy, Rules
from cynosure.server.records.oversight import Oversight
from cynosure.server.services import SourcePlace, SourceText
from tests.guard.cases import CARD
from tests.server.fakes import FakeStore, services, serving
from tests.server.keyrings import ANNA, bearer
from tests.server.keyrings import guarded as with_keys

PATH = "/v1/ask/source"
SORTED = {"store": "fake-docs", "object": "sorted", "start": 10, "end": 35}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(lambda _: services()) as url, httpx.Client(base_url=url) as made:
        yield made


def test_every_quote_is_a_slice_of_its_source(client: httpx.Client) -> None:
    quotes = client.post("/v1/ask", json={"question": "sort"}).json()["quotes"]
    assert len(quotes) == 3
    for quote in quotes:
        fields = {name: quote[name] for name in ("object", "start", "end", "source", "file")}
        body = client.get(PATH, params={"store": "fake-docs", **fields}).json()
        assert body["text"][body["start"] : body["end"]] == quote["text"]
        assert len(body["text"]) > len(quote["text"])
        assert body["first"] + body["start"] == quote["start"]
        assert (body["object"], body["source"], body["file"]) == (quote["object"], "docstring", "")


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"object": "absent"}, 404, ["absent"]),
        ({"end": 4000}, 404, ["10..4000"]),
        ({"store": "absent"}, 404, ["here: fake-docs"]),
        ({"start": -1}, 400, ["start"]),
        ({"end": 2**31}, 400, ["end"]),
        ({"source": "web"}, 400, ["source", "'docstring', 'reference' or 'file'"]),
        ({"object": "x" * 1001}, 400, ["object", "1000"]),
        ({"page": 2}, 400, ["page", "known"]),
    ],
)
def test_what_is_not_there_is_said(
    client: httpx.Client, fields: dict[str, Any], status: int, words: list[str]
) -> None:
    answer = client.get(PATH, params=SORTED | fields)
    assert answer.status_code == status, answer.text
    assert all(word in answer.text for word in words), answer.text


class _Leaky(FakeStore):
    async def source(self, place: SourcePlace) -> SourceText:
        text = f"Pay with {CARD}. Then it is yours."
        return SourceText(place.object, "section", "", text, text.index("Then"), len(text))


@pytest.mark.parametrize("action", [Action.ALLOW, Action.REDACT, Action.BLOCK])
def test_it_stands_behind_the_guard(action: Action) -> None:
    """Where something is hidden, the quote is still what the offsets say."""
    rules = Rules.every(action)
    made = replace(services(), stores={"fake-docs": _Leaky()})
    with serving(lambda _: made, oversight=Oversight(policy=Policy(rules, rules, rules))) as url:
        answer = httpx.get(f"{url}{PATH}", params=SORTED)
    if action is Action.BLOCK:
        assert answer.status_code == 404
        assert "policy" in answer.text
        assert CARD not in answer.text
        return
    body = answer.json()
    assert (CARD in body["text"]) is (action is Action.ALLOW)
    assert body["text"][body["start"] : body["end"]] == "Then it is yours."


def test_it_wants_a_key_where_there_are_keys() -> None:
    with with_keys() as url:
        assert httpx.get(f"{url}{PATH}", params=SORTED).status_code == 401
        assert httpx.get(f"{url}{PATH}", params=SORTED, headers=bearer(ANNA)).status_code == 200
