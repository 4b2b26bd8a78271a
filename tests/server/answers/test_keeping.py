"""A turn goes on from the tokens that were generated: over HTTP, for its own tenant, and behind the guard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cynosure.guard import Policy
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.records.oversight import Oversight
from cynosure.server.services import Token, Tokens
from tests.guard.cases import CARD
from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import serving
from tests.server.keyrings import ANNA, BEN, LINES, bearer

#: One token of the vocabulary, and said in letters here.
ANSWER = "the centre"


@dataclass
class Speller(ScriptedModel):
    """Says its answer letter by letter, as no tokenizer spells it."""

    def spelled(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(letter).ids[0] for letter in text)

    async def _tokens(self, limit: int) -> Tokens:
        for place, token_id in enumerate(self.spelled(self.answer)):
            is_last = place + 1 == len(self.answer)
            yield [Token(self.answer[place], "stop" if is_last else None, token_id=token_id)]


@dataclass
class House:
    """What is served, and the address."""

    url: str
    model: Speller

    def ask(
        self, path: str, body: dict[str, object], key: str = ANNA, answer: str = ANSWER
    ) -> dict[str, Any]:
        self.model.answer = answer
        response = httpx.post(f"{self.url}{path}", json={"model": "scripted"} | body, headers=bearer(key))
        assert response.status_code == 200, response.text
        return response.json() if not body.get("stream") else {}

    def has_kept(self, text: str) -> bool:
        """Whether the last prompt holds these letters one by one."""
        prompt, letters = list(self.model.prompts[-1]), list(self.model.spelled(text))
        return any(prompt[at : at + len(letters)] == letters for at in range(len(prompt)))


@contextmanager
def house(folder: Path, policy: Policy | None) -> Iterator[House]:
    base = scripted(folder)
    model = Speller(base.tokenizer, base.chat)
    admission = Admission(KeyRing(parse_keys(LINES, "the test")))
    oversight = Oversight(policy=policy)
    with serving(lambda _: serves(model), admission=admission, oversight=oversight) as url:
        yield House(url, model)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("open"), None) as made:
        yield made


def turns(asked: str, answered: str = ANSWER) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": answered},
        {"role": "user", "content": "And then?"},
    ]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_the_next_turn_holds_what_was_generated(home: House, path: str, stream: bool) -> None:
    asked = f"Where is it, {path} {stream}?"
    home.ask(path, {"messages": turns(asked)[:1], "max_tokens": 20, "stream": stream})
    first = home.model.prompts[-1]
    home.ask(path, {"messages": turns(asked), "max_tokens": 20})
    assert home.model.prompts[-1][: len(first) + len(ANSWER)] == (*first, *home.model.spelled(ANSWER))
    # Whoever says something else is read as he says it.
    home.ask(path, {"messages": turns(asked, "the centres"[1:]), "max_tokens": 20})
    assert not home.has_kept("he centre")


def test_responses_go_on_by_themselves(home: House) -> None:
    first = home.ask("/v1/responses", {"input": "Where now?"})
    before = home.model.prompts[-1]
    home.ask("/v1/responses", {"input": "And then?", "previous_response_id": first["id"]})
    assert home.model.prompts[-1][: len(before) + len(ANSWER)] == (*before, *home.model.spelled(ANSWER))


def test_a_stop_string_leaves_what_stands_before_it(home: House) -> None:
    body: dict[str, object] = {"messages": turns("Until?")[:1], "stop": ["ntre"]}
    assert home.ask("/v1/chat/completions", body)["choices"][0]["message"]["content"] == "the ce"
    home.ask("/v1/chat/completions", {"messages": turns("Until?", "the ce")})
    assert home.has_kept("the ce")


def test_another_key_has_its_history_read_from_text(home: House) -> None:
    home.ask("/v1/chat/completions", {"messages": turns("Whose?")[:1]}, ANNA)
    home.ask("/v1/chat/completions", {"messages": turns("Whose?")}, BEN)
    assert not home.has_kept(ANSWER)
    home.ask("/v1/chat/completions", {"messages": turns("Whose?")}, ANNA)
    assert home.has_kept(ANSWER)


def test_what_is_reproducible_depends_on_nothing_before(home: House) -> None:
    home.ask("/v1/chat/completions", {"messages": turns("Same?")[:1]})
    home.ask("/v1/chat/completions", {"messages": turns("Same?"), "reproducible": True})
    assert not home.has_kept(ANSWER)
    home.ask("/v1/chat/completions", {"messages": turns("Same?")})
    assert home.has_kept(ANSWER)


def test_tokenize_says_what_would_be_read(home: House) -> None:
    home.ask("/v1/chat/completions", {"messages": turns("Count?")[:1]})
    told = home.ask("/tokenize", {"messages": turns("Count?"), "return_segments": True})
    home.ask("/v1/chat/completions", {"messages": turns("Count?")})
    assert tuple(told["tokens"]) == home.model.prompts[-1]
    assert home.has_kept(ANSWER)
    offsets = [
        span for span, who in zip(told["token_offsets"], told["token_segments"], strict=True) if who == 2
    ]
    assert [span for span in offsets if span] == [[at, at + 1] for at in range(len(ANSWER))]


def test_what_the_guard_redacts_does_not_come_back_in_tokens(tmp_path: Path) -> None:
    with house(tmp_path, Policy()) as made:
        said = f"pay {CARD}"
        body: dict[str, object] = {"messages": turns("Pay?")[:1], "max_tokens": 40}
        shown = made.ask("/v1/chat/completions", body, answer=said)["choices"][0]["message"]["content"]
        assert CARD not in shown
        made.ask("/v1/chat/completions", {"messages": turns("Pay?", shown)})
        assert CARD not in made.model.tokenizer.decode(made.model.prompts[-1])
        # Positive control: what the guard left alone is kept.
        made.ask("/v1/chat/completions", {"messages": turns("Safe?")[:1]})
        made.ask("/v1/chat/completions", {"messages": turns("Safe?")})
        assert made.has_kept(ANSWER)
