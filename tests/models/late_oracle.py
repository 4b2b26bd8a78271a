"""Compare late interaction with its published steps, computed by transformers and plain torch.

`LATE_CASES` hands the largest difference of a score to `evals/parity.py`.
"""

from __future__ import annotations

import json
import string
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from cynosure.models.late_interaction import load_late_interaction
from tests.models import tiny_embedders
from tests.models.tiny_tokenizers import word_piece, write

MARKERS = ("[unused0]", "[unused1]")
QUERY_LENGTH, DOCUMENT_LENGTH, DIM = 16, 40, 12
PAIRS = [
    ("where is the star", "a sailor steers by the pole star; the star is called cynosure"),
    ("where is the star", "the eyes of all, fixed"),
    ("café", ", ; ,"),
    ("the centre of attention", "words"),
]


@dataclass(frozen=True, eq=False)
class Written:
    """A folder, and the oracle with the same weights."""

    folder: Path
    encoder: transformers.PreTrainedModel
    projection: Tensor


@torch.no_grad()
def write_colbert(folder: Path, **metadata: object) -> Written:
    """Write ColBERT's own form; `metadata` changes its settings."""
    encoder, projection = _write_encoder(folder)
    weights = {f"bert.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file({**weights, "linear.weight": projection}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    settings = {
        "query_token_id": MARKERS[0],
        "doc_token_id": MARKERS[1],
        "query_maxlen": QUERY_LENGTH,
        "doc_maxlen": DOCUMENT_LENGTH,
        "lr": 1e-5,
        "nbits": 2,
        **metadata,
    }
    (folder / "artifact.metadata").write_text(json.dumps(settings))
    return Written(folder, encoder, projection)


@torch.no_grad()
def write_modules(folder: Path, **settings: object) -> Written:
    """Write the form of sentence-transformers, a Dense behind the encoder."""
    encoder, projection = _write_encoder(folder)
    dense = folder / "1_Dense"
    dense.mkdir()
    save_file({"linear.weight": projection}, dense / "model.safetensors")
    shape = {"in_features": projection.shape[1], "out_features": DIM, "bias": False, "use_residual": False}
    kind = "torch.nn.modules.linear.Identity"
    (dense / "config.json").write_text(json.dumps({**shape, "activation_function": kind}))
    rows = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    values = {
        "query_prefix": MARKERS[0],
        "document_prefix": MARKERS[1],
        "query_length": QUERY_LENGTH,
        "document_length": DOCUMENT_LENGTH,
        "similarity_fn_name": "MaxSim",
        **settings,
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(values))
    return Written(folder, encoder, projection)


def _write_encoder(folder: Path) -> tuple[transformers.PreTrainedModel, Tensor]:
    encoder = tiny_embedders.write_encoder(folder, vocab_size=160)
    tokenizer = word_piece()
    tokenizer.add_special_tokens(list(MARKERS))
    write(folder, tokenizer)
    projection = torch.randn(DIM, tiny_embedders.HIDDEN, generator=torch.Generator().manual_seed(4))
    return encoder, projection


@torch.no_grad()
def expected(
    written: Written, *, attends: bool = False, expands: bool = True, skips: bool = True
) -> list[float]:
    """The scores, step by step as ColBERT's code has them (`HF_ColBERT`, `colbert_score`)."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(written.folder)
    mask_id = tokenizer.convert_tokens_to_ids("[MASK]")
    punctuation = {tokenizer.encode(mark, add_special_tokens=False)[0] for mark in string.punctuation}

    def vectors(text: str, marker: str, length: int | None) -> tuple[Tensor, list[int]]:
        ids = tokenizer(text, padding=False, truncation=False)["input_ids"]
        ids = [ids[0], tokenizer.convert_tokens_to_ids(marker), *ids[1:]]
        fill = 0 if length is None else length - len(ids)
        seen = torch.tensor([[1] * len(ids) + [int(attends)] * fill])
        ids = [*ids, *[mask_id] * fill]
        hidden = written.encoder(torch.tensor([ids]), attention_mask=seen).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden @ written.projection.T, dim=-1), ids

    found = []
    for query, document in PAIRS:
        q, _ = vectors(query, MARKERS[0], QUERY_LENGTH if expands else None)
        d, ids = vectors(document, MARKERS[1], None)
        keep = torch.tensor([not skips or id_ not in punctuation for id_ in ids])
        found.append(float((q @ d[keep].T).amax(1).sum()))
    return found


def difference(written: Written, **options: bool) -> float:
    """The largest difference of a score, in one pass and alone."""
    model = load_late_interaction(written.folder)
    wanted = expected(written, **options)
    together = model.score(PAIRS)[:, 0].tolist()
    alone = [float(model.score([pair])[0, 0]) for pair in PAIRS]
    return max(abs(a - b) for got in (together, alone) for a, b in zip(got, wanted, strict=True))


def measure() -> float:
    with tempfile.TemporaryDirectory() as root:
        return difference(write_colbert(Path(root) / "colbert"))


LATE_CASES: dict[str, Callable[[], float]] = {"HF_ColBERT": measure}
