from __future__ import annotations

from pathlib import Path

import pytest

from cynosure.cli.assembly import ServeOptions, assemble, named_models
from cynosure.core.errors import InputError


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


def test_only_models_where_documentation_is_not_wanted(tmp_path: Path, checkpoint: Path) -> None:
    options = ServeOptions(tmp_path, (("tiny", str(checkpoint)),), with_docs=False)
    services = assemble(options, lambda stage, done, total: None)
    assert (services.embedders, services.stores) == ({}, {})
