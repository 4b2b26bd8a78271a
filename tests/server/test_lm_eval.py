"""EleutherAI's harness gives one model the same likelihoods over the net as in its own process."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from cynosure.cli.local_completer import load_completer
from cynosure.server.services import Services
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

pytestmark = [
    pytest.mark.conformance,
    # The harness and what it stands on.
    pytest.mark.filterwarnings("ignore"),
]

TASKS = Path(__file__).parents[1] / "data" / "lm_eval"
MAX_MODEL_LEN = 96


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer the harness can read too."""
    made = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=MAX_MODEL_LEN)
    (made / "chat_template.jinja").unlink()
    PreTrainedTokenizerFast(
        tokenizer_file=str(made / "tokenizer.json"), eos_token="<|end|>", model_max_length=MAX_MODEL_LEN
    ).save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    def load(_: object) -> Services:
        return Services({}, {}, {"tiny": load_completer("tiny", folder, dtype="float32")}, int(time.time()))

    with serving(load, wait_s=60) as address:
        yield address


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_DATASETS_CACHE", "HF_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp("cache")))
        # Tasks name their data by its place beside them.
        patch.chdir(TASKS)
        yield importlib.import_module("lm_eval")


def answers(
    harness: ModuleType, model: str, arguments: dict[str, Any], batch_size: int = 1
) -> dict[str, list[Any]]:
    """Of each task what was answered, by document."""
    manager = importlib.import_module("lm_eval.tasks").TaskManager(
        include_path=str(TASKS), include_defaults=False
    )
    found = harness.simple_evaluate(
        model=model,
        model_args=arguments,
        tasks=["cynosure_stars", "cynosure_stars_rolling"],
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
        batch_size=batch_size,
    )
    return {
        task: [sample["filtered_resps"] for sample in sorted(samples, key=lambda one: one["doc_id"])]
        for task, samples in found["samples"].items()
    }


@pytest.mark.parametrize(("num_concurrent", "batch_size"), [(1, 1), (4, 3)])
def test_local_completions_say_what_the_library_says(
    harness: ModuleType, folder: Path, url: str, num_concurrent: int, batch_size: int
) -> None:
    common = {"max_length": MAX_MODEL_LEN}
    own = answers(harness, "hf", common | {"pretrained": str(folder), "dtype": "float32", "device": "cpu"})
    served = answers(
        harness,
        "local-completions",
        common
        | {"base_url": f"{url}/v1/completions", "model": "tiny", "tokenizer": str(folder)}
        | {"tokenizer_backend": "huggingface", "num_concurrent": num_concurrent},
        batch_size,
    )
    assert set(own) == set(served) == {"cynosure_stars", "cynosure_stars_rolling"}
    expected = [pair for document in own["cynosure_stars"] for pair in document]
    got = [pair for document in served["cynosure_stars"] for pair in document]
    assert [value for value, _ in got] == pytest.approx([value for value, _ in expected], abs=1e-3)
    assert [bool(is_greedy) for _, is_greedy in got] == [bool(is_greedy) for _, is_greedy in expected]
    assert max(value for value, _ in got) - min(value for value, _ in got) > 10, "they are not all one number"
    texts = [[value for (value,) in found["cynosure_stars_rolling"]] for found in (served, own)]
    assert texts[0] == pytest.approx(texts[1], abs=1e-3)
