from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.server.fakes import FakeCompleter, services, serving

OK = {"model": "fake-completer", "prompt": "a b", "max_tokens": 5, "temperature": 0}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda _: services()) as address:
        yield address


def _complete(url: str, **more: object) -> dict[str, object]:
    response = httpx.post(f"{url}/v1/completions", json=OK | more)
    assert response.status_code == 200, response.text
    return response.json()


def _events(url: str, **more: object) -> list[str]:
    with httpx.stream("POST", f"{url}/v1/completions", json=OK | {"stream": True} | more) as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        return [line.removeprefix("data: ") for line in response.iter_lines() if line]


def test_a_whole_completion_counts_its_tokens(url: str) -> None:
    body = _complete(url)
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": " 0 1 2 3 4", "logprobs": None, "finish_reason": "length"}
    ]
    assert body["usage"]["prompt_tokens"] == 2
    assert body["usage"]["completion_tokens"] == 5
    assert body["usage"]["total_tokens"] == 7


@pytest.mark.parametrize("prompt", ["a b", ["a b"], [1, 1], [[1, 1]]])
def test_a_prompt_may_be_written_in_four_ways(url: str, prompt: object) -> None:
    assert _complete(url, prompt=prompt)["usage"]["prompt_tokens"] == 2


def test_defaults_are_those_of_the_reference(url: str) -> None:
    response = httpx.post(f"{url}/v1/completions", json={"model": "fake-completer", "prompt": "a"})
    assert response.json()["usage"]["completion_tokens"] == 16


def test_values_that_ask_for_nothing_are_taken(url: str) -> None:
    _complete(
        url, n=1, best_of=1, top_p=1, echo=False, logprobs=None, logit_bias={}, suffix=None,
        frequency_penalty=0, presence_penalty=0.0, stream=False,
    )  # fmt: skip


def test_a_stop_string_ends_the_text_before_itself(url: str) -> None:
    body = _complete(url, stop=["2 3"])
    assert body["choices"][0]["text"] == " 0 1 "
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == 4


def test_a_stream_says_the_same_and_ends_with_done(url: str) -> None:
    lines = _events(url)
    assert lines[-1] == "[DONE]"
    parts = [json.loads(line) for line in lines[:-1]]
    assert "".join(part["choices"][0]["text"] for part in parts) == " 0 1 2 3 4"
    reasons = [part["choices"][0]["finish_reason"] for part in parts]
    assert reasons == [None] * (len(parts) - 1) + ["length"]
    assert parts[-1]["choices"][0]["text"] == "", "the end is said by itself"
    assert len({part["id"] for part in parts}) == 1
    assert all("usage" not in part for part in parts)


def test_usage_comes_last_and_without_a_choice(url: str) -> None:
    parts = [json.loads(line) for line in _events(url, stream_options={"include_usage": True})[:-1]]
    assert parts[-1]["choices"] == []
    assert parts[-1]["usage"]["completion_tokens"] == 5
    assert all(part["usage"] is None for part in parts[:-1])


def test_a_client_that_leaves_ends_the_continuation() -> None:
    completer = FakeCompleter(pause_s=0.005)
    with serving(lambda _: services(completer)) as url:
        body = OK | {"stream": True, "max_tokens": 10_000}
        with httpx.stream("POST", f"{url}/v1/completions", json=body) as response:
            next(response.iter_lines())
        assert completer.is_closed.wait(5)
        assert completer.num_given < 1000


def test_so_does_one_that_waits_for_the_whole() -> None:
    completer = FakeCompleter(pause_s=0.005)
    with serving(lambda _: services(completer)) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/completions", json=OK | {"max_tokens": 10_000}, timeout=0.1)
        assert completer.is_closed.wait(5)
        assert completer.num_given < 1000


def test_others_are_answered_while_a_long_one_runs() -> None:
    with serving(lambda _: services(FakeCompleter(pause_s=0.005))) as url:
        body = OK | {"stream": True, "max_tokens": 2_000}
        with httpx.stream("POST", f"{url}/v1/completions", json=body) as response:
            next(response.iter_lines())
            asked = httpx.post(f"{url}/v1/ask", json={"question": "q"}, timeout=2)
            assert asked.status_code == 200


def test_a_failure_on_the_way_is_the_last_event_and_no_done_follows() -> None:
    with serving(lambda _: services(FakeCompleter(fails_at=2))) as url:
        lines = _events(url)
        assert json.loads(lines[-1])["error"]["code"] == "internal_error"
        assert "secret" not in "".join(lines)
        # What the guard held back came out together.
        assert [json.loads(line)["choices"][0]["text"] for line in lines[:-1]] == [" 0 1"]
        whole = httpx.post(f"{url}/v1/completions", json=OK)
        assert whole.status_code == 500
        assert "secret" not in whole.text
        assert httpx.get(f"{url}/v1/models").status_code == 200
