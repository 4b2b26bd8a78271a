"""Read a folder whose model compares texts token by token into a value. Knows nothing of tensors.

Two forms exist: ColBERT's own, an encoder and its projection in one file with `artifact.metadata` beside it;
and a sentence-transformers folder that goes from a Transformer straight to a Dense.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cynosure.core.errors import CheckpointCorrupt, UnsupportedConfig
from cynosure.models.config_reader import ConfigReader, read_config
from cynosure.models.json_file import JsonValue, read_json_object
from cynosure.models.sentence_folder import DenseSpec, read_dense

#: The architecture that ColBERT writes, and the file of its settings.
HF_COLBERT = "HF_ColBERT"
METADATA = "artifact.metadata"
_MODULES = "modules.json"


@dataclass(frozen=True)
class LateSpec:
    """How queries and documents are read (ColBERT, arXiv 2004.12832).

    A marker stands behind the first token of each. Where queries are expanded, mask tokens fill them up to
    `query_length`; each gives a vector, and others attend to them only where `attends_to_expansion`. What
    documents have of `skipped` tokens is read and not compared. Without `dense`, the projection lies with the
    encoder's weights.
    """

    encoder_folder: Path
    query_marker: str
    document_marker: str
    query_length: int
    document_length: int
    dense: tuple[DenseSpec, ...] = ()
    is_expanded: bool = True
    attends_to_expansion: bool = False
    skipped: tuple[str, ...] = field(default=tuple(string.punctuation))


def is_late_folder(folder: Path) -> bool:
    """Whether a folder holds a model of late interaction; reads its lists of modules and architectures."""
    if (folder / _MODULES).is_file():
        kinds = [kind.rpartition(".")[2] for kind, _ in _modules(folder)]
        return kinds[:2] == ["Transformer", "Dense"]
    return (folder / "config.json").is_file() and read_config(folder).get("architectures") == [HF_COLBERT]


def read_late_folder(folder: Path) -> LateSpec:
    """Read either form.

    Raises:
        CheckpointError: A file is missing or damaged, or asks for what nothing here computes.
    """
    return _of_modules(folder) if (folder / _MODULES).is_file() else _of_colbert(folder)


def _of_colbert(folder: Path) -> LateSpec:
    path = folder / METADATA
    values: Mapping[str, JsonValue] = read_json_object(path) if path.is_file() else {}
    reader = ConfigReader(values, str(path))
    reader.expect("similarity", ["cosine"], "cosine")
    has_skipped = reader.take("mask_punctuation", bool, True)
    # The rest of the file is of training and of indexes.
    return LateSpec(
        encoder_folder=folder,
        query_marker=reader.take("query_token_id", str, "[unused0]"),
        document_marker=reader.take("doc_token_id", str, "[unused1]"),
        query_length=reader.take("query_maxlen", int, 32, positive=True),
        document_length=reader.take("doc_maxlen", int, 220, positive=True),
        attends_to_expansion=reader.take("attend_to_mask_tokens", bool, False),
        skipped=tuple(string.punctuation) if has_skipped else (),
    )


def _of_modules(folder: Path) -> LateSpec:
    modules = _modules(folder)
    dense = [place for kind, place in modules[1:] if kind.rpartition(".")[2] == "Dense"]
    others = [kind for kind, _ in modules[1:] if kind.rpartition(".")[2] not in ("Dense", "Normalize")]
    if others:
        raise UnsupportedConfig(
            f"{folder}/{_MODULES} has modules of type {', '.join(others)} behind a Dense; nothing here "
            "computes them. Use another folder."
        )
    path = folder / "config_sentence_transformers.json"
    values: Mapping[str, JsonValue] = read_json_object(path) if path.is_file() else {}
    reader = ConfigReader(values, str(path))
    reader.expect("similarity_fn_name", ["MaxSim"], "MaxSim")
    reader.ignore("__version__", "prompts", "model_type", neutral={"default_prompt_name": None})
    spec = LateSpec(
        encoder_folder=modules[0][1],
        query_marker=reader.take("query_prefix", str, "[Q] "),
        document_marker=reader.take("document_prefix", str, "[D] "),
        query_length=reader.take("query_length", int, 32, positive=True),
        document_length=reader.take("document_length", int, 180, positive=True),
        dense=tuple(map(read_dense, dense)),
        is_expanded=reader.take("do_query_expansion", bool, True),
        attends_to_expansion=reader.take("attend_to_expansion_tokens", bool, False),
        skipped=reader.take_list("skiplist_words", str, tuple(string.punctuation)) or (),
    )
    reader.finish()
    return spec


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """The types and places of `modules.json`, none of them outside of the folder."""
    path = folder / _MODULES
    try:
        listed = [(str(row["type"]), folder / str(row["path"])) for row in json.loads(path.read_bytes())]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointCorrupt(f"{path} is no list of modules: {error}. Fetch the file again.") from error
    for _, place in listed:
        if not place.resolve().is_relative_to(folder.resolve()):
            raise CheckpointCorrupt(f"{path} points outside of its folder, at {place}. Fetch it again.")
    return listed
