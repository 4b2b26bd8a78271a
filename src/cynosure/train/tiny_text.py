"""Train a small decoder on the text of the running Python, and write it as a checkpoint. Serves nothing.

A few minutes on a few cores give a model whose weights and activations are those of a trained one, which
random ones are not: what quantising costs is measured on it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional

from cynosure.core.errors import InputError
from cynosure.models.safetensor_writer import write_safetensors
from cynosure.train.corpus import Corpus
from cynosure.train.loop import Course, Report, Schedule, fit, optimiser_of, silent
from cynosure.train.tiny_decoder import Shape, TinyDecoder

END = "<|end|>"


@dataclass(frozen=True)
class Recipe:
    """All that decides what comes out, beside the corpus and the number of threads.

    The learning rate warms up over a fiftieth of the steps, then falls along a cosine to a tenth. `is_mixed`
    multiplies in bfloat16, which processors with matrix units do several times faster.
    """

    shape: Shape = field(default_factory=Shape)
    num_steps: int = 2000
    num_seqs: int = 8
    seq_len: int = 256
    peak_rate: float = 1.5e-3
    weight_decay: float = 0.1
    is_mixed: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a count below 1, or sequences longer than the model takes.
        """
        for name in ("num_steps", "num_seqs", "seq_len"):
            if vars(self)[name] < 1:
                raise InputError(f"{name} is {vars(self)[name]}; the limit is 1. Raise it.")
        if self.seq_len > self.shape.max_model_len:
            raise InputError(
                f"seq_len is {self.seq_len}; the model takes {self.shape.max_model_len}. Lower it."
            )

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return Schedule(self.num_steps, self.peak_rate).rate(float(step))


@dataclass(frozen=True)
class Trained:
    """What came out: the folder, and nats a token on the last training batches and on held-out text."""

    folder: Path
    train_loss: float
    held_out_loss: float
    num_parameters: int


def train(corpus: Corpus, recipe: Recipe, out: Path, report: Report = silent) -> Trained:
    """Train, and write checkpoint, tokenizer and `held_out.txt` to the new folder `out`.

    Raises:
        InputError: `out` exists, or the corpus does not fill one sequence.
    """
    if out.exists():
        raise InputError(f"{out} exists; nothing is overwritten. Name a folder that does not exist.")
    report("Learning the tokens", 0, 0)
    tokenizer = train_tokenizer(corpus.train, recipe.shape.vocab_size)
    tokens, held_out = (encode(tokenizer, texts) for texts in (corpus.train, corpus.held_out))
    if min(len(tokens), len(held_out)) <= recipe.seq_len:
        raise InputError(
            f"the corpus has {len(tokens)} tokens to learn from and {len(held_out)} held out; a sequence "
            f"takes {recipe.seq_len + 1}. Give more text, or shorten seq_len."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        decoder = TinyDecoder(recipe.shape)
    train_loss = _fit(decoder, tokens, recipe, report)
    report("Reading held-out text", 0, 0)
    trained = Trained(
        out,
        train_loss,
        held_out_loss(decoder, held_out, recipe.seq_len),
        sum(parameter.numel() for parameter in decoder.parameters()),
    )
    _export(trained, decoder, tokenizer, corpus.held_out, recipe)
    return trained


def train_tokenizer(texts: Iterable[str], vocab_size: int, control: Sequence[str] = (END,)) -> Tokenizer:
    """Return a byte-level BPE (GPT-2's kind) of exactly `vocab_size` tokens, those of control first.

    Raises:
        InputError: the texts have no room for so many.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(control),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != vocab_size:
        raise InputError(
            f"the corpus gives {tokenizer.get_vocab_size()} tokens; the model has {vocab_size}. Give more "
            "text."
        )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> Int[Tensor, " n"]:
    """Return the tokens of all texts, an end token behind each."""
    end = tokenizer.token_to_id(END)
    encoded = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return torch.from_numpy(np.concatenate([np.array([*one.ids, end], np.int64) for one in encoded]))


@torch.inference_mode()
def held_out_loss(decoder: TinyDecoder, tokens: Int[Tensor, " n"], seq_len: int, max_seqs: int = 64) -> float:
    """Return the mean nats a token over the first sequences of a text."""
    count = min(max_seqs, (len(tokens) - 1) // seq_len)
    given = tokens[: count * seq_len].view(count, seq_len)
    wanted = tokens[1 : count * seq_len + 1].view(count, seq_len)
    pairs = zip(given[:, None], wanted[:, None], strict=True)
    return sum(float(_loss(decoder, row, answers)) for row, answers in pairs) / count


def _fit(decoder: TinyDecoder, tokens: Int[Tensor, " n"], recipe: Recipe, report: Report) -> float:
    """Take all steps; return the mean loss of the last ones."""
    dice = torch.Generator().manual_seed(recipe.seed)

    def loss_of(step: int) -> Float[Tensor, ""]:
        starts = torch.randint(0, len(tokens) - recipe.seq_len, (recipe.num_seqs, 1), generator=dice)
        rows = tokens[starts + torch.arange(recipe.seq_len + 1)]
        return _loss(decoder, rows[:, :-1], rows[:, 1:])

    schedule = Schedule(recipe.num_steps, recipe.peak_rate)
    optimiser = optimiser_of(decoder, recipe.peak_rate, recipe.weight_decay)
    return fit(decoder, optimiser, loss_of, Course(schedule, recipe.is_mixed), report).last_loss


def _loss(decoder: TinyDecoder, given: Int[Tensor, "b n"], wanted: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
    logits = decoder(given)
    return functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())


def _export(
    trained: Trained, decoder: TinyDecoder, tokenizer: Tokenizer, held_out: Sequence[str], recipe: Recipe
) -> None:
    folder = trained.folder
    folder.mkdir(parents=True)
    end = tokenizer.token_to_id(END)
    config = {**recipe.shape.config(), "bos_token_id": None, "eos_token_id": end}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": END}) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "held_out.txt").write_text("".join(held_out), encoding="utf-8")
    (folder / "README.md").write_text(
        f"A decoder of {trained.num_parameters} parameters, trained by `cynosure train tiny` on the source "
        f"and documentation of Python.\n\n{recipe}\n\nLoss in nats a token: {trained.train_loss:.4f} at the "
        f"end of training, {trained.held_out_loss:.4f} on held-out files (`held_out.txt`).\n"
    )
    tensors = {name: parameter.detach() for name, parameter in decoder.state_dict().items()}
    write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
