from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

from cynosure.train.code_corpus import CodeCorpus, SourceFile
from cynosure.train.core_lm_rows import CONTROL, build_rows, learn_tokens
from cynosure.train.core_lm_samples import END, PAD, Mixture

SOURCE = 'def function_{0}(first):\n    """Return {0} more than the first."""\n    return first + {0}\n\n\n'


def corpus_of(count: int = 60) -> CodeCorpus:
    files = [SourceFile("library", f"m{n}.py", SOURCE.format(n) * 4) for n in range(count)]
    other = SourceFile("package", "p.py", "print('<|spm_prefix|>')\n" * 9)
    return CodeCorpus((*files, other), (SourceFile("library", "w.py", SOURCE.format(7) * 9),), (), 0, ())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return learn_tokens(corpus_of(), 330)


def test_control_tokens_come_first_and_the_end_is_zero(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in CONTROL] == list(range(len(CONTROL)))
    assert tokenizer.token_to_id(END) == 0
    assert tokenizer.get_vocab_size() == 330


def test_rows_are_of_the_corpus_and_of_conversations(tokenizer: Tokenizer) -> None:
    rows = build_rows(tokenizer, corpus_of(), 257, Mixture(task_share=0.2), 0)
    assert rows.train.shape[1] == rows.watched.shape[1] == 257
    turn = tokenizer.token_to_id("<|im_start|>")
    # A conversation is a run between ends; those with turns make up their share.
    flat = rows.train[rows.train != PAD]
    pieces = np.split(flat, np.flatnonzero(flat == 0) + 1)
    spoken = sum(len(piece) for piece in pieces if turn in piece)
    assert spoken / len(flat) == pytest.approx(0.2, abs=0.06)
    assert turn not in rows.watched


def test_the_seed_decides_and_the_library_counts_twice(tokenizer: Tokenizer) -> None:
    plain = Mixture(gap_share=0, task_share=0)
    once = build_rows(tokenizer, corpus_of(), 257, plain, 0)
    twice = build_rows(tokenizer, corpus_of(), 257, plain, 0, library_times=2)
    assert (build_rows(tokenizer, corpus_of(), 257, plain, 0).train == once.train).all()
    assert (twice.train != PAD).sum() > 1.8 * (once.train != PAD).sum()


def test_a_source_that_names_a_control_token_has_not_written_it(tokenizer: Tokenizer) -> None:
    rows = build_rows(tokenizer, corpus_of(3), 257, Mixture(gap_share=0, task_share=0), 0)
    assert tokenizer.token_to_id("<|spm_prefix|>") not in rows.train
    assert "<|spm_prefix|>" in tokenizer.decode(
        rows.train[rows.train > 0].tolist(), skip_special_tokens=False
    )
