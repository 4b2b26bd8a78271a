"""Serve what every view of the page needs: documentation, a scripted coder, a tiny model. Asserts nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cynosure.cli.local_completer import load_completer
from cynosure.cli.python_docs import PythonDocs, ThreadedDocs
from cynosure.models.chat.format import ChatFormat
from cynosure.models.minilm import load_minilm
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.retrieval import DocsSearch, build_index, open_index, read_python_docs
from cynosure.server.services import Services
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import ScriptedModel
from tests.server.fakes import CREATED, FakeStore
from tests.server.served_tiny import write_decoder

SOME_MODULES = {"heapq", "functools", "shlex", "itertools", "bisect", "textwrap", "json", "csv", "builtins"}
DOCS, FAKE, CODER, TINY = "python-docs", "fake-docs", "coder", "tiny"
WRITTEN = " heapq.nlargest(count, numbers)"
BLOCK = f"{WRITTEN}\n    # sorted\n\ndef next():\n    pass\n"


@dataclass
class Coder(ScriptedModel):
    """Fills gaps: what is written down, in one line where a line is asked for."""

    max_model_len: int | None = 4000


def coder(folder: Path) -> Coder:
    """A model whose vocabulary has tokens for a gap."""
    tokenizer = byte_level()
    tokenizer.add_special_tokens(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"])
    folder.mkdir()
    read = Tokenizer.from_folder(write(folder, tokenizer))
    made = Coder(read, ChatFormat.of(None, read))
    made.name, made.answer = CODER, BLOCK
    return made


def small_docs(folder: Path) -> ThreadedDocs:
    """The real thing over the documentation of a few modules, which takes seconds to index."""
    documentation = read_python_docs()
    some = tuple(entry for entry in documentation.entries if entry.module in SOME_MODULES)
    embedder = load_minilm()
    path = folder / "small.sqlite"
    build_index(path, replace(documentation, entries=some, asked={}), embedder)
    docs = PythonDocs(DocsSearch(open_index(path, documentation.source, embedder), embedder), embedder)
    return ThreadedDocs(docs)


def page_services(folder: Path) -> Services:
    """All of it; the tiny model's weights are random, so that what it says is noise."""
    docs = small_docs(folder)
    tiny = load_completer(TINY, write_decoder(folder / TINY, 1024), dtype="float32")
    made = coder(folder / CODER)
    stores = {docs.name: docs, FakeStore.name: FakeStore()}
    return Services({}, stores, {made.name: made, TINY: tiny}, CREATED, demonstrations=frozenset({TINY}))
