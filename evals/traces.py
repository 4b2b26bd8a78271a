"""Measure what traces take on the disk, and look for callers' words where none may be.

    python -m evals.traces [--write] [--answers 32] [--tokens 128]

All of it goes through a real server over a tiny random decoder, with API keys, an audit log and spans.

Bytes: answers with 32 watched heads and 16 segments, of the mean and of five groups of heads, as files have
them that were written one after another, and as they are once joined. The worst case is a file an answer.

Words: each conversation has a word of its own in every place where a caller may write. It is looked for in
the bytes of the files, in every column of them, in logs at their most talkative, metrics, spans and the audit
log. The control is level L3, which keeps texts and has to be found. Other tenants ask for each trace.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import torch
import transformers

from cynosure.cli.local_completer import load_completer
from cynosure.evaluate.results import write_result
from cynosure.guard import AuditLog
from cynosure.insight import HeadChoice, HeadGroup, WatchPolicy
from cynosure.insight.trace_level import TraceLevel
from cynosure.observe.spans import SpanWriter
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.attended.trace_folder import TraceFolder
from cynosure.server.attended.trace_keeper import KeeperSettings, TraceKeeper
from cynosure.server.records.audit_writer import AuditWriter
from cynosure.server.records.oversight import Oversight
from cynosure.server.runtime import Report
from cynosure.server.services import Services

ROOT = Path(__file__).parents[1]
LEVELS = (TraceLevel.L0, TraceLevel.L1, TraceLevel.L2, TraceLevel.L3)
NUM_LAYERS, NUM_HEADS, NUM_SEGMENTS = 4, 8, 16
GROUPS = ("retrieval", "induction", "citation", "risk", "focus")
#: Where a caller may write; the first five are read as parts of the prompt.
PLACES = ("system", "user", "document", "name", "answer", "tool", "person", "stop", "header")
NUM_READ = 5
#: At most, by what the project asks of itself.
MAX_BYTES_PER_TOKEN = 1200


def of_tests(name: str) -> ModuleType:
    """A module of the tests: they keep the servers."""
    return importlib.import_module(f"tests.{name}")


def write_model(folder: Path) -> Path:
    """A random Llama with 32 heads that converses."""
    torch.manual_seed(5)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(
        vocab_size=325, hidden_size=64, intermediate_size=96, num_hidden_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS, num_key_value_heads=4, max_position_embeddings=4096,
        bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    model.save_pretrained(folder)
    tokenizers = of_tests("models.tiny_tokenizers")
    tokenizers.write(folder, tokenizers.byte_level())
    (folder / "chat_template.jinja").write_text(of_tests("server.chat_models").SOURCE)
    return folder


def choice() -> HeadChoice:
    """All heads, in as many groups as a profile has with every section."""
    heads = tuple((layer, head) for layer in range(NUM_LAYERS) for head in range(NUM_HEADS))
    torch.manual_seed(1)
    weights = torch.randn(len(GROUPS), len(heads)).tolist()
    groups = tuple(HeadGroup(name, tuple(own)) for name, own in zip(GROUPS, weights, strict=True))
    return HeadChoice(heads, "the evaluation watches them all", groups)


@dataclass
class House:
    """A server, and all that it writes."""

    url: str
    keeper: TraceKeeper
    home: Path
    log: list[str]
    spans: object

    def ask(self, name: str, key: str, agent: str = "evals", **body: object) -> httpx.Response:
        """A conversation."""
        body = {"model": "tiny", "temperature": 1, "ignore_eos": True, **body}
        headers = of_tests("server.keyrings").bearer(key) | {"X-Request-Id": name, "User-Agent": agent}
        answer = httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=300)
        assert answer.status_code == 200, answer.text
        return answer

    def get(self, path: str, key: str) -> httpx.Response:
        """What is told of something."""
        headers = of_tests("server.keyrings").bearer(key)
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=60)

    @property
    def num_bytes(self) -> int:
        """What the files of traces take."""
        return sum(file.stat().st_size for file in (self.home / "traces").glob("*.parquet"))

    def words_in_traces(self) -> str:
        """Every byte and every column of the files."""
        parquet = importlib.import_module("pyarrow.parquet")
        files = list((self.home / "traces").glob("*"))
        tables = [repr(parquet.read_table(file).to_pylist()) for file in files if file.suffix == ".parquet"]
        return "".join([*tables, *(file.read_bytes().decode("latin-1") for file in files)])

    def words_elsewhere(self, admin: str) -> dict[str, str]:
        """What else is written, by where."""
        return {
            "logs": "\n".join(self.log),
            "metrics": self.get("/metrics", admin).text,
            "spans": "".join(span.to_json() for span in self.spans.get_finished_spans()),  # type: ignore[attr-defined]
            "audit": (self.home / "audit.jsonl").read_text(),
        }


class Listener(logging.Handler):
    """Keeps every line of every logger."""

    def __init__(self) -> None:
        """Keep nothing yet."""
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, with all that it was given."""
        self.lines.append(f"{record.getMessage()} {record.__dict__!r}")


@contextmanager
def house(model: Path, home: Path, settings: KeeperSettings) -> Iterator[House]:
    """A server over the model, that watches everything."""
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    memory = importlib.import_module("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    spans = memory.InMemorySpanExporter()

    def load(_: Report) -> Services:
        completer = load_completer("tiny", model, dtype="float32")
        completer.watching = WatchPolicy(choice(), is_always=True)
        return Services({}, {}, {"tiny": completer}, int(time.time()))

    keeper = TraceKeeper(settings, TraceFolder(home / "traces"))
    audit = AuditWriter(AuditLog(home / "audit.jsonl", b"k" * 32))
    oversight = Oversight(
        policy=None, audit=audit, spans=SpanWriter(export.SimpleSpanProcessor(spans)), traces=keeper
    )
    listener, root = Listener(), logging.getLogger()
    level = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    # They wrote what the requests of this very program are, and not what the server does.
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    admission = Admission(KeyRing(parse_keys(of_tests("server.keyrings").LINES, "the evaluation")))
    serving = of_tests("server.fakes").serving
    try:
        with serving(load, admission=admission, oversight=oversight, wait_s=120) as url:
            yield House(url, keeper, home, listener.lines, spans)
    finally:
        oversight.close()
        root.removeHandler(listener)
        root.setLevel(level)


def documents(seed: int) -> list[dict[str, object]]:
    """One conversation of as many segments."""
    texts = [
        {"type": "text", "text": f"Paper {seed}.{n} says what it says. " * 2, "segment": f"doc:{n}"}
        for n in range(NUM_SEGMENTS - 1)
    ]
    return [{"role": "user", "content": [*texts, {"type": "text", "text": "What do they say?"}]}]


def bytes_per_token(model: Path, level: TraceLevel, num_answers: int, num_tokens: int) -> dict[str, float]:
    """What a token of an answer takes: as written, once joined, and with a file an answer."""
    settings = KeeperSettings(level=level, flush_s=1e9, flush_bytes=2**40, max_bytes=2**40)
    anna = of_tests("server.keyrings").ANNA
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, house(model, Path(folder), settings) as made:
        for n in range(7):
            made.ask(f"one-{n}", anna, messages=documents(n), max_tokens=num_tokens)
            made.keeper.flush()
        found["one_answer_a_file"] = made.num_bytes / (7 * num_tokens)
        made.keeper.erase(None)
        for n in range(num_answers):
            made.ask(f"r-{n}", anna, messages=documents(n), max_tokens=num_tokens)
            # As many as come in some seconds.
            if n % 8 == 7 and n < num_answers - 1:
                made.keeper.flush()
        written = made.num_bytes
        made.keeper.flush()
        found["joined"] = made.num_bytes / (num_answers * num_tokens)
        found["written"] = written / ((num_answers - 8) * num_tokens)
        (row,) = made.get("/v1/traces?limit=1", anna).json()["data"]
        assert row["tokens"]["watched"] == num_tokens
        if level is not TraceLevel.L0:
            told = made.get(f"/v1/traces/{row['id']}", anna).json()["answers"][0]
            assert len(told["segments"]) == NUM_SEGMENTS
            assert len(told["heads"]["heads"]) == NUM_LAYERS * NUM_HEADS
            assert set(told["groups"]) == {"all", *GROUPS}
    return found


def conversation(number: int) -> tuple[dict[str, str], dict[str, object]]:
    """A conversation, and its word of each place."""
    word = {place: f"canary{place}{number:03d}x🦊naïve" for place in PLACES}
    # Names that callers give, and headers, are plain letters.
    word |= {place: f"canary{place}{number:03d}x" for place in ("name", "header", "person")}
    text = {"type": "text", "text": f"Paper: {word['document']}.", "segment": f"doc:{word['name']}"}
    look = {
        "name": f"look_{number}",
        "description": word["tool"],
        "parameters": {
            "type": "object",
            "properties": {"q": {"type": "string", "description": word["tool"]}},
        },
    }
    messages = [
        {"role": "system", "content": f"Keep {word['system']}."},
        {"role": "user", "content": f"Hello {word['user']}."},
        {"role": "assistant", "content": f"Yes {word['answer']}."},
        {"role": "user", "content": [text, {"type": "text", "text": f"Where is {word['user']}?"}]},
    ]
    return word, {
        "messages": messages,
        "max_tokens": 8,
        "agent": word["header"],
        "user": word["person"],
        "stop": [word["stop"]],
        "tools": [{"type": "function", "function": look}],
    }


def canaries(model: Path, level: TraceLevel, count: int) -> dict[str, int]:
    """How many words were looked for, and how many were found where."""
    keys = of_tests("server.keyrings")
    words: list[str] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        house(model, Path(folder), KeeperSettings(level=level)) as made,
    ):
        for number in range(count):
            own, body = conversation(number)
            words += own.values()
            attention = ({}, {"attention": {"level": "topk"}}, {"attention": {"level": "full"}})[number % 3]
            made.ask(f"r-{number}", (keys.ANNA, keys.BEN)[number % 2], **(body | attention))
        made.keeper.flush()
        traces = made.words_in_traces()
        found = {"traces": sum(json.dumps(word)[1:-1] in traces or word in traces for word in words)}
        hidden = "".join(made.get(f"/v1/traces/r-{number}", keys.ADMIN).text for number in range(count))
        elsewhere = made.words_elsewhere(keys.ADMIN) | {
            "admin_reads": hidden + made.get("/v1/traces", keys.ADMIN).text
        }
        found |= {place: sum(word in said for word in words) for place, said in elsewhere.items()}
        found |= denied(made, count)
        found |= erased(made, count)
    return {"searched": len(words), **found}


def denied(made: House, count: int) -> dict[str, int]:
    """How often another tenant asked for a trace, and how often he was told more than that it is unknown."""
    keys = of_tests("server.keyrings")
    told = 0
    for number in range(count):
        other = (keys.BEN, keys.ANNA)[number % 2]
        answer, unknown = made.get(f"/v1/traces/r-{number}", other), made.get("/v1/traces/r-unknown", other)
        same = answer.text.replace(f"r-{number}'", "'") == unknown.text.replace("r-unknown'", "'")
        told += answer.status_code != 404 or not same
    rows = made.get("/v1/traces?limit=1000", keys.BEN).json()["data"]
    told += sum(int(row["id"].removeprefix("r-")) % 2 == 0 for row in rows)
    return {"cross_tenant_reads": count, "cross_tenant_told": told}


def erased(made: House, count: int) -> dict[str, int]:
    """Of how many erased requests a byte is left."""
    keys = of_tests("server.keyrings")
    for number in range(0, count, 4):
        httpx.delete(f"{made.url}/v1/traces/r-{number}", headers=keys.bearer(keys.ANNA)).raise_for_status()
    one = made.words_in_traces()
    left = sum(f"'r-{number}'" in one for number in range(0, count, 4))
    tenant = made.get("/v1/traces?limit=1", keys.BEN).json()["data"][0]["tenant"]
    httpx.delete(f"{made.url}/v1/traces", headers=keys.bearer(keys.BEN)).raise_for_status()
    return {"erased_left": left + (tenant in made.words_in_traces())}


def report(sizes: dict[str, dict[str, float]], found: dict[str, dict[str, int]]) -> None:
    """Print both."""
    print(f"{'bytes a token':<16}" + "".join(f"{name:>20}" for name in sizes["L1"]))
    for level, one in sizes.items():
        print(f"{level:<16}" + "".join(f"{value:>20.1f}" for value in one.values()))
    print(f"{'words found':<16}" + "".join(f"{name:>20}" for name in found["L1"]))
    for level, counts in found.items():
        print(f"{level:<16}" + "".join(f"{value:>20}" for value in counts.values()))


def totals(found: Sequence[dict[str, int]]) -> dict[str, int]:
    """All together."""
    return {name: sum(one[name] for one in found) for name in found[0]}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--answers", type=int, default=32, help="answers whose bytes are measured; a multiple of 8"
    )
    parser.add_argument("--tokens", type=int, default=128, help="tokens of an answer")
    parser.add_argument("--conversations", type=int, default=24, help="with words to look for")
    parser.add_argument("--write", action="store_true", help="write results/insight_traces.json")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder))
        sizes = {
            level.word: bytes_per_token(model, level, options.answers, options.tokens) for level in LEVELS
        }
        found = {level.word: canaries(model, level, options.conversations) for level in LEVELS}
    report(sizes, found)
    low = totals([found[level.word] for level in LEVELS if level is not TraceLevel.L3])
    everywhere = totals(list(found.values()))
    metrics = {
        "bytes_per_token": sizes["L1"]["written"],
        "bytes_per_token_worst": sizes["L1"]["one_answer_a_file"],
        "bytes_per_token_by_level": sizes,
        "num_heads": NUM_LAYERS * NUM_HEADS,
        "num_segments": NUM_SEGMENTS,
        "num_groups": 1 + len(GROUPS),
        "num_tokens": options.answers * options.tokens,
        "canaries_searched": low["searched"],
        "canaries_found": low["traces"],
        "canaries_found_elsewhere": sum(
            everywhere[place] for place in ("logs", "metrics", "spans", "audit", "admin_reads")
        ),
        "canaries_control_searched": options.conversations * NUM_READ,
        "canaries_control_found": found["L3"]["traces"],
        "cross_tenant_reads": everywhere["cross_tenant_reads"],
        "cross_tenant_told": everywhere["cross_tenant_told"],
        "erased_left": everywhere["erased_left"],
    }
    if options.write:
        write_result("insight_traces", metrics, "python -m evals.traces --write")
    is_good = (
        metrics["bytes_per_token_worst"] <= MAX_BYTES_PER_TOKEN
        and low["traces"] == metrics["canaries_found_elsewhere"] == 0
        and everywhere["cross_tenant_told"] == everywhere["erased_left"] == 0
        and found["L3"]["traces"] > 0
    )
    print("all held" if is_good else "NOT HELD")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
