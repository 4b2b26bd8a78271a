"""Time sentence-transformers or onnxruntime on texts. Knows nothing of whom they are compared with.

    .peers/encoders/bin/python benchmarks/peer/run_encoders.py onnxruntime FOLDER TEXTS.json --to int8

Runs in the peers' environment. Each line on standard input has all texts embedded once and is answered with
`{"texts_per_s": ...}`, as `lines.py` has it; vectors are written beside the texts before. FOLDER is one of
sentence-transformers, of a BERT with mean pooling. Texts are sorted by their length in tokens, batches are
padded to their longest, and the batch's size is the best of those tried.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import sentence_transformers
import tokenizers
import torch
import transformers
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers import optimizer

MAX_TOKENS = 256
BATCH_SIZES = (16, 32, 64, 128)

Embed = Callable[[Sequence[str], int], np.ndarray]


def with_sentence_transformers(folder: Path, bits: str) -> Embed:
    """It sorts by length itself."""
    dtype = {"float32": torch.float32, "bf16": torch.bfloat16}[bits]
    model = sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", model_kwargs={"dtype": dtype}
    )

    def embed(texts: Sequence[str], batch_size: int) -> np.ndarray:
        found = model.encode(texts, batch_size=batch_size, convert_to_tensor=True)
        return found.float().numpy()

    return embed


class Named(torch.nn.Module):
    """An encoder that takes its inputs in order, as they are traced."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        """The last hidden states."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return found.last_hidden_state


def exported(folder: Path, scratch: Path, bits: str) -> Path:
    """The encoder as ONNX, its attention fused; then in codes of 8 bits where these are asked for."""
    file = scratch / "minilm.onnx"
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    names = ("input_ids", "attention_mask", "token_type_ids")
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in names)
    axes = {name: {0: "batch", 1: "tokens"} for name in (*names, "last_hidden_state")}
    torch.onnx.export(
        Named(model), example, str(file), input_names=list(names), output_names=["last_hidden_state"],
        dynamic_axes=axes, dynamo=False, opset_version=17,
    )  # fmt: skip
    fused = optimizer.optimize_model(
        str(file), "bert", num_heads=model.config.num_attention_heads, hidden_size=model.config.hidden_size
    )
    fused.save_model_to_file(str(file))
    if bits == "int8":
        coded = scratch / "minilm.int8.onnx"
        # What was fused tells no types; all that is not code is float32.
        quantize_dynamic(str(file), str(coded), extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
        return coded
    return file


def with_onnxruntime(folder: Path, bits: str, scratch: Path, num_threads: int) -> Embed:
    """Sorted by length, padded to the longest of a batch, pooled here."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(str(exported(folder, scratch, bits)), options)
    wanted = {given.name for given in session.get_inputs()}
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()

    def embed(texts: Sequence[str], batch_size: int) -> np.ndarray:
        encodings = tokenizer.encode_batch(list(texts))
        order = sorted(range(len(texts)), key=lambda place: -len(encodings[place].ids))
        vectors = np.empty((len(texts), 384), np.float32)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            longest = len(encodings[places[0]].ids)
            ids, mask = (np.zeros((len(places), longest), np.int64) for _ in range(2))
            for row, place in enumerate(places):
                found = encodings[place].ids
                ids[row, : len(found)], mask[row, : len(found)] = found, 1
            given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            hidden = session.run(None, {name: given[name] for name in wanted})[0]
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            vectors[places] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    return embed


def seconds_of(embed: Embed, texts: Sequence[str], batch_size: int) -> tuple[float, np.ndarray]:
    begun = time.perf_counter()
    vectors = embed(texts, batch_size)
    return time.perf_counter() - begun, vectors


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("program", choices=("sentence-transformers", "onnxruntime"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--to", choices=("float32", "bf16", "int8"), default="float32")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.program == "onnxruntime":
        scratch = arguments.texts.parent
        embed = with_onnxruntime(arguments.folder, arguments.to, scratch, arguments.threads)
    else:
        embed = with_sentence_transformers(arguments.folder, arguments.to)
    texts = json.loads(arguments.texts.read_text())
    seconds_of(embed, texts[:100], 32)
    taken = {size: seconds_of(embed, texts, size)[0] for size in BATCH_SIZES}
    best = min(taken, key=lambda size: taken[size])
    name = f"{arguments.program} {arguments.to}"
    np.save(arguments.texts.with_name(f"{name}.npy"), embed(texts, best))
    print(json.dumps({"ready": name, "batch_size": best}), flush=True)
    for _ in sys.stdin:
        seconds, _ = seconds_of(embed, texts, best)
        print(json.dumps({"texts_per_s": len(texts) / seconds}), flush=True)


if __name__ == "__main__":
    main()
