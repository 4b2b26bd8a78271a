"""Time llama.cpp inside a process, by its batched interface. Knows nothing of whom it is compared with.

    .peers/llama/bin/python benchmarks/peer/run_llama.py FILE.gguf --to q8_0 --threads 4

Runs in the peer's environment, and answers as `lines.py` says.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from pathlib import Path

import llama_cpp as llama
import numpy as np
from lines import WARM_STEPS, answer, rates

FILE_TYPES = {"bf16": None, "q8_0": llama.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama.LLAMA_FTYPE_MOSTLY_Q4_0}

MAX_BATCH = 2048


def quantized(file: Path, name: str) -> Path:
    """The file in another format, written beside it once."""
    kind = FILE_TYPES[name]
    if kind is None:
        return file
    made = file.with_suffix(f".{name}.gguf")
    if not made.exists():
        options = llama.llama_model_quantize_default_params()
        options.ftype = kind
        failed = llama.llama_model_quantize(str(file).encode(), str(made).encode(), ctypes.byref(options))
        assert not failed, f"{name} of {file} failed"
    return made


class Peer:
    """A model with room for many sequences."""

    def __init__(self, file: Path, num_threads: int, has_flash: bool) -> None:
        options = llama.llama_model_default_params()
        options.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(str(file).encode(), options)
        self.num_threads = num_threads
        self.has_flash = has_flash
        self.vocab_size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.dice = np.random.default_rng(0)

    def context(self, num_tokens: int, num_seqs: int) -> llama.llama_context_p:
        """A context for so many tokens in all; the caller frees it."""
        options = llama.llama_context_default_params()
        options.n_ctx = num_tokens
        options.n_batch = options.n_ubatch = min(num_tokens, MAX_BATCH)
        options.n_seq_max = num_seqs
        options.n_threads = options.n_threads_batch = self.num_threads
        options.kv_unified = True
        options.flash_attn_type = int(self.has_flash)
        return llama.llama_init_from_model(self.model, options)

    def run(self, context: llama.llama_context_p, places: list[tuple[int, int]], wanted: int) -> None:
        """Compute one token at each (sequence, position); logits of the last `wanted`."""
        batch = llama.llama_batch_init(len(places), 0, 1)
        batch.n_tokens = len(places)
        for at, (seq, position) in enumerate(places):
            batch.token[at] = int(self.dice.integers(0, self.vocab_size))
            batch.pos[at] = position
            batch.n_seq_id[at] = 1
            batch.seq_id[at][0] = seq
            batch.logits[at] = int(at >= len(places) - wanted)
        assert llama.llama_decode(context, batch) == 0, "llama_decode failed"
        llama.llama_synchronize(context)
        llama.llama_batch_free(batch)

    def fill(self, context: llama.llama_context_p, num_seqs: int, length: int) -> None:
        """Give every sequence so many tokens, in batches as large as may be."""
        places = [(seq, position) for seq in range(num_seqs) for position in range(length)]
        for start in range(0, len(places), MAX_BATCH):
            self.run(context, places[start : start + MAX_BATCH], 1)

    def measure(self, num_seqs: int, num_steps: int, length: int) -> tuple[float, float]:
        """Tokens a second of reading prompts, and of decoding; no sampler runs."""
        num_steps_all = WARM_STEPS + num_steps
        context = self.context(num_seqs * (length + num_steps_all) + 64, num_seqs)
        self.fill(context, 1, 32)
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        stamps = [time.perf_counter()]
        self.fill(context, num_seqs, length)
        stamps.append(time.perf_counter())
        for step in range(num_steps_all):
            self.run(context, [(seq, length + step) for seq in range(num_seqs)], num_seqs)
            stamps.append(time.perf_counter())
        llama.llama_free(context)
        return rates(num_seqs, num_steps, length, stamps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--to", choices=FILE_TYPES, default="bf16")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--flash", action="store_true")
    arguments = parser.parse_args()
    quiet = llama.llama_log_callback(lambda *_: None)
    llama.llama_log_set(quiet, ctypes.c_void_p(0))
    peer = Peer(quantized(arguments.file, arguments.to), arguments.threads, arguments.flash)
    told = f"llama.cpp {'with' if arguments.flash else 'without'} flash attention"
    answer(told, peer.measure)


if __name__ == "__main__":
    main()
