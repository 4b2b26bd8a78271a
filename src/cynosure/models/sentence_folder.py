"""Read a sentence-transformers folder into a value. Knows nothing of tensors or of how text is embedded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import CheckpointCorrupt, CheckpointNotFound, UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.json_file import JsonValue, read_json_object
from cynosure.models.pooling_kind import Pooling

_FAMILY = "sentence_transformers"
#: Flags of a pooling config by the kind that they switch on.
_FLAGS = {
    "pooling_mode_cls_token": Pooling.CLS,
    "pooling_mode_max_tokens": Pooling.MAX,
    "pooling_mode_mean_tokens": Pooling.MEAN,
    "pooling_mode_mean_sqrt_len_tokens": Pooling.MEAN_SQRT_LEN,
    "pooling_mode_weightedmean_tokens": Pooling.WEIGHTED_MEAN,
    "pooling_mode_lasttoken": Pooling.LAST_TOKEN,
}
_DENSE_ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu"}


@dataclass(frozen=True)
class DenseSpec:
    """A projection of the pooled vector."""

    folder: Path
    in_features: int
    out_features: int
    has_bias: bool
    activation: str


@dataclass(frozen=True)
class SentenceSpec:
    """What turns a text into a vector: an encoder, poolings (joined in order), projections, a norm."""

    encoder_folder: Path
    poolings: tuple[Pooling, ...]
    dense: tuple[DenseSpec, ...]
    is_normalized: bool
    max_tokens: int | None


def read_sentence_folder(folder: Path) -> SentenceSpec:
    """Read `modules.json` and the config of each module.

    Raises:
        CheckpointNotFound: No modules.json, or a module's folder is missing.
        CheckpointCorrupt: A file does not parse, or modules stand in an order that makes no sense.
        UnsupportedConfig: A module or an option that nothing here computes; the message names it.
    """
    modules = _modules(folder)
    if [name for name, _ in modules[:2]] != ["Transformer", "Pooling"]:
        raise CheckpointCorrupt(
            f"{folder}/modules.json lists {[name for name, _ in modules]}; a Transformer and a Pooling must "
            "come first. Fetch it again."
        )
    rest = modules[2:]
    if any(name == "Normalize" for name, _ in rest[:-1]):
        raise UnsupportedConfig(
            f"{folder}/modules.json goes on after Normalize; nothing here does. Re-export it."
        )
    encoder_folder = modules[0][1]
    _check_prompts(folder)
    return SentenceSpec(
        encoder_folder=encoder_folder,
        poolings=_poolings(modules[1][1] / "config.json"),
        dense=tuple(read_dense(path) for name, path in rest if name == "Dense"),
        is_normalized=bool(rest) and rest[-1][0] == "Normalize",
        max_tokens=_max_tokens(encoder_folder),
    )


def _modules(folder: Path) -> list[tuple[str, Path]]:
    path = folder / "modules.json"
    if not path.is_file():
        raise CheckpointNotFound(
            f"{folder} holds no modules.json, so it is no sentence-transformers folder. Name one that does, "
            "or load the encoder by itself."
        )
    try:
        rows = json.loads(path.read_bytes())
        listed = [(str(row["type"]), folder / str(row["path"])) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointCorrupt(f"{path} is no list of modules: {error}. Fetch the file again.") from error
    known = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = []
    for kind, place in listed:
        name = kind.rpartition(".")[2]
        if not kind.startswith(f"{_FAMILY}.") or name not in known:
            raise UnsupportedConfig(
                f"{path} has a module of type {kind}; only {', '.join(known)} of {_FAMILY} are understood "
                "here. Use a folder without it."
            )
        if not place.resolve().is_relative_to(folder.resolve()):
            raise CheckpointCorrupt(f"{path} points outside of its folder, at {place}. Fetch it again.")
        modules.append((name, place))
    return modules


def _check_prompts(folder: Path) -> None:
    """Named prompts are the caller's to prepend; one that is always prepended would change every vector."""
    path = folder / "config_sentence_transformers.json"
    name = read_json_object(path).get("default_prompt_name") if path.is_file() else None
    if name is not None:
        raise UnsupportedConfig(
            f"{path} has default_prompt_name = {name!r}, a prompt before every text, which is not supported. "
            "Set it to null, and prepend the prompt yourself."
        )


def _poolings(path: Path) -> tuple[Pooling, ...]:
    reader = ConfigReader(read_json_object(path), str(path))
    reader.ignore("word_embedding_dimension", "embedding_dimension", "include_prompt")
    named = [kind for flag, kind in _FLAGS.items() if reader.take(flag, bool, False)]
    if reader.holds("pooling_mode", str):
        named.append(Pooling(reader.expect("pooling_mode", [kind.value for kind in Pooling])))
    reader.finish()
    if not named:
        raise UnsupportedConfig(f"{path} switches no pooling on; one is needed. Correct the file.")
    return tuple(named)


def read_dense(folder: Path) -> DenseSpec:
    """Read the config of a projection.

    Raises:
        UnsupportedConfig: An option that nothing here computes; the message names it.
    """
    reader = ConfigReader(read_json_object(folder / "config.json"), str(folder / "config.json"))
    kind = reader.take("activation_function", str, "torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if kind not in _DENSE_ACTIVATIONS:
        raise UnsupportedConfig(
            f"{folder}/config.json has activation_function {kind}; only {', '.join(_DENSE_ACTIVATIONS)} are "
            "supported. Use another folder."
        )
    spec = DenseSpec(
        folder,
        in_features=reader.take("in_features", int, positive=True),
        out_features=reader.take("out_features", int, positive=True),
        has_bias=reader.take("bias", bool, True),
        activation=_DENSE_ACTIVATIONS[kind],
    )
    reader.ignore(neutral={"use_residual": False})
    reader.finish()
    return spec


def _max_tokens(folder: Path) -> int | None:
    path = folder / "sentence_bert_config.json"
    values: Mapping[str, JsonValue] = read_json_object(path) if path.is_file() else {}
    reader = ConfigReader(values, str(path))
    reader.ignore(*_without_effect(values), neutral={"do_lower_case": False})
    limit = reader.take("max_seq_length", int, None, positive=True)
    reader.finish()
    return limit


def _without_effect(values: Mapping[str, JsonValue]) -> Sequence[str]:
    """Newer files say which of a transformer's outputs is the hidden state, and how to call it."""
    return [key for key in ("transformer_task", "modality_config", "module_output_name") if key in values]
