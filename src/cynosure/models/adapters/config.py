"""Read what an adapter is from its `adapter_config.json`. Knows nothing of tensors or of the base model.

The file is PEFT's (https://github.com/huggingface/peft). A key that would change the maths and is not served
is refused by name, as in a model's config.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cynosure.core.errors import CheckpointNotFound, UnsupportedConfig
from cynosure.models.config_reader import ConfigReader
from cynosure.models.json_file import read_json_object

CONFIG = "adapter_config.json"

#: PEFT's word for every projection of a model but its head.
ALL_LINEAR = "all-linear"

#: Ways to begin training that leave the base model as it is; the others take from it what they begin with.
_PLAIN_INITS = ("gaussian", "eva", "orthogonal")

#: Keys that say how an adapter was trained, or by whom.
_INERT = (
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "inference_mode",
    "loftq_config", "lora_dropout", "megatron_core", "peft_version", "qalora_group_size", "revision",
)  # fmt: skip
_NEUTRAL = {"bias": "none", "lora_bias": False, "use_dora": False, "use_qalora": False}

#: What an adapter may hold beside pairs of projections; empty, it is nothing.
_ADDITIONS = {
    "alora_invocation_tokens": "adapters that begin behind a token",
    "layer_replication": "layers that are repeated",
    "modules_to_save": "whole modules beside low-rank pairs",
    "target_parameters": "pairs of stacked parameters, as experts have them,",
    "trainable_token_indices": "tokens with vectors of their own",
}

_MAX_PATTERN_CHARS = 200
_MAX_REPEATS = 4
_REPEATS = re.compile(r"(?<!\\)[*+{]")
_REPEATED_GROUP = re.compile(r"(?<!\\)\)[*+{]")


@dataclass(frozen=True)
class LoraConfig:
    """A LoRA adapter (arXiv 2106.09685) as a value; `targets` is a list of names, or one pattern.

    `is_partial` says that the file leaves out layers or modules that `targets` would match.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] | re.Pattern[str]
    is_rank_stabilised: bool = False
    ranks: Mapping[re.Pattern[str], int] = field(default_factory=dict)
    alphas: Mapping[re.Pattern[str], float] = field(default_factory=dict)
    is_partial: bool = False

    def rank_of(self, module: str) -> int:
        """The rank of a module's pair."""
        return next((rank for form, rank in self.ranks.items() if form.fullmatch(module)), self.rank)

    def scale_of(self, module: str) -> float:
        """What a module's product is multiplied by: alpha by rank, or by its root (arXiv 2312.03732)."""
        alpha = next((alpha for form, alpha in self.alphas.items() if form.fullmatch(module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / math.sqrt(rank) if self.is_rank_stabilised else alpha / rank

    def is_target(self, module: str) -> bool:
        """Whether the config names a module of the base model, by its whole name."""
        if isinstance(self.targets, re.Pattern):
            return self.targets.fullmatch(module) is not None
        return self.targets == (ALL_LINEAR,) or any(
            module == target or module.endswith(f".{target}") for target in self.targets
        )


def read_lora_config(folder: Path) -> LoraConfig:
    """Read the config in `folder`.

    Raises:
        CheckpointNotFound: there is none.
        CheckpointCorrupt: it is no JSON object.
        UnsupportedConfig: it is no LoRA adapter of a decoder, or asks for what is not served.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointNotFound(
            f"{folder} holds no {CONFIG}. Name the folder that PEFT's save_pretrained wrote."
        )
    return parse_lora_config(ConfigReader(read_json_object(path), str(path)))


def parse_lora_config(reader: ConfigReader) -> LoraConfig:
    """Read every key; errors are those of `read_lora_config`."""
    kind = reader.take("peft_type", str)
    if kind != "LORA":
        raise UnsupportedConfig(
            f"{reader.where} has peft_type = {kind!r}; only LORA is served. Merge it into its model first."
        )
    reader.expect("task_type", ["CAUSAL_LM"], "CAUSAL_LM")
    _check_init(reader)
    reader.ignore(*_INERT, neutral=_NEUTRAL)
    _refuse_additions(reader)
    ranks, alphas = reader.take("rank_pattern", dict, {}), reader.take("alpha_pattern", dict, {})
    only = [key for key in ("layers_to_transform", "exclude_modules") if _narrows(reader, key)]
    reader.ignore("layers_pattern", "fan_in_fan_out")
    config = LoraConfig(
        rank=reader.take("r", int, positive=True),
        alpha=reader.take("lora_alpha", float),
        targets=_targets(reader),
        is_rank_stabilised=reader.take("use_rslora", bool, False),
        ranks={_suffix(reader, name): _count(reader, name, value) for name, value in ranks.items()},
        alphas={_suffix(reader, name): _number(reader, name, value) for name, value in alphas.items()},
        is_partial=bool(only),
    )
    reader.finish()
    return config


def _refuse_additions(reader: ConfigReader) -> None:
    for key, what in _ADDITIONS.items():
        value = reader.take(key, dict, None) if reader.holds(key, dict) else reader.take(key, list, None)
        if value:
            raise UnsupportedConfig(
                f"{reader.where} has {key} = {str(value)[:60]}: {what} are not served. Merge the adapter "
                "into its model first."
            )


def _check_init(reader: ConfigReader) -> None:
    """Refuse adapters whose base model is another than the one on disk."""
    if reader.holds("init_lora_weights", bool):
        reader.take("init_lora_weights", bool)
    else:
        reader.expect("init_lora_weights", _PLAIN_INITS, "gaussian")


def _narrows(reader: ConfigReader, key: str) -> bool:
    """Whether a key that leaves modules out is there; which ones, the tensors say."""
    is_there = key in reader.unread
    reader.ignore(key)
    return is_there


def _targets(reader: ConfigReader) -> tuple[str, ...] | re.Pattern[str]:
    if not reader.holds("target_modules", str):
        targets = reader.take_list("target_modules", str)
        if not targets:
            raise UnsupportedConfig(f"{reader.where} names no target_modules. Add those of the adapter.")
        return targets
    text = reader.take("target_modules", str)
    return (ALL_LINEAR,) if text == ALL_LINEAR else _pattern(reader, "target_modules", text)


def _suffix(reader: ConfigReader, name: str) -> re.Pattern[str]:
    """The pattern of PEFT's rank and alpha patterns: the end of a module's name."""
    return _pattern(reader, "rank_pattern or alpha_pattern", rf"(.*\.)?({name})")


def _pattern(reader: ConfigReader, key: str, text: str) -> re.Pattern[str]:
    """Compile a pattern whose search can't run away: few repeats, and no group repeated."""
    if (
        len(text) > _MAX_PATTERN_CHARS
        or len(_REPEATS.findall(text)) > _MAX_REPEATS
        or _REPEATED_GROUP.search(text)
    ):
        raise UnsupportedConfig(
            f"{reader.where} has {key} = {text[:60]!r}; a pattern may have {_MAX_PATTERN_CHARS} characters, "
            f"{_MAX_REPEATS} repeats and no repeated group. List the modules instead."
        )
    try:
        return re.compile(text)
    except re.error as error:
        raise UnsupportedConfig(
            f"{reader.where} has {key} = {text[:60]!r}, no pattern: {error}. Correct it."
        ) from error


def _count(reader: ConfigReader, name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UnsupportedConfig(
            f"{reader.where} gives {name[:60]!r} the rank {value!r}; it must be 1 or more. Correct it."
        )
    return value


def _number(reader: ConfigReader, name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise UnsupportedConfig(
            f"{reader.where} gives {name[:60]!r} the alpha {value!r}; it must be a number. Correct it."
        )
    return float(value)
