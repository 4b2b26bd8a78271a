"""Time transformers inside a process. Knows nothing of whom it is compared with.

    .peers/transformers/bin/python benchmarks/peer/run_transformers.py FOLDER --threads 4

Runs in the peer's environment, and answers as `lines.py` says. Passes of the model with its own cache
and the attention of torch, in bfloat16, logits of the last token only; no sampler runs but the largest.
"""

from __future__ import annotations

import argparse
import time

import torch
import transformers
from lines import WARM_STEPS, answer, rates


class Peer:
    """A model whose sequences all have one length."""

    def __init__(self, folder: str) -> None:
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.vocab_size = self.model.config.vocab_size

    @torch.inference_mode()
    def measure(self, num_seqs: int, num_steps: int, length: int) -> tuple[float, float]:
        """Tokens a second of reading prompts, and of decoding."""
        token_ids = torch.randint(1, self.vocab_size, (num_seqs, length))
        cache = transformers.DynamicCache(config=self.model.config)
        stamps = [time.perf_counter()]
        for _ in range(1 + WARM_STEPS + num_steps):
            logits = self.model(token_ids, past_key_values=cache, logits_to_keep=1).logits
            token_ids = logits[:, -1:].argmax(-1)
            stamps.append(time.perf_counter())
        return rates(num_seqs, num_steps, length, stamps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    answer("transformers", Peer(arguments.folder).measure)


if __name__ == "__main__":
    main()
