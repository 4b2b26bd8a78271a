"""Turn a name into a model that runs. Knows nothing of any family, nor of how tokens are sampled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cynosure.attention.backends.choice import AUTO, BACKENDS
from cynosure.core.errors import AttentionError, UnknownOption, UnsupportedArchitecture, UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind
from cynosure.models.checkpoint import choose_dtype, fill, open_weights
from cynosure.models.config_reader import ConfigReader, architecture_of, read_config
from cynosure.models.families.table import BRANDS
from cynosure.models.generation_config import GenerationDefaults, read_generation_defaults
from cynosure.models.hub import resolve_checkpoint
from cynosure.models.rope_config import DECLARED_LENGTH
from cynosure.models.template import ChatTemplate, read_templates
from cynosure.models.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A checkpoint in memory: its spec, its graph with weights, and what lies beside them in the folder."""

    folder: Path
    brand: Brand
    spec: Any
    graph: nn.Module
    dtype: torch.dtype
    backend: str

    @property
    def kind(self) -> ModelKind:
        """What the graph does with tokens."""
        return self.brand.kind

    @property
    def architecture(self) -> str:
        """The name by which `config.json` calls the graph."""
        return self.brand.architecture

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer; `None` where the folder has none, and the model speaks ids only."""
        return Tokenizer.from_folder(self.folder) if (self.folder / "tokenizer.json").is_file() else None

    @cached_property
    def generation_defaults(self) -> GenerationDefaults:
        """What the checkpoint's authors advise for sampling, and its end tokens."""
        return read_generation_defaults(self.folder)

    @cached_property
    def chat_template(self) -> ChatTemplate | None:
        """The templates of conversations; `None` where the folder has none."""
        sources = read_templates(self.folder)
        if not sources:
            return None
        tokenizer = self.tokenizer
        if tokenizer is None:
            return ChatTemplate(sources)
        return ChatTemplate(sources, tokenizer.named_tokens, tokenizer.control_tokens)


def load(
    name_or_path: str | Path,
    *,
    dtype: str = "auto",
    backend: str = AUTO,
    max_model_len: int | None = None,
) -> LanguageModel:
    """Load a checkpoint from a folder, or by its hub id.

    Args:
        name_or_path: a folder, or an id such as `org/name`.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, `keep` (as stored) or `auto` (as the config says).
        backend: of attention, by name, or `auto`.
        max_model_len: the longest sequence that will be asked for; by default what the checkpoint reaches.
            Rotary scalings that look at the length are chosen by it.

    Raises:
        CheckpointError: the checkpoint is absent, damaged, unsafe, or of a kind that we do not know.
        UnknownOption: no such dtype or backend.
    """
    if backend != AUTO and backend not in BACKENDS:
        raise UnknownOption(f"no backend is called {backend!r}; choose one of {', '.join([AUTO, *BACKENDS])}")
    folder = resolve_checkpoint(name_or_path)
    config = read_config(folder)
    brand = brand_of(architecture_of(config))
    declared = {} if max_model_len is None else {DECLARED_LENGTH: max_model_len}
    spec = _parsed(brand, ConfigReader({**config, **declared}, str(folder / "config.json")))
    weights = open_weights(folder)
    chosen = choose_dtype(dtype, config, weights)
    with torch.device("meta"):
        graph = brand.build(spec)
    fill(graph, brand.rename(spec, weights), None if dtype == "keep" else chosen, ignore=brand.ignore)
    return LanguageModel(folder, brand, spec, graph.eval(), chosen, backend)


def _parsed(brand: Brand, reader: ConfigReader) -> object:
    """Return the spec; what attention refuses is then the config's fault."""
    try:
        return brand.parse(reader)
    except AttentionError as error:
        raise UnsupportedConfig(f"{reader.where} describes no attention that exists: {error}.") from error


def brand_of(architecture: str) -> Brand:
    """Return the row of an architecture.

    Raises:
        UnsupportedArchitecture: there is none; the message lists those that there are.
    """
    if architecture not in BRANDS:
        raise UnsupportedArchitecture(
            f"architecture {architecture!r} is not served here; these are: {', '.join(sorted(BRANDS))}. "
            "Take a checkpoint of one of them."
        )
    return BRANDS[architecture]
