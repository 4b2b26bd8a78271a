"""Time CTranslate2 inside a process. Knows nothing of whom it is compared with.

    .peers/ctranslate2/bin/python benchmarks/peer/run_ctranslate2.py FOLDER --to int8 --threads 4

Runs in the peer's environment, and answers as `lines.py` says. The checkpoint is converted once, beside
the folder. On x86 it computes in int8 or float32 only, so int8 is the one code that can be compared.
"""

from __future__ import annotations

import argparse
import json
import random
import string
import time
from pathlib import Path

import ctranslate2
import transformers
from ctranslate2.converters import TransformersConverter
from lines import WARM_STEPS, answer, rates


class Converter(TransformersConverter):
    """Reads the tokenizer as it is written; what goes by the model's name adds words to it."""

    def load_tokenizer(
        self, tokenizer_class: type, model_name_or_path: str, **options: object
    ) -> transformers.PreTrainedTokenizerFast:
        """The folder's own."""
        return transformers.PreTrainedTokenizerFast.from_pretrained(model_name_or_path)


def converted(folder: Path, bits: str) -> Path:
    """The checkpoint in its format, written once."""
    made = folder.with_name(f"{folder.name}.ct2-{bits}")
    if not made.exists():
        Converter(str(folder)).convert(str(made), quantization=bits)
        # It wants a token to begin with, which our checkpoints have none of, and nobody asks for.
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps(config | {"bos_token": config["eos_token"]}))
    return made


class Peer:
    """A generator, asked for batches whose sequences all have one length."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        self.generator = ctranslate2.Generator(
            str(folder), "cpu", compute_type="int8", intra_threads=num_threads, inter_threads=1
        )
        self.dice = random.Random(0)

    def measure(self, num_seqs: int, num_steps: int, length: int) -> tuple[float, float]:
        """Tokens a second of reading prompts, and of decoding: it tells each token as it comes."""
        prompts = [self.dice.choices(string.ascii_letters, k=length) for _ in range(num_seqs)]
        stamps = [time.perf_counter()]

        def hear(token: ctranslate2.GenerationStepResult) -> bool:
            if token.batch_id == 0:
                stamps.append(time.perf_counter())
            return False

        self.generator.generate_batch(
            prompts,
            max_length=1 + WARM_STEPS + num_steps,
            min_length=1 + WARM_STEPS + num_steps,
            include_prompt_in_result=False,
            sampling_topk=1,
            callback=hear,
        )
        return rates(num_seqs, num_steps, length, stamps)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", choices=("int8",), default="int8")
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    peer = Peer(converted(arguments.folder, arguments.to), arguments.threads)
    answer("CTranslate2", peer.measure)


if __name__ == "__main__":
    main()
