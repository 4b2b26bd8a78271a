"""Turn a name into a model that runs. Knows nothing of any family, nor of how tokens are sampled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cynosure.attention.backends.choice import AUTO, BACKENDS
from cynosure.core.errors import AttentionError, UnknownOption, UnsupportedArchitecture, UnsupportedConfig
from cynosure.models.brand import Brand, ModelKind, TensorSource
from cynosure.models.chat.template import ChatTemplate, read_templates
from cynosure.models.checkpoint import Weights, choose_dtype, fill, open_weights
from cynosure.models.config_reader import ConfigReader, architecture_of
from cynosure.models.families.table import BRANDS
from cynosure.models.generation_config import GenerationDefaults, read_generation_defaults
from cynosure.models.gguf.header import is_gguf
from cynosure.models.hub import resolve_checkpoint
from cynosure.models.json_file import JsonValue
from cynosure.models.quantize import QuantScheme, coded_sources, quantise_graph, read_scheme, scheme_of
from cynosure.models.quantize.scheme import CONFIG_KEY
from cynosure.models.rope_config import DECLARED_LENGTH
from cynosure.models.stored_config import place_of_config, stored_config
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.models.text.tokenizer_files import has_tokenizer


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A checkpoint in memory: its spec, its graph with weights, and what lies beside them in the folder.

    `scheme` says which weights are codes; `None` where none is.
    """

    folder: Path
    brand: Brand
    spec: Any
    graph: nn.Module
    dtype: torch.dtype
    backend: str
    scheme: QuantScheme | None = None

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
        return Tokenizer.from_folder(self.folder) if has_tokenizer(self.folder) else None

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
    quantize: str | None = None,
) -> LanguageModel:
    """Load a checkpoint from a folder, from a GGUF file, or by its hub id.

    Args:
        name_or_path: a folder, a GGUF file, or an id such as `org/name`.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, `keep` (as stored) or `auto` (as the config says).
        backend: of attention, by name, or `auto`.
        max_model_len: the longest sequence that will be asked for; by default what the checkpoint reaches.
            Rotary scalings that look at the length are chosen by it.
        quantize: the code to keep weights in (`int8`, `int4`, `int4-g128`, ...: `quantize.SCHEMES`); each is
            quantised as it is read. A checkpoint that was quantised beforehand needs no word.

    Raises:
        CheckpointError: the checkpoint is absent, damaged, unsafe, or of a kind that we do not know.
        UnknownOption: no such dtype, backend or code, or another code than the checkpoint's own.
    """
    return open_model(
        name_or_path, dtype=dtype, backend=backend, max_model_len=max_model_len, quantize=quantize
    ).filled()


@dataclass(frozen=True, eq=False)
class OpenModel:
    """A checkpoint whose headers were read: its graph is on the meta device, `tensors` would fill it.

    `fill_dtype` is what weights become; `None` leaves each as it is stored.
    """

    folder: Path
    brand: Brand
    spec: Any
    graph: nn.Module
    dtype: torch.dtype
    fill_dtype: torch.dtype | None
    backend: str
    scheme: QuantScheme | None
    tensors: Mapping[str, TensorSource]

    def filled(
        self,
        skip: Collection[str] = (),
        *,
        first: str = "",
        notice: Callable[[Collection[str]], None] | None = None,
    ) -> LanguageModel:
        """Read all weights but those in `skip`, and return the model; once only. See `fill`."""
        ignore = self.brand.ignore
        fill(self.graph, self.tensors, self.fill_dtype, ignore=ignore, skip=skip, first=first, notice=notice)
        return LanguageModel(
            self.folder, self.brand, self.spec, self.graph.eval(), self.dtype, self.backend, self.scheme
        )


def open_model(
    name_or_path: str | Path,
    *,
    dtype: str = "auto",
    backend: str = AUTO,
    max_model_len: int | None = None,
    quantize: str | None = None,
    is_mapped: bool = True,
) -> OpenModel:
    """Do what `load` does, but for the weights; where they are not `is_mapped`, tensors are copies."""
    wanted = None if quantize is None else scheme_of(quantize)
    if backend != AUTO and backend not in BACKENDS:
        raise UnknownOption(f"no backend is called {backend!r}; choose one of {', '.join([AUTO, *BACKENDS])}")
    folder = resolve_checkpoint(name_or_path)
    config = stored_config(folder)
    stored = read_scheme(config, place_of_config(folder))
    brand, spec = read_spec(folder, config, max_model_len)
    scheme = _agreed(wanted, stored, folder)
    # What becomes codes is read and thrown away; a map of the file would keep it in memory.
    weights = open_weights(folder, is_mapped=is_mapped and (scheme is None or stored is not None))
    chosen = choose_dtype(dtype, config, weights)
    graph = empty_graph(brand, spec, scheme, chosen)
    tensors = graph_tensors(brand, spec, weights, graph, stored)
    # Beside matrices of 16 bits, GGUF files keep norms in 32: there, `keep` means the dtype of the matrices.
    is_kept = dtype == "keep" and not is_gguf(folder)
    fill_dtype = None if is_kept else chosen
    return OpenModel(folder, brand, spec, graph, chosen, fill_dtype, backend, scheme, tensors)


def read_spec(folder: Path, config: Mapping[str, JsonValue], max_model_len: int | None) -> tuple[Brand, Any]:
    """Return the row of a checkpoint's architecture, and its spec; reads no tensor.

    Raises:
        CheckpointError: the architecture, or a key of the config, is not served here.
    """
    brand = brand_of(architecture_of(config))
    declared = {} if max_model_len is None else {DECLARED_LENGTH: max_model_len}
    if read_scheme(config) is not None:
        config = {key: value for key, value in config.items() if key != CONFIG_KEY}
    return brand, _parsed(brand, ConfigReader({**config, **declared}, place_of_config(folder)))


def empty_graph(brand: Brand, spec: object, scheme: QuantScheme | None, dtype: torch.dtype) -> nn.Module:
    """Return a graph on the meta device, with coded layers where a scheme asks for them."""
    with torch.device("meta"):
        graph = brand.build(spec)
    if scheme is not None:
        quantise_graph(graph, scheme, dtype)
    return graph


def graph_tensors(
    brand: Brand, spec: object, weights: Weights, graph: nn.Module, stored: QuantScheme | None
) -> Mapping[str, TensorSource]:
    """Return the tensors of a graph by its own names, which quantised checkpoints are written with."""
    if stored is not None:
        return {name: weights.later(name) for name in weights.names()}
    return coded_sources(graph, brand.rename(spec, weights))


def _agreed(wanted: QuantScheme | None, stored: QuantScheme | None, folder: Path) -> QuantScheme | None:
    """Return the scheme to load in; codes are not made from codes."""
    if wanted is not None and stored is not None and wanted != stored:
        raise UnknownOption(
            f"{folder} holds {stored.name} codes; they can't become {wanted.name}. Quantise the checkpoint "
            "that they were made from, or leave the option out."
        )
    return wanted or stored


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
