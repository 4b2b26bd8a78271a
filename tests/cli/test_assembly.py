from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.cli.assembly import ServeOptions, assemble, named_models
from cynosure.core.errors import InputError
from cynosure.models.minilm import load_minilm


def test_a_model_is_called_by_its_folder_or_as_wanted(tmp_path: Path) -> None:
    assert named_models([f"{tmp_path}/one/", "b=two", "org/three", f"{tmp_path}/a=b"]) == (
        ("one", f"{tmp_path}/one/"),
        ("b", "two"),
        ("three", "org/three"),
        ("a=b", f"{tmp_path}/a=b"),
    )


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match=r"two models are called 'x'.*--model OTHER=b/x"):
        named_models(["a/x", "b/x"])


def test_everything_is_put_together(index_folder: Path, checkpoint: Path) -> None:
    stages: list[str] = []
    options = ServeOptions(index_folder, (("tiny", str(checkpoint)),))
    services = assemble(options, lambda stage, done, total: stages.append(stage))
    assert list(services.embedders) == ["all-MiniLM-L6-v2"]
    assert list(services.stores) == ["python-docs"]
    assert list(services.completers) == ["tiny"]
    assert stages == ["Loading the embedder", "Loading tiny"]


def test_the_vectors_that_callers_get_are_exact(index_folder: Path) -> None:
    """The reference runner's to 0.9999; bfloat16, which the index may take, is not."""
    texts = ["how do I merge sorted iterables", "Return a new list.", "naïve café, 東京", "x" * 300]
    services = assemble(ServeOptions(index_folder), lambda stage, done, total: None)
    got = services.embedders["all-MiniLM-L6-v2"].embed(texts).vectors
    exact = load_minilm("float32").embed(texts)
    assert float((got * exact).sum(-1).min()) > 0.999999
    narrow = load_minilm("bfloat16").embed(texts)
    assert float((narrow * exact).sum(-1).min()) < 0.999999


def test_only_models_where_documentation_is_not_wanted(tmp_path: Path, checkpoint: Path) -> None:
    options = ServeOptions(tmp_path, (("tiny", str(checkpoint)),), with_docs=False)
    services = assemble(options, lambda stage, done, total: None)
    assert (services.embedders, services.stores) == ({}, {})
