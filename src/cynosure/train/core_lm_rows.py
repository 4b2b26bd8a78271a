"""Turn a corpus of code into rows of tokens, with its tokenizer and conversations. Trains nothing."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from jaxtyping import Int32
from tokenizers import Tokenizer

from cynosure.train.code_corpus import CodeCorpus, SourceFile
from cynosure.train.core_lm_samples import END, MIDDLE, PREFIX, SUFFIX, Mixture, encoded, packed, samples_of
from cynosure.train.generated_tasks import Renderer, documented_in, tasks
from cynosure.train.tiny_text import train_tokenizer

TURN, TURN_END = "<|im_start|>", "<|im_end|>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
#: The end is token 0; those of gaps have the names by which completions with a suffix know them.
CONTROL = (END, PREFIX, SUFFIX, MIDDLE, TURN, TURN_END, CALL, CALL_END)
#: As many characters are read to learn the tokens; more change few of them.
TOKENIZER_CHARS = 16_000_000
FILES_AT_ONCE = 400

#: Told a stage, how much of it is done, and how much there is.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Rows:
    """What is learned and what is watched, a token more a row than the model reads at once."""

    train: Int32[np.ndarray, "rows length"]
    watched: Int32[np.ndarray, "few length"]


def learn_tokens(corpus: CodeCorpus, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of a corpus; the library is read first, then packages in an order by hash.

    Raises:
        InputError: the corpus has no room for so many tokens.
    """
    ordered = sorted(corpus.train, key=lambda file: (file.part != "library", _mark(file.name)))
    return train_tokenizer(_first_chars(ordered, TOKENIZER_CHARS), vocab_size, CONTROL)


def build_rows(
    tokenizer: Tokenizer,
    corpus: CodeCorpus,
    length: int,
    mixture: Mixture,
    seed: int,
    library_times: int = 1,
    report: Report = lambda stage, done, total: None,
) -> Rows:
    """Cut, encode and pack: the library `library_times`, each time with other gaps, everything else once.

    Args:
        tokenizer: From `learn_tokens`.
        corpus: The sources.
        length: Tokens of a row.
        mixture: The kinds of samples.
        seed: Draws gaps, conversations and the order.
        library_times: How often the library comes.
        report: Told how many files are cut.
    """
    library = [file for file in corpus.train if file.part == "library"]
    files = [*corpus.train, *library * (library_times - 1)]
    random.Random(seed).shuffle(files)
    samples = list(_samples(tokenizer, files, length, mixture, seed, report))
    num_tokens = sum(map(len, samples))
    budget = int(num_tokens * mixture.task_share / (1 - mixture.task_share))
    samples += _conversations(tokenizer, library, budget, length, seed)
    random.Random(seed + 1).shuffle(samples)
    watched = list(_samples(tokenizer, corpus.watched, length, mixture, seed, lambda *_: None))
    return Rows(packed(samples, length), packed(watched, length))


def _samples(
    tokenizer: Tokenizer,
    files: Sequence[SourceFile],
    length: int,
    mixture: Mixture,
    seed: int,
    report: Report,
) -> Iterator[Int32[np.ndarray, " n"]]:
    dice = random.Random(seed)
    plain = Tokenizer.from_str(tokenizer.to_str())
    # A source that writes a control token's text has not written the token.
    plain.encode_special_tokens = True
    for first in range(0, len(files), FILES_AT_ONCE):
        report("Cutting samples", first, len(files))
        texts = [file.text for file in files[first : first + FILES_AT_ONCE]]
        cut = []
        for text, found in zip(texts, plain.encode_batch(texts, add_special_tokens=False), strict=True):
            cut += samples_of(text, [start for start, _ in found.offsets], length, mixture, dice)
        yield from encoded(plain, cut, length)


def _conversations(
    tokenizer: Tokenizer, library: Sequence[SourceFile], budget: int, length: int, seed: int
) -> list[Int32[np.ndarray, " n"]]:
    """Conversations of `budget` tokens in all; those that a row does not hold are left out."""
    if budget < 1:
        return []
    documented = [one for file in library for one in documented_in(file.text)]
    endless, renderer = tasks(documented, seed), Renderer()
    found: list[Int32[np.ndarray, " n"]] = []
    while budget > 0:
        texts = [f"{renderer.text(task)}{END}" for task in islice(endless, 500)]
        fitting = [one.ids for one in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        fitting = [ids for ids in fitting if len(ids) <= length]
        if not fitting:
            break
        for ids in fitting:
            if budget > 0:
                found.append(np.array(ids, np.int32))
                budget -= len(ids)
    return found


def _first_chars(files: Sequence[SourceFile], most: int) -> Iterator[str]:
    for file in files:
        if most <= 0:
            return
        yield file.text
        most -= len(file.text)


def _mark(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
