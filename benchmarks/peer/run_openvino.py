"""Time OpenVINO inside a process. Knows nothing of whom it is compared with.

    .peers/openvino/bin/python benchmarks/peer/run_openvino.py FOLDER --to int8 --threads 4

Runs in the peer's environment, and answers as `lines.py` says. The checkpoint is converted once, beside
the folder, by the tools that OpenVINO GenAI names for it (optimum-intel and nncf); what is timed are passes
of the very graph with its own cache that OpenVINO GenAI runs, without a sampler but the largest.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import openvino
from lines import WARM_STEPS, answer, rates
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

#: One scale a row in 8 bits; in 4, one for 32 weights, and 8 bits for embedding and head: as ours.
CODES = {
    "int8": OVWeightQuantizationConfig(bits=8, sym=True),
    "int4": OVWeightQuantizationConfig(bits=4, sym=True, group_size=32, ratio=1.0),
}


def converted(folder: Path, bits: str) -> Path:
    """The checkpoint in its format, written once."""
    made = folder.with_name(f"{folder.name}.openvino-{bits}")
    if not made.exists():
        model = OVModelForCausalLM.from_pretrained(
            folder, export=True, compile=False, quantization_config=CODES[bits]
        )
        model.save_pretrained(made)
    return made


class Peer:
    """A compiled graph, asked for batches whose sequences all have one length."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": num_threads}
        compiled = openvino.Core().compile_model(folder / "openvino_model.xml", "CPU", options)
        self.request = compiled.create_infer_request()
        self.inputs = {name for port in compiled.inputs for name in port.names}
        self.dice = np.random.default_rng(0)

    def pass_of(self, token_ids: np.ndarray, num_past: int) -> np.ndarray:
        """The next token of each sequence."""
        num_seqs, num_new = token_ids.shape
        given = {
            "input_ids": token_ids,
            "attention_mask": np.ones((num_seqs, num_past + num_new), np.int64),
            "position_ids": np.tile(np.arange(num_past, num_past + num_new), (num_seqs, 1)),
            "beam_idx": np.arange(num_seqs, dtype=np.int32),
        }
        found = self.request.infer({name: given[name] for name in self.inputs}, share_inputs=True)
        return found[0][:, -1:].argmax(-1)

    def measure(self, num_seqs: int, num_steps: int, length: int) -> tuple[float, float]:
        """Tokens a second of reading prompts, and of decoding."""
        self.request.reset_state()
        token_ids = self.dice.integers(1, 30_000, (num_seqs, length))
        stamps, num_past = [time.perf_counter()], 0
        for _ in range(1 + WARM_STEPS + num_steps):
            num_new = token_ids.shape[1]
            token_ids = self.pass_of(token_ids, num_past)
            num_past += num_new
            stamps.append(time.perf_counter())
        return rates(num_seqs, num_steps, length, stamps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", choices=CODES, default="int8")
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    peer = Peer(converted(arguments.folder, arguments.to), arguments.threads)
    answer("OpenVINO", peer.measure)


if __name__ == "__main__":
    main()
