"""What is kept of answers has bounds, belongs to one tenant, and keeps a conversation's beginning."""

from __future__ import annotations

import pytest

from cynosure.core.errors import NotFound
from cynosure.server.answers.response_store import ResponseStore, StoreLimits
from cynosure.server.schemas.response_input import MessageItem
from cynosure.server.schemas.responses import OutputMessage, ResponseBody, SaidText


def body(name: str, previous: str | None = None, text: str = "said") -> ResponseBody:
    return ResponseBody(
        id=name, created_at=1, model="m", store=True, temperature=1, text={}, tool_choice="auto", tools=[],
        top_p=1, previous_response_id=previous, status="completed",
        output=[OutputMessage(id=f"msg_{name}", status="completed", content=[SaidText(text=text)])],
    )  # fmt: skip


def put(store: ResponseStore, name: str, previous: str | None = None, tenant: str = "t") -> None:
    store.put(tenant, body(name, previous), [MessageItem(role="user", content=f"asked {name}")])


def texts(store: ResponseStore, name: str | None) -> list[str]:
    return [text.text for turn in store.turns_until("t", name) for text in turn.texts]


def test_a_chain_is_read_from_its_beginning() -> None:
    store = ResponseStore()
    put(store, "a")
    put(store, "b", "a")
    assert texts(store, "b") == ["asked a", "said", "asked b", "said"]
    assert texts(store, "a") == ["asked a", "said"]
    assert texts(store, None) == []
    paths = [text.path for turn in store.turns_until("t", "a") for text in turn.texts]
    assert paths == ["a.input[0].content", "a.output[0].content[0].text"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_over_the_count_the_oldest_goes(count: int) -> None:
    store = ResponseStore(StoreLimits(max_responses=count))
    for name in "abcd":
        put(store, name)
    for index, name in enumerate("abcd"):
        if index < 4 - count:
            with pytest.raises(NotFound, match=name):
                store.get("t", name)
        else:
            assert store.get("t", name).body.id == name


def test_what_goes_on_keeps_its_beginning_longest() -> None:
    store = ResponseStore(StoreLimits(max_responses=3))
    put(store, "a")
    put(store, "b")
    assert texts(store, "a")
    put(store, "c", "a")
    put(store, "d")
    assert texts(store, "c") == ["asked a", "said", "asked c", "said"]
    with pytest.raises(NotFound):
        store.get("t", "b")


def test_a_chain_with_a_hole_is_refused() -> None:
    store = ResponseStore()
    put(store, "a")
    put(store, "b", "a")
    store.delete("t", "a")
    assert store.get("t", "b").body.previous_response_id == "a"
    with pytest.raises(NotFound, match="'a'"):
        store.turns_until("t", "b")


def test_bytes_are_bounded() -> None:
    size = len(body("a").model_dump_json()) + 300
    store = ResponseStore(StoreLimits(max_bytes=size))
    put(store, "a")
    put(store, "b")
    assert store.get("t", "b")
    with pytest.raises(NotFound):
        store.get("t", "a")
    store.put("t", body("huge", text="x" * size), [])
    with pytest.raises(NotFound):
        store.get("t", "huge")
    assert store.get("t", "b")


def test_tenants_do_not_meet() -> None:
    store = ResponseStore(StoreLimits(max_responses=1))
    put(store, "a")
    put(store, "b", tenant="other")
    assert store.get("t", "a").body.id == "a"
    with pytest.raises(NotFound):
        store.get("other", "a")
