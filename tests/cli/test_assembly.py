from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cynosure.cli.assembly import ServeOptions, assemble, named_models
from cynosure.cli.engine_completer import EngineCompleter
from cynosure.cli.own_docs import index_own_docs, own_index_path
from cynosure.core.errors import CheckpointNotFound, InputError, InputTooLong
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.sampling import SamplingParams
from cynosure.models.embedder import Embedder
from cynosure.models.minilm import load_minilm
from cynosure.server.runtime import Stopped
from cynosure.server.services import Generation, Services
from tests.models.gguf_files import MODELS, Kind, write_pair
from tests.models.gguf_vocabularies import byte_level_metadata, cut_like
from tests.models.tiny_embedders import write_encoder
from tests.server.local_ranker import load_ranker

LOADED = ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2 (index)", "ranker", "tiny", "labels")
MERGE = "how do I merge sorted iterables"

#: Serves for real, and asks each kind of model; says which heavy packages came along.
SERVE_WITHOUT_TORCH = """
import asyncio, sys
from pathlib import Path
from cynosure.cli.assembly import ServeOptions, assemble
from cynosure.engine.pool.card import ServedModel
from cynosure.engine.sampling import SamplingParams
from cynosure.server.services import Generation

index, checkpoint = map(Path, sys.argv[1:])
options = ServeOptions(index, (ServedModel("tiny", str(checkpoint)),), with_own_docs=True)
services = assemble(options, lambda stage, done, total: None)

async def ask():
    model = services.completer("tiny")
    asked = Generation(tuple(model.encode("a star")), SamplingParams(max_tokens=3))
    tokens = [token async for together in model.complete(asked) for token in together]
    vectors = await services.embedder("all-MiniLM-L6-v2").embed(["a star"])
    answer = await services.store("documents").ask("how hot is the oven for the loaf", 1)
    return len(tokens) >= 3 and vectors.vectors.shape == (1, 384) and answer.quotes[0].attended

assert asyncio.run(ask())
services.close()
print(sorted({"torch", "transformers", "safetensors", "cynosure.attention"} & sys.modules.keys()))
"""


@pytest.fixture(scope="module")
def labelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    write_encoder(folder, "BertForSequenceClassification", id2label={0: "bad", 1: "good"})
    return folder


@pytest.fixture(scope="module")
def services(
    index_folder: Path, checkpoint: Path, labelling: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    stages: list[str] = []
    models = ServedModel("tiny", str(checkpoint)), ServedModel("labels", str(labelling), "float32")
    note = tmp_path_factory.mktemp("notes") / "bread.md"
    note.write_text("# Bread\n\nBake the loaf at 230 degrees.\n")
    index_own_docs(own_index_path(index_folder), [note], load_minilm(), lambda stage, done, total: None)
    options = ServeOptions(index_folder, models, with_own_docs=True)
    made = assemble(options, lambda stage, done, total: stages.append(stage))
    assert stages[0] == "Starting the engine"
    # Short ones may be over before anybody looks.
    assert set(stages[1:]) <= {"Starting the engine", *(f"Loading {name}" for name in LOADED)}
    yield made
    made.close()


def test_a_model_is_called_by_its_folder_or_as_wanted(tmp_path: Path) -> None:
    assert named_models([f"{tmp_path}/one/", "b=two", "org/three", f"{tmp_path}/a=b"]) == (
        ("one", f"{tmp_path}/one/"),
        ("b", "two"),
        ("three", "org/three"),
        ("a=b", f"{tmp_path}/a=b"),
    )


def test_the_end_of_a_file_s_name_is_no_part_of_the_model_s() -> None:
    assert named_models(["files/tiny.Q8_0.gguf"]) == (("tiny.Q8_0", "files/tiny.Q8_0.gguf"),)


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"two models are called 'x'.*OTHER=b/x"):
        named_models(["a/x", "b/x"])


def test_everything_is_put_together(services: Services) -> None:
    """The embedder of the index serves the index alone."""
    assert list(services.embedders) == ["all-MiniLM-L6-v2"]
    assert list(services.stores) == ["python-docs", "documents"]
    assert list(services.completers) == ["tiny"]
    assert list(services.rankers) == ["ranker", "labels"]
    assert services.engine is not None
    assert services.engine.is_up


def test_own_documents_are_asked_beside_those_of_python(services: Services) -> None:
    answer = asyncio.run(services.store("documents").ask("how hot is the oven for the loaf", 1))
    assert [(quote.file, quote.text) for quote in answer.quotes] == [
        ("bread.md", "# Bread\n\nBake the loaf at 230 degrees.")
    ]
    assert services.store("python-docs").name == next(iter(services.stores))


def test_the_vectors_that_callers_get_are_exact(services: Services) -> None:
    """The reference runner's to 0.9999; bfloat16, which the index may take, is not."""
    texts = [MERGE, "Return a new list.", "naïve café, 東京", "x" * 300]
    got = asyncio.run(services.embedder("all-MiniLM-L6-v2").embed(texts))
    exact = load_minilm("float32").embed_counted(texts)
    assert got.token_counts == exact.token_counts
    assert float((got.vectors * exact.vectors).sum(-1).min()) > 0.999999
    narrow = load_minilm("bfloat16").embed(texts)
    assert float((narrow * exact.vectors).sum(-1).min()) < 0.999999


def test_the_embedder_says_its_limits_and_refuses_what_is_over_them(services: Services) -> None:
    model = services.embedder("all-MiniLM-L6-v2")
    assert (model.dim, model.max_tokens) == (384, 256)
    with pytest.raises(InputTooLong, match="256"):
        asyncio.run(model.embed(["word " * 300]))


def test_a_classifier_over_there_is_the_one_here(services: Services, labelling: Path) -> None:
    readings = [("a star", "the sea"), ("alone",)]
    remote, local = services.ranker("labels"), load_ranker("labels", labelling)
    assert (remote.labels, remote.kind, remote.max_tokens) == (local.labels, local.kind, local.max_tokens)
    got, expected = asyncio.run(remote.score(readings)), asyncio.run(local.score(readings))
    np.testing.assert_allclose(got.logits, expected.logits, atol=1e-5)
    assert got.token_counts == expected.token_counts


@pytest.mark.parametrize("with_special", [True, False])
def test_ids_of_a_text_are_that_text(services: Services, embedder: Embedder, with_special: bool) -> None:
    ids = embedder.tokenizer.encode(MERGE, add_special_tokens=with_special).ids
    model = services.embedder("all-MiniLM-L6-v2")
    vectors = asyncio.run(model.embed([model.text_of(ids), MERGE])).vectors
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)


@pytest.mark.parametrize("ids", [[10**9], [101, 102, 101], [100, 100], [2**40]])
def test_ids_that_no_text_gives_are_refused(services: Services, ids: list[int]) -> None:
    with pytest.raises(InputError, match="Send the text"):
        services.embedder("all-MiniLM-L6-v2").text_of(ids)


def test_only_models_where_documentation_is_not_wanted(tmp_path: Path, checkpoint: Path) -> None:
    options = ServeOptions(tmp_path, (ServedModel("tiny", str(checkpoint)),), with_docs=False, is_lazy=True)
    stages: list[str] = []
    services = assemble(options, lambda stage, done, total: stages.append(stage))
    assert (services.embedders, services.stores) == ({}, {})
    assert set(stages) == {"Starting the engine"}, "a lazy model is loaded by its first request"
    services.close()


def test_a_gguf_file_is_served_with_its_tokenizer_and_template(tmp_path: Path) -> None:
    vocabulary = byte_level_metadata(cut_like("qwen2"), "qwen2", add_bos_token=False)
    template = {"tokenizer.chat_template": "<|im_start|>{{ messages[0].content }}<|im_end|>"}
    path, _ = write_pair(tmp_path / "made", MODELS["qwen2"], Kind.Q8_0, **vocabulary, **template)
    options = ServeOptions(tmp_path, (ServedModel("tiny", str(path)),), with_docs=False)
    services = assemble(options, lambda stage, done, total: None)
    model = services.completer("tiny")

    async def answer() -> int:
        asked = Generation(tuple(model.encode("a star")), SamplingParams(max_tokens=3, ignore_eos=True))
        return len([token async for together in model.complete(asked) for token in together])

    try:
        assert asyncio.run(answer()) >= 3
        assert isinstance(model, EngineCompleter)
        assert model.chat is not None
    finally:
        services.close()


@pytest.mark.usefixtures("services")  # which index the note
def test_the_server_s_process_has_no_torch_while_it_serves(index_folder: Path, checkpoint: Path) -> None:
    command = [sys.executable, "-c", SERVE_WITHOUT_TORCH, str(index_folder), str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_what_the_engine_can_not_serve_is_said_in_its_words(tmp_path: Path) -> None:
    options = ServeOptions(tmp_path, (ServedModel("x", str(tmp_path / "absent")),), with_docs=False)
    with pytest.raises(CheckpointNotFound, match="there is no folder"):
        assemble(options, lambda stage, done, total: None)


def test_whoever_listens_can_stop_a_start(tmp_path: Path, checkpoint: Path) -> None:
    def report(stage: str, done: int, total: int) -> None:
        raise Stopped(stage)

    options = ServeOptions(tmp_path, (ServedModel("tiny", str(checkpoint)),), with_docs=False)
    with pytest.raises(Stopped):
        assemble(options, report)
