"""Adapters are served as models beside their own: named at the start, loaded and unloaded while it runs."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import transformers
from openai import OpenAI

from cynosure.cli.assembly import ServeOptions, assemble
from cynosure.cli.serve_adapters import add_adapter_arguments, with_adapters
from cynosure.core.errors import CheckpointNotFound, InputError
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.models.adapters.folder import read_adapter
from cynosure.models.adapters.limits import AdapterLimits
from cynosure.models.adapters.targets import Base
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import load
from cynosure.server.access.keys import KeyRing, parse_keys
from cynosure.server.admission import Admission
from cynosure.server.remote.adapters import NamedAdapter
from cynosure.server.remote.supervisor import Supervisor
from tests.models.adapters.peft_folders import write_adapter
from tests.server.fakes import serving
from tests.server.keyrings import ADMIN, ANNA, LINES, bearer
from tests.server.served_tiny import write_decoder

IDS = [70, 71, 72, 73, 74, 75, 76, 77, 78, 79]
GREEDY = {"prompt": IDS, "max_tokens": 6, "temperature": 0, "ignore_eos": True, "return_token_ids": True}


@dataclass(frozen=True)
class Served:
    """A server with one decoder, one adapter from its start, and a root that holds two more."""

    url: str
    checkpoint: Path
    root: Path
    supervisor: Supervisor

    def post(self, path: str, key: str = ADMIN, **fields: object) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=fields, headers=bearer(key), timeout=60)

    def load(self, name: str, folder: str | Path, key: str = ADMIN, **fields: object) -> httpx.Response:
        return self.post("/v1/load_lora_adapter", key, lora_name=name, lora_path=str(folder), **fields)

    def unload(self, name: str, key: str = ADMIN) -> httpx.Response:
        return self.post("/v1/unload_lora_adapter", key, lora_name=name)

    def chosen(self, model: str, **fields: object) -> list[int]:
        response = self.post("/v1/completions", model=model, **(GREEDY | fields))
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["token_ids"]

    def expected(self, folder: Path | None) -> list[int]:
        """The plain loop's."""
        model = load(self.checkpoint, dtype="float32")
        base = Base(model.brand, model.spec)
        adapters = [None if folder is None else read_adapter("x", folder, base)]
        options = SamplingOptions(6, eos_token_ids=())
        return list(generate(model, [IDS], options, adapters=adapters)[0].token_ids)

    def models(self) -> dict[str, str | None]:
        listed = httpx.get(f"{self.url}/v1/models", headers=bearer(ANNA)).json()["data"]
        return {model["id"]: model["parent"] for model in listed}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, root = tmp_path_factory.mktemp("adapted"), tmp_path_factory.mktemp("root")
    checkpoint = write_decoder(folder, 4096)
    oracle = transformers.AutoModelForCausalLM.from_pretrained(checkpoint)
    for seed, place in enumerate((folder / "first", root / "second", root / "third", folder / "outside")):
        write_adapter(oracle, place, seed)
    options = ServeOptions(
        folder,
        (ServedModel("tiny", str(checkpoint), dtype="float32"),),
        adapters=(NamedAdapter("first", "tiny", folder / "first"),),
        adapter_roots=(root,),
        with_docs=False,
        num_threads=1,
        pool=PoolSettings(kv_cache_bytes=8 << 20, adapters=AdapterLimits(max_adapters=3)),
    )
    made = []

    def begin(report: object) -> object:
        made.append(assemble(options, report))  # type: ignore[arg-type]
        return made[0]

    admission = Admission(KeyRing(parse_keys(LINES, "the test")))
    with serving(begin, wait_s=60, admission=admission) as url:  # type: ignore[arg-type]
        supervisor = made[0].engine
        assert isinstance(supervisor, Supervisor)
        yield Served(url, checkpoint, root, supervisor)


def test_an_adapter_is_a_model_of_its_own(served: Served) -> None:
    assert served.models() == {"tiny": None, "first": "tiny"}
    assert served.chosen("first") == served.expected(served.checkpoint / "first")
    assert served.chosen("tiny") == served.expected(None) != served.chosen("first")
    one = httpx.get(f"{served.url}/v1/models/first", headers=bearer(ANNA)).json()
    assert (one["kind"], one["parent"]) == ("completion", "tiny")
    client = OpenAI(base_url=f"{served.url}/v1", api_key=ANNA)
    asked = [{"role": "user", "content": "Name a star."}]
    chat = client.chat.completions.create(model="first", messages=asked, max_tokens=3)  # type: ignore[arg-type]
    assert chat.model == "first"


def test_one_is_loaded_and_unloaded_while_it_runs(served: Served) -> None:
    response = served.load("second", served.root / "second")
    assert (response.status_code, response.text) == (
        200,
        "Success: LoRA adapter 'second' added successfully.",
    )
    assert served.models()["second"] == "tiny"
    assert served.chosen("second") == served.expected(served.root / "second")
    assert served.load("second", served.root / "third").status_code == 400
    response = served.unload("second")
    assert response.text == "Success: LoRA adapter 'second' removed successfully."
    assert "second" not in served.models()
    assert served.post("/v1/completions", model="second", **GREEDY).status_code == 404
    assert served.unload("second").status_code == 404


def test_another_content_under_the_name_finds_no_page_of_the_first(served: Served) -> None:
    def cached() -> int:
        prompt = [80 + number % 40 for number in range(70)]
        response = served.post("/v1/completions", model="again", **(GREEDY | {"prompt": prompt}))
        return response.json()["usage"]["prompt_tokens_details"]["cached_tokens"]

    for folder in ("second", "third"):
        assert served.load("again", served.root / folder).status_code == 200
        assert [cached(), cached()] == [0, 64]
        assert served.unload("again").status_code == 200


def test_unloading_waits_for_answers_under_way(served: Served) -> None:
    assert served.load("busy", served.root / "second").status_code == 200
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(served.chosen("busy", max_tokens=300)))
    thread.start()
    deadline = time.monotonic() + 30
    while _running(served) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert served.unload("busy").status_code == 200
    thread.join()
    assert len(found[0]) == 300
    assert served.models() == {"tiny": None, "first": "tiny"}


def _running(served: Served) -> float:
    text = httpx.get(f"{served.url}/metrics", headers=bearer(ADMIN)).text
    lines = [line for line in text.splitlines() if "num_requests_running" in line and line[0] != "#"]
    # The load of a model's engine is told under the model alone.
    assert len(lines) == 1
    assert "tiny" in lines[0]
    return float(lines[0].rpartition(" ")[2])


def test_a_process_that_ends_is_followed_by_one_with_the_same_adapters(served: Served) -> None:
    assert served.load("third", served.root / "third").status_code == 200
    lost = shutil.copytree(served.root / "second", served.root / "lost")
    assert served.load("lost", lost).status_code == 200
    # One whose folder is gone is lost alone.
    shutil.rmtree(lost)
    restarts = served.supervisor.num_restarts
    assert served.supervisor.pid is not None
    os.kill(served.supervisor.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not (served.supervisor.is_up and served.supervisor.num_restarts > restarts):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert served.chosen("third") == served.expected(served.root / "third")
    assert served.chosen("first") == served.expected(served.checkpoint / "first")
    assert served.post("/v1/completions", model="lost", **GREEDY).status_code == 404
    assert [served.unload(name).status_code for name in ("third", "lost")] == [200, 200]


def test_who_may_and_what_may_be_loaded(served: Served, tmp_path: Path) -> None:
    assert served.load("x", served.root / "second", ANNA).status_code == 403
    assert served.unload("first", ANNA).status_code == 403
    link = served.root / "link"
    link.symlink_to(served.checkpoint / "outside")
    half = served.root / "half"
    half.mkdir()
    (half / "adapter_config.json").symlink_to(served.checkpoint / "outside" / "adapter_config.json")
    outside = (
        served.checkpoint / "outside", link, half, served.root / ".." / "x", "/", "", "~nobody/x", "a\0b",
        served.root / "absent",
    )  # fmt: skip
    for folder in outside:
        response = served.load("x", folder)
        assert response.status_code == 400, (folder, response.text)
    link.unlink()
    shutil.rmtree(half)
    second = served.root / "second"
    for name in ("tiny", "first", "", "a\nb", "x" * 257):
        assert served.load(name, second).status_code == 400
    assert served.load("x", second, base_model_name="nobody").status_code == 404
    assert served.load("x", second, base_model_name="tiny").status_code == 200
    assert served.unload("x").status_code == 200
    assert "field 'load_inplace' is not known" in served.load("x", second, load_inplace=True).text
    empty = served.root / "empty"
    empty.mkdir()
    assert served.load("x", empty).json()["error"]["code"] == "checkpoint_not_found"
    assert served.models() == {"tiny": None, "first": "tiny"}


def test_an_adapter_that_is_none_ends_the_start(served: Served, tmp_path: Path) -> None:
    options = ServeOptions(
        tmp_path,
        (ServedModel("tiny", str(served.checkpoint), dtype="float32"),),
        adapters=(NamedAdapter("a", "tiny", tmp_path),),
        with_docs=False,
        num_threads=1,
        pool=PoolSettings(kv_cache_bytes=8 << 20, adapters=AdapterLimits()),
    )
    with pytest.raises(CheckpointNotFound, match=r"adapter_config\.json"):
        assemble(options, lambda stage, done, total: None)


def options_of(*given: str, models: tuple[str, ...] = ("tiny",)) -> ServeOptions:
    parser = argparse.ArgumentParser()
    add_adapter_arguments(parser)
    served_models = tuple(ServedModel(name, f"/{name}") for name in models)
    return with_adapters(ServeOptions(Path("index"), served_models), parser.parse_args(given))


def test_flags(tmp_path: Path) -> None:
    assert options_of().pool.adapters is None
    assert options_of("--enable-lora").pool.adapters == AdapterLimits()
    found = options_of(
        "--lora-modules", "a=/x", "b=/y=z", "--lora-modules",
        '{"name": "c", "path": "/z", "base_model_name": "tiny"}',
        "--lora-root", str(tmp_path), "--max-loras", "3", "--max-lora-rank", "9", "--lora-memory", "1MB",
    )  # fmt: skip
    assert found.adapters == tuple(
        NamedAdapter(name, "tiny", Path(folder)) for name, folder in (("a", "/x"), ("b", "/y=z"), ("c", "/z"))
    )
    assert found.adapter_roots == (tmp_path,)
    assert found.pool.adapters == AdapterLimits(3, 9, 10**6)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--lora-modules", "a"], "write NAME=FOLDER"),
        (["--lora-modules", "=x"], "write NAME=FOLDER"),
        (["--lora-modules", "a="], "write NAME=FOLDER"),
        (["--lora-modules", "{"], "no valid JSON"),
        (["--lora-modules", '{"name": "a", "path": 3}'], "'path', which is no text"),
        (
            ["--lora-modules", '{"name": "a", "path": "x", "rank": 3}'],
            "'rank', which is no text or not known",
        ),
        (["--lora-modules", '{"name": "a", "path": "x", "base_model_name": "b"}'], "the models are: tiny"),
        (["--lora-modules", "a=x", "a=y"], "two models are called 'a'"),
        (["--lora-modules", "tiny=x"], "two models are called 'tiny'"),
        (["--lora-modules", "a=x", "b=x", "--max-loras", "1"], "names 2 adapters; the limit is 1"),
        (["--max-loras", "2"], "are about adapters"),
        (["--lora-root", "/"], "are about adapters"),
        (["--enable-lora", "--max-loras", "0"], "the limit is 1"),
        (["--enable-lora", "--lora-root", "/no/such"], "which is no folder"),
    ],
)
def test_flags_that_do_not_fit(given: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        options_of(*given)


def test_of_several_models_one_is_named() -> None:
    with pytest.raises(InputError, match="there are 2 models"):
        options_of("--lora-modules", "a=x", models=("one", "two"))
    written = '{"name": "a", "path": "/x", "base_model_name": "two"}'
    found = options_of("--lora-modules", written, models=("one", "two"))
    assert found.adapters == (NamedAdapter("a", "two", Path("/x")),)
