"""Traces over HTTP: told to whom they belong, hidden from others, erased, and no word below L3 anywhere."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from cynosure.cli.local_completer import load_completer
from cynosure.guard import AuditLog
from cynosure.insight import HeadChoice, HeadGroup, WatchPolicy
from cynosure.insight.trace_level import TraceLevel
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.app import make_app
from cynosure.server.attended.trace_folder import TraceFolder
from cynosure.server.attended.trace_keeper import KeeperSettings, TraceKeeper
from cynosure.server.records.audit_writer import AuditWriter
from cynosure.server.records.oversight import Oversight
from cynosure.server.runtime import Report, Runtime
from cynosure.server.services import Services
from cynosure.server.settings import ServerSettings
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.fakes import services, serving
from tests.server.keyrings import ADMIN, ANNA, BEN, LINES, bearer
from tests.server.served_tiny import write_decoder

CHOICE = HeadChoice(
    ((0, 0), (1, 1)), "a test chose them", (HeadGroup("halves", (0.5, 0.5)), HeadGroup("odd", (-1.0, 2.0)))
)
#: One for each place where a caller may write something.
CANARIES = {
    name: f"canary-{name}-4711" for name in ("system", "user", "document", "name", "tool", "person", "end")
}
STORY = f"The {CANARIES['document']} is here. It sleeps 🦊."
MESSAGES = [
    {"role": "system", "content": f"Keep {CANARIES['system']}."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": STORY, "segment": f"doc:{CANARIES['name']}"},
            {"type": "text", "text": f"Where is {CANARIES['user']}?"},
        ],
    },
]
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": CANARIES["tool"], "parameters": {"type": "object"}},
}


@dataclass
class House:
    """A server that keeps traces, and where it writes."""

    url: str
    keeper: TraceKeeper
    traces: Path
    audit: Path

    def ask(self, name: str, key: str = ANNA, **options: object) -> httpx.Response:
        body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 5, "temperature": 0, "ignore_eos": True}
        headers = bearer(key) | {"X-Request-Id": name}
        answer = httpx.post(
            f"{self.url}/v1/chat/completions", json=body | options, headers=headers, timeout=60
        )
        assert answer.status_code == 200, answer.text
        return answer

    def get(self, path: str, key: str = ANNA) -> httpx.Response:
        return httpx.get(f"{self.url}/v1/traces{path}", headers=bearer(key))

    def delete(self, path: str, key: str = ANNA) -> httpx.Response:
        return httpx.delete(f"{self.url}/v1/traces{path}", headers=bearer(key))

    def in_bytes(self, word: str) -> bool:
        """Whether a word stands in a file of traces, compressed or not."""
        self.keeper.flush()
        files = list(self.traces.glob("*.parquet"))
        tables = [repr(pq.read_table(file).to_pylist()) for file in files]
        return any(word in table for table in tables) or any(
            word.encode() in file.read_bytes() for file in files
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=1024)
    write(folder, byte_level())
    (folder / "chat_template.jinja").write_text(SOURCE)
    home = tmp_path_factory.mktemp("home")
    traces, audit = home / "traces", home / "audit.jsonl"

    def load(_: Report) -> Services:
        model = load_completer("tiny", folder, dtype="float32")
        model.watching = WatchPolicy(CHOICE, is_always=True)
        return Services({}, {}, {"tiny": model}, int(time.time()))

    keeper = TraceKeeper(KeeperSettings(level=TraceLevel.L3), TraceFolder(traces))
    oversight = Oversight(audit=AuditWriter(AuditLog(audit, b"k" * 32)), traces=keeper)
    admission = Admission(KeyRing(parse_keys(LINES, "the test")))
    with closing(oversight), serving(load, admission=admission, oversight=oversight, wait_s=60) as url:
        yield House(url, keeper, traces, audit)


@pytest.fixture
def house(server: House) -> House:
    """The server, with nothing kept of the test before."""
    server.keeper.erase(None)
    return server


def test_a_trace_tells_what_the_answer_attended_to(house: House) -> None:
    answer = house.ask("r-1", attention={"level": "full"}).json()["choices"][0]
    trace = house.get("/r-1").json()
    assert (trace["object"], trace["id"]) == ("trace", "r-1")
    (told,) = trace["answers"]
    assert (told["model"], told["route"], told["finish"]) == ("tiny", "/v1/chat/completions", "length")
    assert (told["level"], told["is_own"], told["index"]) == ("L3", True, 0)
    assert told["tokens"]["completion"] == told["tokens"]["watched"] == 5
    assert sum(told["mass"].values()) == pytest.approx(1, abs=1e-5)
    assert told["coverage"]["reason"] == "a test chose them"
    assert told["heads"]["heads"] == [[0, 0], [1, 1]]
    assert told["heads"]["groups"][1] == {"name": "odd", "weights": [-1.0, 2.0]}
    assert "".join(told["texts"]) == answer["message"]["content"]
    names = [(one["id"], one["name"], one["text"]) for one in told["segments"]]
    assert names[:2] == [
        ("system:0", "system", f"Keep {CANARIES['system']}."),
        ("document:0", f"doc:{CANARIES['name']}", STORY),
    ]
    assert told["segments"][1]["source"] == {"message": 1, "part": 0}
    assert (told["segments"][1]["start"], told["segments"][1]["end"]) == (0, len(STORY))
    # The same numbers as in the answer, token by token.
    asked = answer["attention"]
    for segment, there in zip(told["segments"], asked["segments"], strict=True):
        assert segment["mass"] == pytest.approx(there["mass"], abs=1e-6)
        assert segment["num_tokens"] == there["num_tokens"]
    group = told["groups"]["all"]
    for place, index in enumerate(told["watched"]):
        token = asked["tokens"][index]
        masses = [column[place] for column in group["mass"]]
        assert masses == pytest.approx(list(token["mass"].values()), abs=1e-6)
        assert group["sink_mass"][place] == pytest.approx(token["sink_mass"], abs=1e-6)
        assert group["generated_mass"][place] == pytest.approx(token["generated_mass"], abs=1e-6)
        assert told["token_entropy_bits"][place] == pytest.approx(token["entropy_bits"], abs=1e-5)
    # A group that is the mean says what the mean says.
    halves = told["groups"]["halves"]
    assert halves["mass"][1] == pytest.approx(group["mass"][1], abs=1e-6)
    assert set(told["groups"]) == {"all", "halves", "odd"}
    house.keeper.flush()
    assert house.get("/r-1").json() == trace


@pytest.mark.parametrize("level", [TraceLevel.L0, TraceLevel.L1, TraceLevel.L2])
def test_what_a_level_does_not_hold_is_null(house: House, level: TraceLevel) -> None:
    house.ask("r-1", attention={"trace": level.word})
    told = house.get("/r-1").json()["answers"][0]
    assert told["level"] == level.word
    has = {
        "L0": {"mass", "entropy_bits", "lookback", "coverage"},
        "L1": {"segments", "heads", "watched", "groups", "token_entropy_bits"},
        "L2": {"token_ids", "starts", "logprobs", "prompt_token_ids"},
        "L3": {"texts"},
    }
    for name, fields in has.items():
        for one in fields:
            assert (told[one] is not None) == (TraceLevel.of(name) <= level), one
    for segment in told["segments"] or ():
        assert segment["name"] is segment["text"] is None
        assert (segment["start"] is not None) == (level is TraceLevel.L2)


@pytest.mark.parametrize("level", [TraceLevel.L0, TraceLevel.L1, TraceLevel.L2, TraceLevel.L3])
def test_no_word_of_a_caller_below_the_highest_level(
    house: House, level: TraceLevel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    attention = {"trace": level.word}
    house.ask("r-1", attention=attention, tools=[TOOL], user=CANARIES["person"], stop=[CANARIES["end"]])
    house.ask("r-2", attention=attention | {"level": "topk"})
    said = house.get("", ADMIN).text + house.get("/r-1", ADMIN).text + house.get("/r-1", BEN).text
    metrics = httpx.get(f"{house.url}/metrics", headers=bearer(ADMIN)).text
    seen = {name: house.in_bytes(word) for name, word in CANARIES.items()}
    # The control: at the highest level the search finds each text that was read as a part of the prompt.
    texts = {"system", "user", "document", "name"}
    assert {name for name, found in seen.items() if found} == (texts if level is TraceLevel.L3 else set())
    for word in CANARIES.values():
        assert word not in said
        assert word not in metrics
        assert word not in caplog.text
        assert word not in house.audit.read_text()


def test_others_learn_nothing(house: House) -> None:
    house.ask("r-1")
    for path in ("/r-1", "/r-unknown"):
        answer = house.get(path, BEN)
        assert answer.status_code == 404
        assert answer.json()["error"]["message"].replace(path[1:], "") == house.get("/x", BEN).json()[
            "error"
        ]["message"].replace("'x'", "''")
    assert house.get("", BEN).json() == {"object": "list", "data": [], "has_more": False}
    assert house.delete("/r-1", BEN).status_code == 404
    assert house.delete("", BEN).json()["num_answers"] == 0
    assert house.get("/r-1").status_code == 200
    assert httpx.get(f"{house.url}/v1/traces").status_code == 401
    shown = house.get("/r-1", ADMIN).json()["answers"][0]
    assert (shown["level"], shown["is_own"]) == ("L1", False)
    (segment,) = shown["segments"]
    assert (segment["id"], segment["role"], segment["text"]) == ("hidden", "hidden", None)
    assert shown["texts"] is shown["token_ids"] is shown["prompt_token_ids"] is None
    own = house.get("/r-1").json()["answers"][0]
    assert segment["mass"] == pytest.approx(sum(one["mass"] for one in own["segments"]), abs=1e-5)
    assert shown["groups"]["all"]["sink_mass"] == own["groups"]["all"]["sink_mass"]
    (row,) = house.get("", ADMIN).json()["data"]
    assert (row["id"], row["is_own"], row["mass"]) == ("r-1", False, own["mass"])


def test_the_table_has_pages(house: House) -> None:
    for n in range(4):
        house.ask(f"r-{n}", attention={"trace": "L0"})
        if n == 1:
            house.keeper.flush()
    first = house.get("?limit=3").json()
    assert [row["id"] for row in first["data"]] == ["r-3", "r-2", "r-1"]
    assert first["has_more"]
    last = house.get(f"?limit=3&before={first['data'][-1]['created']}").json()
    assert [row["id"] for row in last["data"]] == ["r-0"]
    assert not last["has_more"]
    since = house.get(f"?since={first['data'][1]['created']}").json()
    assert [row["id"] for row in since["data"]] == ["r-3", "r-2"]
    assert house.get("?model=tiny&limit=1").json()["data"] == first["data"][:1]
    assert house.get("?model=another").json()["data"] == []
    for query in ("?limit=0", "?limit=1001", "?since=-1", "?after=r-1", "?before=nan", "?since=inf"):
        assert house.get(query).status_code == 400, query
    assert house.get("/r-1?limit=1").status_code == 400


def test_erasing(house: House) -> None:
    for name, key in (("a-1", ANNA), ("a-2", ANNA), ("b-1", BEN), ("b-2", BEN)):
        house.ask(name, key)
    assert house.in_bytes("a-1")
    assert house.delete("/a-1").json() == {"object": "trace.deleted", "deleted": True, "num_answers": 1}
    assert house.delete("/a-1").status_code == 404
    assert not house.in_bytes("a-1")
    assert house.delete("/b-1", ADMIN).json()["num_answers"] == 1
    tenant = house.get("", BEN).json()["data"][0]["tenant"]
    assert house.in_bytes(tenant)
    assert house.delete(f"?tenant={tenant}").status_code == 403
    assert house.delete(f"?tenant={tenant}", ADMIN).json()["num_answers"] == 1
    assert not house.in_bytes(tenant)
    assert house.delete("").json()["num_answers"] == 1
    assert house.get("", ADMIN).json()["data"] == []


def test_reading_texts_is_audited(house: House) -> None:
    before = len(house.audit.read_text().splitlines())
    house.ask("r-1")
    house.ask("low", attention={"trace": "L2"})
    house.ask("off", attention={"trace": "off"})
    assert house.get("/off").status_code == 404
    house.get("/low")
    house.get("/r-1", ADMIN)
    house.get("/r-1")
    records = [json.loads(line)["record"] for line in house.audit.read_text().splitlines()[before:]]
    reads = [one for one in records if one.get("endpoint") == "/v1/traces/{request_id}"]
    assert [(one.get("read"), one["principal"]) for one in reads] == [
        (None, "anna"), (None, "anna"), (None, "operator"), ("trace L3 r-1", "anna")
    ]  # fmt: skip


@pytest.mark.parametrize(("is_audited", "level"), [(False, TraceLevel.L2), (True, TraceLevel.L3)])
def test_what_a_server_keeps_of_which_nothing_is_said(
    tmp_path: Path, is_audited: bool, level: TraceLevel
) -> None:
    audit = AuditWriter(AuditLog(tmp_path / "audit.jsonl", b"k" * 32)) if is_audited else None
    with closing(Oversight(audit=audit)) as oversight:
        app = make_app(Runtime(lambda _: services()), ServerSettings(), oversight=oversight)
    assert app.state.traces.settings.level is level
    assert not app.state.traces.watches_all


def test_a_server_that_watches_nothing_has_an_empty_table() -> None:
    with serving(lambda _: services()) as url:
        assert httpx.get(f"{url}/v1/traces").json()["data"] == []
        message = httpx.get(f"{url}/v1/traces/{'x' * 300}").json()["error"]["message"]
        assert "--traces" in message
        assert "x" * 129 not in message


def test_levels_of_a_request_are_checked(house: House) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "attention": {"trace": "L9"}}
    answer = httpx.post(f"{house.url}/v1/chat/completions", json=body, headers=bearer(ANNA), timeout=60)
    assert answer.status_code == 400
