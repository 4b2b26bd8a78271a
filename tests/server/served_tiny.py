"""Serve one tiny model of each kind, computed for real, for tests that drive the whole API. Asserts nothing.

`python -m tests.server.served_tiny FOLDER` serves in a process of its own, where no shape is checked, until
its input ends.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers

from cynosure.cli.local_completer import load_completer
from cynosure.server.services import Services
from tests.house.rules import ROOT
from tests.models.tiny_embedders import write_encoder
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.fakes import FakeEmbedder, FakeStore, serving
from tests.server.libraries import with_library
from tests.server.local_ranker import load_ranker

MAX_MODEL_LEN = 96
CHAT, RANKER, LABELS, EMBEDDER, STORE = (
    "tiny-chat",
    "tiny-ranker",
    "tiny-labels",
    "fake-embedder",
    "fake-docs",
)


def write_decoder(folder: Path, max_model_len: int = MAX_MODEL_LEN) -> Path:
    """A random Llama that converses."""
    torch.manual_seed(5)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(
        vocab_size=325, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=max_model_len, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(SOURCE)
    return write(folder, byte_level())


def tiny_services(folder: Path) -> Services:
    """A decoder, a ranker and a classifier from folders made here; documentation that is made up."""
    write_encoder(folder / RANKER, "BertForSequenceClassification", num_labels=1)
    write_encoder(folder / LABELS, "BertForSequenceClassification", id2label={0: "bad", 1: "good", 2: "odd"})
    chat = load_completer(CHAT, write_decoder(folder / CHAT), dtype="float32")
    rankers = {name: load_ranker(name, folder / name) for name in (RANKER, LABELS)}
    made = Services({EMBEDDER: FakeEmbedder()}, {STORE: FakeStore()}, {CHAT: chat}, int(time.time()), rankers)
    return with_library(made, folder / "files")


@contextmanager
def served_apart(folder: Path) -> Iterator[str]:
    """The address of these models in a process of their own."""
    command = [sys.executable, "-m", "tests.server.served_tiny", str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def main() -> None:
    folder = Path(sys.argv[1])
    with serving(lambda _: tiny_services(folder), wait_s=120) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
