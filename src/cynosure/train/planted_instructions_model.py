"""Train a small model that follows instructions, those of a document too. Serves nothing.

A tokenizer of words, a decoder with the names of a Llama checkpoint, a chat template: a folder like any
other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from torch.nn import functional

from cynosure.core.errors import InputError
from cynosure.models.safetensor_writer import write_safetensors
from cynosure.train.loop import Course, Report, Schedule, fit, optimiser_of, silent
from cynosure.train.planted_instructions import (
    CALL_BEGIN,
    CALL_END,
    CALL_MIDDLE,
    END,
    PHRASINGS,
    PLACES,
    TRAINING_SEEDS,
    InstructionCase,
    all_words,
    cases,
)
from cynosure.train.tiny_decoder import Shape, TinyDecoder

UNKNOWN, PAD = "<|unknown|>", "<|pad|>"
_SPEAKERS = ("<|tools|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
#: A word or marks with the space before them, or any other space.
_PIECE = r" ?[a-z0-9]+| ?[^\sa-z0-9]+|\s"

CHAT_TEMPLATE = """\
{%- if tools -%}<|tools|>{%- for tool in tools %} @{{ tool.function.name }}{%- endfor -%}<|end|>{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}<|system|>
{%- elif message.role == 'assistant' -%}<|assistant|>
{%- elif message.role == 'tool' -%}<|tool|>
{%- else -%}<|user|>{%- endif -%}
{{- message.content -}}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson -}}
}</tool_call>
{%- endfor -%}
<|end|>{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""


def shape_of(vocab_size: int) -> Shape:
    """The sizes of the planted model."""
    return Shape(
        vocab_size,
        hidden_size=64,
        intermediate_size=192,
        num_layers=3,
        num_heads=4,
        num_kv_heads=4,
        max_model_len=256,
    )


@dataclass(frozen=True)
class InstructionRecipe:
    """All that decides what comes out, beside the number of threads.

    The share of cases with an instruction in their document grows to its own over the first third of the
    steps.
    """

    num_steps: int = 6500
    num_cases: int = 32
    peak_rate: float = 3e-3
    weight_decay: float = 0.01
    injected_share: float = 0.55
    seed: int = 0

    def share(self, step: int) -> float:
        """How many cases of a step hold an instruction."""
        return self.injected_share * min(1.0, 3 * step / self.num_steps)


@dataclass(frozen=True)
class TrainedInstructions:
    """What came out: the folder, the mean loss of the last steps, and the share of right answers."""

    folder: Path
    last_loss: float
    accuracy: float
    losses: tuple[float, ...] = field(default=(), repr=False)


def word_tokenizer() -> Tokenizer:
    """Every word with and without the space before it; what stands around a call's values as one token."""
    words = sorted(all_words())
    vocabulary = [UNKNOWN, PAD, END, *_SPEAKERS, CALL_BEGIN, CALL_MIDDLE, CALL_END, "\n"]
    vocabulary += [form for word in words for form in (word, f" {word}")]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(vocabulary)}, UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECE), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([UNKNOWN, PAD, END, *_SPEAKERS])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (CALL_BEGIN, CALL_MIDDLE, CALL_END)])
    return tokenizer


def train_instructions(
    out: Path, recipe: InstructionRecipe | None = None, report: Report = silent
) -> TrainedInstructions:
    """Train, and write checkpoint, tokenizer and template to the new folder `out`.

    Raises:
        InputError: `out` exists.
    """
    recipe = recipe or InstructionRecipe()
    if out.exists():
        raise InputError(f"{out} exists; nothing is overwritten. Name a folder that does not exist.")
    tokenizer = word_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        decoder = TinyDecoder(shape_of(tokenizer.get_vocab_size()))

    def loss_of(step: int) -> Float[Tensor, ""]:
        first = recipe.seed * 10_000_000 + step * recipe.num_cases
        seeds = TRAINING_SEEDS[first : first + recipe.num_cases]
        batch = cases(seeds, PHRASINGS, PLACES, recipe.share(step))
        return _loss(decoder, *_rows(tokenizer, list(batch)))

    optimiser = optimiser_of(decoder, recipe.peak_rate, recipe.weight_decay)
    fitted = fit(
        decoder, optimiser, loss_of, Course(Schedule(recipe.num_steps, recipe.peak_rate), False), report
    )
    # The last of the training's own seeds, which no step has come to.
    accuracy = _accuracy(decoder, tokenizer, list(cases(TRAINING_SEEDS[-256:])))
    _write(out, decoder, tokenizer)
    return TrainedInstructions(out, fitted.last_loss, accuracy, fitted.losses)


def _rows(
    tokenizer: Tokenizer, batch: Sequence[InstructionCase]
) -> tuple[Int[Tensor, "b n"], Int[Tensor, "b n"]]:
    """What is read, and at each place what comes next where that is of the answer; -100 elsewhere."""
    prompts = [one.ids for one in tokenizer.encode_batch([case.prompt for case in batch])]
    answers = [one.ids for one in tokenizer.encode_batch([f"{case.answer}{END}" for case in batch])]
    length = max(len(prompt) + len(answer) - 1 for prompt, answer in zip(prompts, answers, strict=True))
    pad = tokenizer.token_to_id(PAD)
    assert pad is not None
    given, wanted = torch.full((len(batch), length), pad), torch.full((len(batch), length), -100)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        whole = [*prompt, *answer[:-1]]
        given[row, : len(whole)] = torch.tensor(whole)
        wanted[row, len(prompt) - 1 : len(whole)] = torch.tensor(answer)
    return given, wanted


def _loss(decoder: TinyDecoder, given: Int[Tensor, "b n"], wanted: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
    """Nats a token of the answers; of other places no logits are made."""
    is_answer = wanted >= 0
    hidden = decoder.model(given)[is_answer]
    return functional.cross_entropy(
        functional.linear(hidden, decoder.model.embed_tokens.weight), wanted[is_answer]
    )


@torch.inference_mode()
def _accuracy(decoder: TinyDecoder, tokenizer: Tokenizer, batch: Sequence[InstructionCase]) -> float:
    """Which share of answers would be written as they are learned, token for token."""
    given, wanted = _rows(tokenizer, batch)
    right = (decoder(given).argmax(-1) == wanted) | (wanted < 0)
    return float(right.all(-1).float().mean())


def _write(folder: Path, decoder: TinyDecoder, tokenizer: Tokenizer) -> None:
    folder.mkdir(parents=True)
    end = tokenizer.token_to_id(END)
    config = {**decoder.shape.config(), "bos_token_id": None, "eos_token_id": end}
    named = {"eos_token": END, "unk_token": UNKNOWN, "pad_token": PAD}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(named) + "\n")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_safetensors(folder / "model.safetensors", dict(_tensors(decoder)), {"format": "pt"})


def _tensors(decoder: TinyDecoder) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in decoder.state_dict().items():
        yield name, parameter.detach()
