"""Write a random sentence-transformers folder to disk, with transformers alone. Knows nothing of Cynosure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from tests.models.encoder_oracle import randomise
from tests.models.tiny_tokenizers import word_piece, write

HIDDEN = 32
SETTINGS = {
    "vocab_size": 150,
    "hidden_size": HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "attn_implementation": "eager",
}
NAMED = {"unk_token": "[UNK]", "sep_token": "[SEP]", "cls_token": "[CLS]", "pad_token": "[PAD]"}


@dataclass(frozen=True)
class Module:
    """A row of modules.json: its type, its config, its tensors."""

    kind: str
    config: dict[str, object] | None = None
    tensors: dict[str, torch.Tensor] | None = None


def pooling(*flags: str) -> Module:
    return Module(
        "Pooling", {"word_embedding_dimension": HIDDEN, **{f"pooling_mode_{flag}": True for flag in flags}}
    )


def dense(activation: str, width: int = 8, inputs: int = HIDDEN) -> Module:
    config = {"in_features": inputs, "out_features": width, "bias": True, "activation_function": activation}
    dice = torch.Generator().manual_seed(3)
    weight = torch.randn(width, inputs, generator=dice) / inputs**0.5
    return Module(
        "Dense", config, {"linear.weight": weight, "linear.bias": torch.randn(width, generator=dice)}
    )


NORMALIZE = Module("Normalize")


@torch.no_grad()
def write_encoder(
    folder: Path, architecture: str = "BertModel", **settings: object
) -> transformers.PreTrainedModel:
    """Write an encoder with its tokenizer; return the oracle."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, architecture)
    oracle = model_class(transformers.BertConfig(**{**SETTINGS, **settings})).eval()
    randomise(oracle, seed=1)
    folder.mkdir(parents=True, exist_ok=True)
    oracle.save_pretrained(folder)
    write(folder, word_piece(), tokenizer_config={**NAMED, "model_max_length": 48})
    return oracle


def write_folder(
    folder: Path, modules: Sequence[Module], *, max_seq_length: int | None = 24, **files: object
) -> transformers.PreTrainedModel:
    """Write an encoder and the modules behind it; return the encoder's oracle."""
    oracle = write_encoder(folder)
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, module in enumerate(modules, start=1):
        path = f"{index}_{module.kind}"
        kind = module.kind if "." in module.kind else f"sentence_transformers.models.{module.kind}"
        rows.append({"idx": index, "name": str(index), "path": path, "type": kind})
        (folder / path).mkdir()
        if module.config is not None:
            (folder / path / "config.json").write_text(json.dumps(module.config))
        if module.tensors is not None:
            save_file(module.tensors, folder / path / "model.safetensors")
    limits = {"max_seq_length": max_seq_length, "do_lower_case": False}
    everything = {"modules": rows, "sentence_bert_config": limits, **files}
    for name, content in everything.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return oracle
