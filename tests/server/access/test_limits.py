from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cynosure.core.errors import InputTooLong, RateLimitExceeded
from cynosure.server.access.limits import Account, Bucket, Limits
from tests.server.fakes import FakeCompleter
from tests.server.keyrings import ANNA, BEN, FakeClock, bearer, guarded

COMPLETE = {"model": "fake-completer", "prompt": "a b", "max_tokens": 3}


def test_units_come_back_evenly_and_no_more_than_fit() -> None:
    bucket = Bucket(60, now=0.0)
    assert bucket.level(0.0) == bucket.level(1e6) == 60
    bucket.take(60, 0.0)
    assert bucket.wait_s(1, 0.0) == pytest.approx(1.0)
    assert bucket.wait_s(30, 0.0) == pytest.approx(30.0)
    assert bucket.level(10.0) == pytest.approx(10)
    assert bucket.wait_s(1, 10.0) == 0
    bucket.take(100, 10.0)
    assert bucket.level(10.0) == pytest.approx(-90)
    assert bucket.wait_s(1, 10.0) == pytest.approx(91.0)


def test_a_clock_that_runs_back_gives_nothing() -> None:
    bucket = Bucket(60, now=100.0)
    bucket.take(60, 100.0)
    assert bucket.level(50.0) == 0
    bucket.take(0, 50.0)
    assert bucket.level(101.0) == pytest.approx(1)


@given(st.integers(1, 1000), st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60))
def test_no_more_is_given_than_was_there_and_came(capacity: int, asked: list[tuple[float, int]]) -> None:
    bucket, now, taken = Bucket(capacity, 0.0), 0.0, 0
    for pause_s, amount in asked:
        now += pause_s
        if bucket.wait_s(amount, now) == 0:
            bucket.take(amount, now)
            taken += amount
        elif amount <= capacity:
            # What is said about the wait is true.
            assert bucket.wait_s(amount, now + bucket.wait_s(amount, now)) == pytest.approx(0, abs=1e-6)
    assert taken <= capacity * (1 + now / 60) + 1e-6


def test_requests_of_a_minute_are_limited() -> None:
    clock = FakeClock()
    account = Account(Limits(rpm=2), clock)
    for _ in range(2):
        account.enter()
        account.leave()
    with pytest.raises(RateLimitExceeded, match=r"may use 2 requests a minute.*Retry in 30\.0 s") as refused:
        account.enter()
    assert refused.value.retry_after_s == pytest.approx(30)
    clock.pass_s(refused.value.retry_after_s)
    account.enter()


def test_requests_at_a_time_are_limited() -> None:
    account = Account(Limits(concurrency=2), FakeClock())
    account.enter()
    account.enter()
    with pytest.raises(RateLimitExceeded, match="2 requests under way; the limit is 2"):
        account.enter()
    account.leave()
    account.enter()


def test_a_refused_request_uses_nothing() -> None:
    clock = FakeClock()
    account = Account(Limits(rpm=2, tpm=10, concurrency=1), clock)
    account.enter()
    with pytest.raises(RateLimitExceeded, match="under way"):
        account.enter()
    account.leave()
    account.spend(10)
    with pytest.raises(RateLimitExceeded, match="tokens"):
        account.enter()
    clock.pass_s(6)
    account.enter()


def test_an_answer_is_paid_on_credit_and_paid_back() -> None:
    clock = FakeClock()
    account = Account(Limits(tpm=60), clock)
    account.enter()
    account.check(60)
    account.spend(60)
    account.spend(30)
    with pytest.raises(RateLimitExceeded, match=r"-30\.0 are left. Retry in 31\.0 s"):
        account.enter()
    clock.pass_s(31)
    account.enter()
    with pytest.raises(RateLimitExceeded, match="needs at least 2"):
        account.check(2)


def test_a_prompt_that_never_fits_is_not_told_to_come_back() -> None:
    with pytest.raises(InputTooLong, match="61 tokens; the limit of this key is 60 a minute"):
        Account(Limits(tpm=60), FakeClock()).check(61)


def test_new_limits_keep_what_is_under_way_and_what_was_used() -> None:
    account = Account(Limits(rpm=2, concurrency=1), FakeClock())
    account.enter()
    account.set_limits(Limits(rpm=2, concurrency=2))
    account.enter()
    with pytest.raises(RateLimitExceeded, match="requests under way"):
        account.enter()
    account.leave()
    with pytest.raises(RateLimitExceeded, match="requests a minute"):
        account.enter()
    account.set_limits(Limits(rpm=5))
    account.enter()


def test_many_threads_get_no_more_than_one_would() -> None:
    account = Account(Limits(rpm=50), FakeClock())

    def enter(_: int) -> bool:
        try:
            account.enter()
        except RateLimitExceeded:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(enter, range(200))) == 50


def test_without_limits_nothing_is_refused() -> None:
    account = Account(Limits(), FakeClock())
    for _ in range(1000):
        account.enter()
    account.check(10**9)
    account.spend(10**9)
    account.enter()


def test_over_http_the_numbers_and_the_time_to_come_back_are_said() -> None:
    clock = FakeClock()
    with guarded(f"anna:{ANNA} rpm=3\nben:{BEN}\n", clock=clock) as url:
        ask = {"url": f"{url}/v1/completions", "json": COMPLETE, "headers": bearer(ANNA)}
        assert [httpx.post(**ask).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = httpx.post(**ask)
        assert refused.headers["Retry-After"] == "20"
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "3 requests a minute" in error["message"]
        with openai.OpenAI(base_url=f"{url}/v1", api_key=ANNA, max_retries=0) as client:
            with pytest.raises(openai.RateLimitError, match="3 requests a minute"):
                client.completions.create(**COMPLETE)
            assert [model.id for model in client.models.list()], "what is no work is not counted"
        assert httpx.post(**ask | {"headers": bearer(BEN)}).status_code == 200
        clock.pass_s(20)
        assert httpx.post(**ask).status_code == 200


def test_over_http_tokens_are_counted_of_prompts_answers_and_texts() -> None:
    clock = FakeClock()
    with guarded(f"anna:{ANNA} tpm=60\n", clock=clock) as url, httpx.Client(headers=bearer(ANNA)) as client:

        def complete(num_prompt: int, num_tokens: int) -> httpx.Response:
            body = COMPLETE | {"prompt": [1] * num_prompt, "max_tokens": num_tokens}
            return client.post(f"{url}/v1/completions", json=body)

        assert complete(20, 10).status_code == 200
        assert complete(31, 1).status_code == 429, "30 are left"
        assert complete(61, 1).status_code == 400
        assert complete(10, 50).status_code == 200, "an answer may run into debt"
        embed = {"model": "fake-embedder", "input": ["a b c", "d e"]}
        refused = client.post(f"{url}/v1/embeddings", json=embed)
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "31")
        clock.pass_s(31)
        assert client.post(f"{url}/v1/embeddings", json=embed).status_code == 200
        assert client.post(f"{url}/v1/embeddings", json=embed).headers["Retry-After"] == "5"


def test_over_http_a_stream_holds_its_place_until_it_ends() -> None:
    lines = f"anna:{ANNA} concurrency=1\nben:{BEN}\n"
    body = COMPLETE | {"stream": True, "max_tokens": 10_000}
    with guarded(lines, FakeCompleter(pause_s=0.01)) as url:
        ask = {"url": f"{url}/v1/completions", "json": COMPLETE}
        with httpx.stream("POST", f"{url}/v1/completions", json=body, headers=bearer(ANNA)) as response:
            lines_of_it = response.iter_lines()  # dropped, it would end the stream
            next(lines_of_it)
            refused = httpx.post(**ask, headers=bearer(ANNA))
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
            assert httpx.post(**ask, headers=bearer(BEN)).status_code == 200
        for _ in range(200):
            if (last := httpx.post(**ask, headers=bearer(ANNA))).status_code == 200:
                break
        assert last.status_code == 200


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": "absent", "prompt": "a"}'])
def test_over_http_a_request_that_fails_gives_its_place_back(body: bytes) -> None:
    with guarded(f"anna:{ANNA} concurrency=1\n") as url:
        headers = bearer(ANNA) | {"Content-Type": "application/json"}
        for _ in range(3):
            assert httpx.post(f"{url}/v1/completions", content=body, headers=headers).status_code in {
                400,
                404,
            }
