"""Every address is guarded but a few; who is served is settled by the key, and by nothing that is sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from cynosure.core.errors import AdminOnly, EnvironmentFault, InputError, InvalidApiKey
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.access.tenants import read_secret, tenant_of
from cynosure.server.admission import Admission, check_admin, check_exposure
from cynosure.server.app import make_app
from cynosure.server.routes import access
from cynosure.server.runtime import Runtime
from cynosure.server.settings import ServerSettings
from cynosure.server.visit import Visit
from tests.server.fakes import FakeCompleter, services
from tests.server.keyrings import ADMIN, ANNA, BEN, LINES, bearer, guarded

OPEN = {"GET /", "GET /live", "GET /static/page.js"}
COMPLETE = {"model": "fake-completer", "prompt": "a b", "max_tokens": 2}


def _app(admission: Admission) -> FastAPI:
    runtime = Runtime(lambda _: services())
    runtime.start()
    return make_app(runtime, ServerSettings(), admission)


def _keyed() -> Admission:
    return Admission(KeyRing(parse_keys(LINES, "the test")))


def _addresses(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Each method and address that the application answers, with something in the place of parameters."""
    for route in _flat(app.routes):
        if isinstance(route, Mount):
            yield "GET", f"{route.path}/page.js"
        else:
            assert isinstance(route, Route), f"{route!r} is of a kind that this test does not know"
            path = route.path.replace(":path}", "}")
            for name in route.param_convertors:
                path = path.replace(f"{{{name}}}", "x")
            yield from ((method, path) for method in route.methods or {"GET"} if method != "HEAD")


def _flat(routes: list) -> Iterator[object]:
    for route in routes:
        # FastAPI keeps a router that was included whole; its class has no public name.
        inner = vars(route).get("original_router")
        yield from [route] if inner is None else _flat(inner.routes)


def unguarded(app: FastAPI) -> set[str]:
    """What answers anything but 401 to who has no key."""
    with TestClient(app, base_url="http://localhost") as client:
        found = set()
        for method, path in _addresses(app):
            form = {"files": {"file": b"a note"}} if path == "/v1/files" else {"json": {}}
            body = form if method in {"POST", "PUT", "PATCH"} else {}
            if client.request(method, path, **body).status_code != 401:
                found.add(f"{method} {path}")
        return found


def test_every_route_is_guarded_but_those_listed() -> None:
    app = _app(_keyed())
    addresses = {f"{method} {path}" for method, path in _addresses(app)}
    assert {"POST /v1/completions", "GET /metrics", "GET /ready", "GET /openapi.json"} <= addresses
    assert len(addresses) > 12
    assert unguarded(app) == OPEN


def test_a_route_that_somebody_adds_is_guarded_too() -> None:
    app = _app(_keyed())

    @app.post("/v1/forgotten")
    @app.get("/v1/forgotten")
    async def forgotten() -> str:
        return "a secret"

    assert unguarded(app) == OPEN


def test_the_walk_does_find_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """The positive controls: a server without keys, and one with a hole."""
    addresses = {f"{method} {path}" for method, path in _addresses(_app(Admission()))}
    assert unguarded(_app(Admission())) == addresses
    monkeypatch.setattr("cynosure.server.admission.OPEN_PATHS", frozenset({"/", "/live", "/v1/ask"}))
    assert unguarded(_app(_keyed())) == OPEN | {"POST /v1/ask"}


@pytest.mark.parametrize(
    "path",
    [
        "/absent",
        "/live/",
        "//live",
        "/LIVE",
        "/live%2f",
        "/static",
        "/static/../v1/models",
        "/v1/models?x=/live",
    ],
)
def test_what_looks_like_an_open_address_is_not(path: str) -> None:
    with guarded() as url:
        response = httpx.get(url + path)
        assert response.status_code in {401, 404}
        assert "fake-completer" not in response.text


def test_a_socket_of_another_kind_is_closed() -> None:
    with TestClient(_app(_keyed()), base_url="http://localhost") as client:
        with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/live"):
            pass
        assert closed.value.code == 1008


def test_the_stock_clients_read_the_refusal() -> None:
    with guarded() as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                client.models.list()
            assert refused.value.code == "invalid_api_key"
            assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"
        with anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0) as other:
            with pytest.raises(anthropic.AuthenticationError) as turned_away:
                other.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
            body = turned_away.value.body
            assert isinstance(body, dict)
            assert body["type"] == "error"
            assert body["error"]["type"] == "authentication_error"
            assert body["request_id"] == turned_away.value.request_id
        with openai.OpenAI(base_url=f"{url}/v1", api_key=ANNA, max_retries=0) as client:
            assert [model.id for model in client.models.list()]


def test_a_refused_body_is_not_read() -> None:
    """Of a large one the client may see the connection close first; what counts is that it ends at once."""
    with guarded() as url:
        for size in (10, 900_000):
            response = httpx.post(f"{url}/v1/ask", json={"question": "x" * size})
            assert response.status_code == 401
            assert response.headers["Content-Security-Policy"]


def test_the_operator_s_addresses_are_for_the_operator() -> None:
    with guarded() as url:
        refused = httpx.get(f"{url}/metrics", headers=bearer(ANNA))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_only")
        assert httpx.get(f"{url}/metrics", headers=bearer(ADMIN)).status_code == 200
        assert httpx.get(f"{url}/ready", headers=bearer(ANNA)).json() == {"status": "ready"}


def test_the_tenant_comes_from_the_key_and_from_nothing_else() -> None:
    completer = FakeCompleter()
    with guarded(completer=completer) as url:

        def complete(key: str, **headers: str) -> None:
            named = {"OpenAI-Organization": "ben", "X-Tenant": "ben"} | bearer(key) | headers
            response = httpx.post(f"{url}/v1/completions", json=COMPLETE, headers=named)
            assert response.status_code == 200
            for field in ("tenant", "cache_salt"):
                body = COMPLETE | {field: "ben"}
                refused = httpx.post(f"{url}/v1/completions", json=body, headers=named)
                assert refused.status_code == 400

        complete(ANNA)
        complete(ANNA, **{"X-Request-Id": "ben"})
        complete(BEN)
    anna, again, ben = completer.tenants
    assert anna == again != ben
    assert len(anna) == len(ben) == 32
    assert "anna" not in anna


def test_no_route_goes_past_the_door_to_the_models() -> None:
    """Services that are not bound to who asks are handed out nowhere else."""
    folder = Path(access.__file__).parent
    takers = {
        path.name
        for path in folder.glob("*.py")
        if ".services" in path.read_text().replace("server.services", "")
    }
    assert takers == {"access.py", "health.py"}
    assert "is not None" in next(
        line for line in (folder / "health.py").read_text().splitlines() if ".services" in line
    ), "health looks only whether there are any"


def test_an_open_server_serves_one_tenant() -> None:
    visit = Visit("id", 0.0)
    Admission().enter(visit, "/v1/completions", Headers(), is_work=True)
    assert visit.tenant == ""
    assert visit.is_admin


def test_who_was_refused_is_nobody() -> None:
    visit = Visit("id", 0.0)
    with pytest.raises(InvalidApiKey):
        _keyed().enter(visit, "/v1/completions", Headers(), is_work=True)
    assert visit.tenant is None
    Admission.leave(visit)


def test_the_page_and_health_say_nothing_of_an_admin() -> None:
    visit = Visit("id", 0.0)
    _keyed().enter(visit, "/live", Headers(), is_work=False)
    assert not visit.is_admin


def test_tenants_are_opaque_and_last_as_long_as_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "home" / "secret"
    secret = read_secret(file)
    assert read_secret(file) == secret
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["secret"]
    assert tenant_of("anna", secret) == tenant_of("anna", read_secret(file))
    others = {tenant_of("ben", secret), tenant_of("anna", b"x" * 32), tenant_of("", secret)}
    assert tenant_of("anna", secret) not in others


def test_a_secret_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"short")
    with pytest.raises(EnvironmentFault, match="5 bytes"):
        read_secret(tmp_path / "short")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentFault, match="CYNOSURE_HOME"):
        read_secret(tmp_path / "file" / "secret")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "lab.example"])
def test_a_network_is_not_served_without_keys(host: str) -> None:
    settings = ServerSettings(host=host)
    with pytest.raises(InputError, match=r"--api-keys FILE.*--allow-open"):
        check_exposure(settings, KeyRing(), is_allowed=False)
    check_exposure(settings, KeyRing(), is_allowed=True)
    check_exposure(settings, _keyed().ring, is_allowed=False)
    check_exposure(ServerSettings(), KeyRing(), is_allowed=False)


def test_nobody_is_an_admin_until_admitted() -> None:
    with pytest.raises(AdminOnly, match="word admin"):
        check_admin(Visit("id", 0.0))
