"""The page of models says what the table of brands, the specs and the results say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cynosure.models.families.table import BRANDS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def list_models() -> ModuleType:
    spec = importlib.util.spec_from_file_location("list_models", DOCS / "list_models.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def specs(list_models: ModuleType) -> dict[str, Any]:
    return list_models.specs()


def test_the_page_is_what_is_written_today(list_models: ModuleType) -> None:
    page = list_models.PAGE.read_text(encoding="utf-8")
    assert page == list_models.page(), "docs/models.md is stale; run make docs"
    assert all(f"| {architecture} |" in page for architecture in BRANDS)


def test_rows_differ_where_specs_do(list_models: ModuleType, specs: dict[str, Any]) -> None:
    told = {name: list_models.describe(spec) for name, spec in specs.items()}
    assert "parallel halves" in told["FalconForCausalLM"]
    assert "parallel" not in told["LlamaForCausalLM"]
    assert "in some layers" in told["SmolLM3ForCausalLM"]
    assert len(set(told.values())) > len(told) // 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LlamaForCausalLM", "all"),
        ("MistralForCausalLM", "windows"),
        ("Gemma2ForCausalLM", "windows, and in some layers all"),
        ("Mamba2ForCausalLM", "a state"),
        ("BambaForCausalLM", "a state, and in some layers all"),
        ("RecurrentGemmaForCausalLM", "a state, and in some layers windows"),
        ("LlavaForConditionalGeneration", "all"),
        ("BartForConditionalGeneration", "all of the answer; of the input, once"),
        ("BertModel", "nothing"),
    ],
)
def test_what_is_kept_of_a_context_is_read_off_the_layers(
    list_models: ModuleType, specs: dict[str, Any], name: str, words: str
) -> None:
    assert list_models.kept(specs[name]) == words
