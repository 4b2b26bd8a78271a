"""Files and vector stores through the stock client: what is uploaded is indexed, found, and gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import FileDeleted, FileObject, VectorStore, VectorStoreDeleted, VectorStoreSearchResponse
from openai.types.vector_stores import VectorStoreFile, VectorStoreFileBatch, VectorStoreFileDeleted

from cynosure.guard import Action, Policy, Rules
from cynosure.server.records.oversight import Oversight
from tests.guard import cases
from tests.retrieval.files.made_documents import pdf, written
from tests.retrieval.library.test_library import BAD
from tests.server.fakes import services, serving
from tests.server.keyrings import ANNA, BEN, LINES
from tests.server.libraries import LIMITS, SETTINGS, library_served, with_library

BREAD = b"# Sourdough\n\nFeed the starter daily.\n\n## Baking\n\nBake at 230 degrees.\n"
TRIP = b"The ferry to Naxos leaves at noon.\n"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with library_served(tmp_path_factory.mktemp("files")) as address:
        yield address


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _tidy(client: openai.OpenAI) -> Iterator[None]:
    yield
    for store in client.vector_stores.list():
        if store.id != "fake-docs":
            client.vector_stores.delete(store.id)
    for file in client.files.list():
        client.files.delete(file.id)


def upload(client: openai.OpenAI, name: str, content: bytes) -> FileObject:
    return client.files.create(file=(name, content), purpose="assistants")


def filled(client: openai.OpenAI, **files: bytes) -> tuple[str, dict[str, str]]:
    """A store of files by name, with an underscore for the dot; and their ids."""
    store = client.vector_stores.create(name="mine").id
    ids = {name: upload(client, name.replace("_", "."), content).id for name, content in files.items()}
    for name, file_id in ids.items():
        done = client.vector_stores.files.create_and_poll(
            file_id, vector_store_id=store, attributes={"name": name}, poll_interval_ms=5
        )
        assert done.status == "completed", done.last_error
    return store, ids


def test_a_file_is_kept_listed_and_given_back(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "bread.md"
    path.write_bytes(BREAD)
    made = client.files.create(file=path, purpose="user_data")
    assert (made.filename, made.bytes, made.purpose, made.status) == (
        "bread.md", len(BREAD), "user_data", "processed",
    )  # fmt: skip
    other = upload(client, "trip.txt", TRIP)
    assert client.files.retrieve(made.id) == made
    assert [file.id for file in client.files.list()] == [other.id, made.id]
    assert [file.id for file in client.files.list(order="asc", limit=1)] == [made.id, other.id], (
        "pages follow"
    )
    assert [file.id for file in client.files.list(purpose="user_data")] == [made.id]
    answer = client.files.content(made.id)
    assert answer.read() == BREAD
    assert answer.response.headers["content-disposition"] == "attachment"
    assert answer.response.headers["content-type"] == "application/octet-stream"
    assert client.files.delete(made.id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="/v1/files lists them"):
            call(made.id)


def test_every_answer_is_what_the_client_s_types_say(url: str) -> None:
    """They are strict where they are validated, and not only constructed."""

    def send(method: str, path: str, json: object = None) -> dict[str, Any]:
        answer = httpx.request(method, url + path, json=json)
        assert answer.status_code == 200, answer.text
        return answer.json()

    form = {"file": ("a.md", BREAD)}
    made = httpx.post(f"{url}/v1/files", files=form, data={"purpose": "assistants"})
    file = FileObject.model_validate(made.json())
    store = VectorStore.model_validate(
        send("POST", "/v1/vector_stores", json={"name": "s", "metadata": {"a": "b"}, "description": "d"})
    )
    at = f"/v1/vector_stores/{store.id}"
    VectorStoreFile.model_validate(send("POST", f"{at}/files", json={"file_id": file.id}))
    VectorStoreFile.model_validate(send("GET", f"{at}/files/{file.id}"))
    changed = {"attributes": {"a": 1, "b": True, "c": "d", "e": 0.5}}
    said = VectorStoreFile.model_validate(send("POST", f"{at}/files/{file.id}", json=changed))
    assert said.attributes == changed["attributes"]
    batch = VectorStoreFileBatch.model_validate(
        send("POST", f"{at}/file_batches", json={"files": [{"file_id": file.id, **changed}]})
    )
    VectorStoreFileBatch.model_validate(send("GET", f"{at}/file_batches/{batch.id}"))
    for result in send("POST", f"{at}/search", json={"query": "starter"})["data"]:
        VectorStoreSearchResponse.model_validate(result)
    deleted = VectorStoreFileDeleted.model_validate(send("DELETE", f"{at}/files/{file.id}"))
    assert (deleted.id, deleted.deleted) == (file.id, True)
    VectorStoreDeleted.model_validate(send("DELETE", at))
    FileDeleted.model_validate(send("DELETE", f"/v1/files/{file.id}"))


def test_what_is_put_into_a_store_is_found_with_its_attributes(client: openai.OpenAI) -> None:
    store, ids = filled(client, bread_md=BREAD, trip_txt=TRIP)
    described = client.vector_stores.retrieve(store)
    assert (described.name, described.status, described.file_counts.completed) == ("mine", "completed", 2)
    assert described.usage_bytes > len(TRIP)
    [first, *_] = client.vector_stores.search(store, query="bake at 230 degrees")
    assert (first.file_id, first.filename) == (ids["bread_md"], "bread.md")
    assert first.attributes == {"name": "bread_md"}
    assert first.content[0].text == "## Baking\n\nBake at 230 degrees."
    [text] = client.vector_stores.files.content(ids["bread_md"], vector_store_id=store)
    assert text.text == BREAD.decode()
    assert [one.id for one in client.vector_stores.files.list(store)] == [ids["trip_txt"], ids["bread_md"]]


def test_filters(client: openai.OpenAI) -> None:
    store, ids = filled(client, bread_md=BREAD, trip_txt=TRIP)
    client.vector_stores.files.update(ids["trip_txt"], vector_store_id=store, attributes={"year": 2024})

    def found(filters: dict[str, Any]) -> set[str]:
        asked: dict[str, Any] = {"query": "at", "filters": filters}
        return {one.filename for one in client.vector_stores.search(store, **asked)}

    assert found({"type": "eq", "key": "name", "value": "bread_md"}) == {"bread.md"}
    assert found({"type": "gte", "key": "year", "value": 2024}) == {"trip.txt"}
    assert found({"type": "nin", "key": "name", "value": ["bread_md"]}) == {"trip.txt"}
    either = [
        {"type": "eq", "key": "year", "value": 2024},
        {"type": "in", "key": "name", "value": ["bread_md"]},
    ]
    assert found({"type": "or", "filters": either}) == {"bread.md", "trip.txt"}
    assert found({"type": "and", "filters": either}) == set()
    deep: dict[str, Any] = either[0]
    for _ in range(4):
        deep = {"type": "and", "filters": [deep]}
    for wrong in (
        {"type": "eq", "key": "name", "value": ["bread_md"]},
        {"type": "in", "key": "name", "value": "bread_md"},
        {"type": "lt", "key": "name", "value": True},
        {"type": "like", "key": "name", "value": "x"},
        {"type": "or", "filters": []},
        deep,
    ):
        with pytest.raises(openai.BadRequestError):
            found(wrong)


@pytest.mark.parametrize("depth", [5, 200, 900, 5000])
def test_filters_within_each_other_never_break_the_server(url: str, depth: int) -> None:
    deep = '{"type":"and","filters":[' * depth + '{"type":"eq","key":"a","value":1}' + "]}" * depth
    content = f'{{"query": "x", "filters": {deep}}}'
    answer = httpx.post(
        f"{url}/v1/vector_stores/fake-docs/search",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 400


def test_what_is_deleted_is_found_no_more(client: openai.OpenAI) -> None:
    store, ids = filled(client, bread_md=BREAD, trip_txt=TRIP)

    def found() -> list[str]:
        return [one.filename for one in client.vector_stores.search(store, query="ferry starter")]

    assert "trip.txt" in found()
    client.files.delete(ids["trip_txt"])
    assert set(found()) == {"bread.md"}
    assert client.vector_stores.retrieve(store).file_counts.total == 1
    removed = client.vector_stores.files.delete(ids["bread_md"], vector_store_id=store)
    assert removed.deleted
    assert found() == []
    assert client.files.content(ids["bread_md"]).read() == BREAD, "it is kept"


def test_a_batch(client: openai.OpenAI) -> None:
    store = client.vector_stores.create().id
    files = [("bread.md", BREAD), ("trip.txt", TRIP), ("photo.png", b"\x89PNG")]
    done = client.vector_stores.file_batches.upload_and_poll(store, files=files, poll_interval_ms=5)
    assert (done.status, done.file_counts.completed, done.file_counts.failed) == ("completed", 2, 1)
    listed = client.vector_stores.file_batches.list_files(done.id, vector_store_id=store, filter="failed")
    assert [one.last_error.code for one in listed if one.last_error] == ["unsupported_file"]


def test_a_store_is_changed_and_deleted(client: openai.OpenAI) -> None:
    made = client.vector_stores.create(name="a", metadata={"x": "y"})
    changed = client.vector_stores.update(made.id, name="b")
    assert (changed.name, changed.metadata) == ("b", {"x": "y"})
    listed = [store.id for store in client.vector_stores.list()]
    assert listed == [made.id, "fake-docs"]
    assert client.vector_stores.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(made.id)


def test_pages_before_and_after(client: openai.OpenAI) -> None:
    ids = [client.vector_stores.create().id for _ in range(4)]

    def listed(more: dict[str, Any]) -> tuple[list[str], bool]:
        page = client.vector_stores.list(order="asc", **more)
        return [one.id for one in page.data], bool(page.has_more)

    assert listed({"after": ids[0], "limit": 2}) == ([ids[1], ids[2]], True)
    assert listed({"before": ids[2], "limit": 1}) == ([ids[1]], True)
    assert listed({"after": ids[2]}) == ([ids[3]], False)
    with pytest.raises(openai.NotFoundError, match="Page after"):
        listed({"after": "vs_absent"})


def test_the_server_s_own_stores_are_not_changed(client: openai.OpenAI) -> None:
    for call in (
        lambda: client.vector_stores.delete("fake-docs"),
        lambda: client.vector_stores.update("fake-docs", name="x"),
        lambda: client.vector_stores.search(
            "fake-docs", query="x", filters={"type": "eq", "key": "a", "value": "b"}
        ),
    ):
        with pytest.raises(openai.BadRequestError, match="server's own"):
            call()


def test_bad_files_fail_with_a_reason_and_the_store_is_as_it_was(client: openai.OpenAI) -> None:
    store, _ = filled(client, bread_md=BREAD)
    for name, (content, code, words) in BAD.items():
        done = client.vector_stores.files.create_and_poll(
            upload(client, name, content).id, vector_store_id=store, poll_interval_ms=5
        )
        assert done.status == "failed", name
        assert done.last_error is not None
        assert done.last_error.code == code
        assert any(word in done.last_error.message for word in words.split("|"))
    assert client.vector_stores.retrieve(store).file_counts.completed == 1
    assert client.vector_stores.search(store, query="starter").data[0].filename == "bread.md"
    good = pdf(written("Preheat the oven."), packed=True)
    done = client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=("oven.pdf", good), poll_interval_ms=5
    )
    assert done.status == "completed", "the positive control"


def test_a_file_over_the_limit_is_refused_before_it_is_kept(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.BadRequestError, match="2001 bytes; the limit is 2000"):
        upload(client, "a.txt", b"x" * (LIMITS.max_file_bytes + 1))
    with pytest.raises(openai.APIStatusError, match="larger than 4000 bytes") as refused:
        upload(client, "a.txt", b"x" * 5000)
    assert refused.value.status_code == 413
    # 200 MB, of which not a byte need come.
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stream:
        stream.sendall(
            f"POST /v1/files HTTP/1.1\r\nHost: {host}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {200 << 20}\r\n\r\n".encode()
        )
        piece = b"x" * (1 << 20)
        for _ in range(33):
            stream.sendall(piece)
        assert b"413" in stream.recv(100)
    assert upload(client, "a.txt", b"x" * LIMITS.max_file_bytes).bytes == LIMITS.max_file_bytes
    assert [file.filename for file in client.files.list()] == ["a.txt"]


def test_how_much_is_kept_is_bounded(client: openai.OpenAI) -> None:
    for number in range(10):
        upload(client, f"{number}.txt", b"x" * 2000)
    with pytest.raises(openai.BadRequestError, match="limit is 20000 bytes") as refused:
        upload(client, "more.txt", b"x")
    assert refused.value.code == "input_too_long"


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"files": {"purpose": (None, "assistants")}}, "file"),
        ({"files": {"file": ("a.md", b"x")}}, "purpose"),
        ({"files": {"file": ("a.md", b"x")}, "data": {"purpose": "fine-tune"}}, "user_data"),
        ({"files": {"file": ("a.md", b"x")}, "data": {"purpose": "assistants", "expires_after[anchor]": "x"}},
         "expires_after"),
        ({"files": [("file", ("a.md", b"x")), ("file", ("b.md", b"x"))], "data": {"purpose": "assistants"}},
         "2 times"),
        ({"files": {"file": ("../../etc/passwd", b"x")}, "data": {"purpose": "assistants"}}, "plain name"),
        ({"files": {"file": ("x" * 121, b"x")}, "data": {"purpose": "assistants"}}, "121 characters"),
        ({"content": b"no form", "headers": {"content-type": "multipart/form-data; boundary=x"}}, ""),
        ({"content": b"no form", "headers": {"content-type": "multipart/form-data"}}, ""),
    ],
)  # fmt: skip
def test_forms_that_are_none(url: str, form: dict[str, Any], said: str) -> None:
    answer = httpx.post(f"{url}/v1/files", **form)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]["message"]


def test_other_types_of_body_are_refused(url: str) -> None:
    answer = httpx.post(f"{url}/v1/files", json={"purpose": "assistants"})
    assert answer.status_code == 415
    assert "multipart/form-data" in answer.json()["error"]["message"]
    form = {"files": {"file": ("a.md", b"x")}}
    assert httpx.post(f"{url}/v1/vector_stores", **form).status_code == 415
    assert httpx.put(f"{url}/v1/files", **form).status_code == 405
    foreign = httpx.post(f"{url}/v1/files", **form, headers={"Origin": "http://elsewhere"})
    assert foreign.status_code == 403, "a form of another page"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("", {"expires_after": {"anchor": "last_active_at", "days": 1}}, "expires_after"),
        ("", {"chunking_strategy": {"type": "static"}}, "chunking_strategy"),
        ("", {"top_k": 1}, "top_k"),
        ("/vs_x/files", {"file_id": "f", "attributes": {"a": [1]}}, "attributes"),
        ("/vs_x/files", {"file_id": "f", "attributes": {str(n): 1 for n in range(17)}}, "attributes"),
        ("/vs_x/file_batches", {}, "file_ids"),
        ("/vs_x/search", {"query": "x", "ranking_options": {"hybrid_search": {}}}, "hybrid_search"),
        ("/vs_x/search", {"query": "x", "rewrite_query": True}, "rewrite_query"),
    ],
)
def test_what_is_not_served_is_refused_by_name(url: str, path: str, body: dict[str, Any], field: str) -> None:
    answer = httpx.post(f"{url}/v1/vector_stores{path}", json=body)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]


def test_keys_see_their_own_files_alone(tmp_path: Path) -> None:
    with library_served(tmp_path, LINES) as url:
        anna, ben = (openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) for key in (ANNA, BEN))
        with anna, ben:
            store, ids = filled(anna, bread_md=BREAD)
            file_id = ids["bread_md"]
            own = ben.vector_stores.create().id
            assert list(ben.files.list()) == []
            assert {one.id for one in ben.vector_stores.list()} == {own, "fake-docs"}
            for call in (
                lambda: ben.files.retrieve(file_id),
                lambda: ben.files.content(file_id),
                lambda: ben.files.delete(file_id),
                lambda: ben.vector_stores.retrieve(store),
                lambda: ben.vector_stores.update(store, name="x"),
                lambda: ben.vector_stores.delete(store),
                lambda: ben.vector_stores.search(store, query="starter"),
                lambda: ben.vector_stores.files.list(store),
                lambda: ben.vector_stores.files.content(file_id, vector_store_id=store),
                lambda: ben.vector_stores.files.create(own, file_id=file_id),
                lambda: ben.vector_stores.create(file_ids=[file_id]),
            ):
                with pytest.raises(openai.NotFoundError):
                    call()
            assert anna.vector_stores.search(store, query="starter").data, "the positive control"


def test_what_is_found_passes_the_guard(tmp_path: Path) -> None:
    content = f"The ferry is paid with {cases.CARD} today.\n".encode()
    policy = Policy(*[Rules.every(Action.REDACT)] * 3)
    with (
        library_served(tmp_path, oversight=Oversight(policy=policy)) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        store, ids = filled(client, mail_txt=content)
        [found] = client.vector_stores.search(store, query="ferry")
        assert cases.CARD not in found.content[0].text
        assert "ferry" in found.content[0].text
        assert client.files.content(ids["mail_txt"]).read() == content, (
            "one's own file is given back as it is"
        )


def test_uploads_are_few_at_a_time(tmp_path: Path) -> None:
    """Each is held in memory until it is kept; other requests go on."""
    made = with_library(services(), tmp_path)
    with serving(lambda _: made, replace(SETTINGS, max_uploads=0)) as url:
        form = {"file": ("a.md", b"x" * 3000)}
        answer = httpx.post(f"{url}/v1/files", files=form, data={"purpose": "assistants"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "busy")
        assert int(answer.headers["retry-after"]) >= 1
        assert httpx.post(f"{url}/v1/vector_stores", json={}).status_code == 200


def test_a_server_without_a_library_says_so() -> None:
    with serving(lambda _: services()) as url:
        answer = httpx.get(f"{url}/v1/files")
    assert answer.status_code == 404
    assert "keeps no files" in answer.json()["error"]["message"]
