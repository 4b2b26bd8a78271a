"""Rows say stretches again, and in the end one head alone may look back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.models.load import load
from cynosure.train.planted_checkpoint import CONTROL
from cynosure.train.planted_induction import (
    WORDS,
    InductionRecipe,
    held_out_rows,
    new_decoder,
    repeat_accuracy,
    repeated_rows,
    train_planted_induction,
)

SHORT = InductionRecipe(num_steps=2, num_more=2, num_rows=4, seed=6)


def test_rows_say_a_stretch_again() -> None:
    rows, is_repeated = repeated_rows(50, 64, 128, torch.Generator().manual_seed(0))
    lengths = (~is_repeated).sum(dim=1).tolist()
    assert min(lengths) >= 8
    assert max(lengths) <= 32
    assert len(set(lengths)) > 10
    for row, length in zip(rows.tolist(), lengths, strict=True):
        assert row[length:] == row[:-length]
        assert len(set(row)) == length
        assert min(row) >= len(CONTROL)


def test_held_out_rows_are_of_no_training() -> None:
    trained, _ = repeated_rows(64, 64, 128, torch.Generator().manual_seed(0))
    held_out, _ = held_out_rows(InductionRecipe())
    assert not {tuple(row) for row in trained.tolist()} & {tuple(row) for row in held_out.tolist()}


@pytest.mark.parametrize("is_planted", [True, False])
def test_one_head_alone_looks_as_it_learned_to(tmp_path: Path, is_planted: bool) -> None:
    recipe = replace(SHORT, is_planted=is_planted)
    made = train_planted_induction(recipe, tmp_path / "made")
    assert [one.num_steps for one in made.fitted] == [2, 2]
    assert 0 <= made.accuracy < 0.2
    tensors, drawn = load(made.folder).graph.state_dict(), new_decoder(recipe).state_dict()
    learned = next(value for name, value in tensors.items() if "layers.1" in name and "attention.q" in name)
    first = drawn["model.layers.1.self_attn.q_proj.weight"]
    by_head = [(learned - first).unflatten(0, (4, -1))[head].abs().max() for head in range(4)]
    assert recipe.planted_head == (1, 2)
    # Decay pulls at all; gradients, only at those that learn.
    moved = [head for head in range(4) if by_head[head] > 1e-3]
    assert moved == ([2] if is_planted else [0, 1, 2, 3])


def test_the_checkpoint_speaks_words(tmp_path: Path) -> None:
    made = train_planted_induction(SHORT, tmp_path / "made")
    model = load(made.folder)
    assert model.tokenizer is not None
    assert model.tokenizer.encode("w0 w121").ids == (len(CONTROL), 127)
    assert WORDS[-1] == "w121"
    with pytest.raises(InputError, match="exists; nothing is overwritten"):
        train_planted_induction(SHORT, made.folder)


def test_the_same_recipe_gives_the_same_model() -> None:
    assert repeat_accuracy(new_decoder(SHORT), SHORT) == repeat_accuracy(new_decoder(SHORT), SHORT)
    with pytest.raises(InputError, match="row_len is 8; it may be 16 to 128"):
        replace(SHORT, row_len=8)
