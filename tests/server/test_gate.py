from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from cynosure.server.gate import CONTENT_SECURITY_POLICY
from cynosure.server.settings import ServerSettings
from tests.server.fakes import FakeCompleter, services, serving

LIMIT = 10_000
SETTINGS = ServerSettings(port=0, max_body_bytes=LIMIT, body_timeout_s=0.3, max_in_flight=2)
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(lambda _: services(FakeCompleter(pause_s=0.02, prefix=" w")), SETTINGS) as address:
        yield address


def _code(response: httpx.Response) -> str:
    return response.json()["error"]["code"]


@pytest.mark.parametrize("path", ["/", "/live", "/v1/models", "/static/page.js"])
def test_a_foreign_name_is_refused(url: str, path: str) -> None:
    response = httpx.get(url + path, headers={"Host": "evil.example"})
    assert (response.status_code, _code(response)) == (403, "foreign_host")
    assert httpx.get(url + path).status_code == 200


def test_a_page_of_another_origin_is_refused(url: str) -> None:
    for origin in ("https://evil.example", "null", url.replace("127.0.0.1", "localhost"), f"{url}0"):
        response = httpx.post(f"{url}/v1/ask", json={"question": "q"}, headers={"Origin": origin})
        assert (response.status_code, _code(response)) == (403, "foreign_origin"), origin
    assert httpx.post(f"{url}/v1/ask", json={"question": "q"}, headers={"Origin": url}).status_code == 200


def test_no_answer_may_be_read_by_another_origin(url: str) -> None:
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    for response in (httpx.get(f"{url}/v1/models"), httpx.options(f"{url}/v1/ask", headers=preflight)):
        assert not [name for name in response.headers if name.startswith("access-control-")]
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", "/static/page.js", "/v1/models", "/absent"])
def test_every_answer_has_the_policy(url: str, path: str) -> None:
    headers = httpx.get(url + path).headers
    assert headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_another_page_can_not_post(url: str, kind: str) -> None:
    """These types are what a page may post elsewhere without asking first."""
    response = httpx.post(f"{url}/v1/ask", content=b'{"question": "q"}', headers={"Content-Type": kind})
    assert (response.status_code, _code(response)) == (415, "unsupported_content_type")


def test_a_body_over_the_limit_names_the_limit(url: str) -> None:
    question = "x" * LIMIT
    response = httpx.post(f"{url}/v1/ask", json={"question": question})
    assert (response.status_code, _code(response)) == (413, "body_too_large")
    assert str(LIMIT) in response.json()["error"]["message"]


def test_a_body_without_a_length_is_counted(url: str) -> None:
    pieces = iter([b'{"question": "', b"x" * LIMIT, b'"}'])
    response = httpx.post(f"{url}/v1/ask", content=pieces, headers=JSON)
    assert (response.status_code, _code(response)) == (413, "body_too_large")
    small = iter([b'{"question"', b': "q"}'])
    assert httpx.post(f"{url}/v1/ask", content=small, headers=JSON).status_code == 200


def test_a_body_that_does_not_arrive_is_given_up(url: str) -> None:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port)) as client:
        head = f"POST /v1/ask HTTP/1.1\r\nHost: {address.host}\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        client.settimeout(5)
        assert b"408" in client.recv(4096)


def test_no_more_than_the_limit_work_at_one_time(url: str) -> None:
    body = {"model": "fake-completer", "prompt": "a b", "max_tokens": 40, "stream": True}
    with (
        httpx.stream("POST", f"{url}/v1/completions", json=body) as first,
        httpx.stream("POST", f"{url}/v1/completions", json=body) as second,
    ):
        assert (first.status_code, second.status_code) == (200, 200)
        third = httpx.post(f"{url}/v1/ask", json={"question": "q"})
        assert (third.status_code, _code(third)) == (503, "busy")
        assert third.headers["Retry-After"]
        assert httpx.get(f"{url}/live").status_code == 200
    deadline = time.monotonic() + 5
    while httpx.post(f"{url}/v1/ask", json={"question": "q"}).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
