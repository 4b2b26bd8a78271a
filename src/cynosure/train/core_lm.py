"""Train the pack's small decoder for Python code, and write it as a checkpoint. Serves nothing.

The recipe is one for all sizes: about six million parameters are learned on a few cores in an hour, twenty
million where there is a GPU.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from cynosure.core.errors import InputError
from cynosure.models.safetensor_writer import write_safetensors
from cynosure.train.code_corpus import MAX_PACKAGE_BYTES, CodeCorpus
from cynosure.train.core_lm_optimiser import Muon
from cynosure.train.core_lm_rows import CONTROL, END, TURN_END, Rows, build_rows, learn_tokens
from cynosure.train.core_lm_samples import PAD, Mixture
from cynosure.train.generated_tasks import TEMPLATE
from cynosure.train.loop import Course, Fitted, Report, Schedule, fit, silent
from cynosure.train.tiny_decoder import Shape, TinyDecoder

#: Sizes by the name that `--size` takes.
SIZES: Mapping[str, Shape] = MappingProxyType(
    {
        "6m": Shape(
            vocab_size=8192, hidden_size=256, intermediate_size=768, num_layers=6, max_model_len=1024
        ),
        "20m": Shape(
            vocab_size=8192,
            hidden_size=384,
            intermediate_size=1152,
            num_layers=10,
            num_heads=6,
            max_model_len=1024,
        ),
    }
)
#: The run's own file, beside what it writes; it is removed when the run is over.
RUN = "run.safetensors"
WATCHED_ROWS = 32


@dataclass(frozen=True)
class CoreRecipe:
    """All that decides what comes out, beside the corpus and the number of threads.

    With `max_minutes`, `num_steps` only says how finely the run is divided, and should not be reached.
    `is_compiled` has torch compile the step, which takes a C++ compiler and a minute, and then half the time.
    """

    shape: Shape = field(default_factory=lambda: SIZES["6m"])
    mixture: Mixture = field(default_factory=Mixture)
    num_steps: int = 4000
    max_minutes: float | None = None
    num_seqs: int = 4
    peak_rate: float = 4e-3
    weight_decay: float = 0.1
    library_times: int = 2
    max_package_bytes: int = MAX_PACKAGE_BYTES
    is_mixed: bool = True
    is_compiled: bool = False
    seed: int = 0
    every: int = 250

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a count below 1.
        """
        for name in ("num_steps", "num_seqs", "every"):
            if vars(self)[name] < 1:
                raise InputError(f"{name} is {vars(self)[name]}; the limit is 1. Raise it.")


@dataclass(frozen=True)
class CoreTrained:
    """What came out: the folder, how the run went, and nats a token and bits a byte on held-out modules."""

    folder: Path
    fitted: Fitted
    num_tokens: int
    num_parameters: int
    held_out_loss: float
    held_out_bits: float


def train_core_lm(
    corpus: CodeCorpus,
    recipe: CoreRecipe,
    out: Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    report: Report = silent,
) -> CoreTrained:
    """Train, and write a checkpoint to `out`; every `recipe.every` steps what is learned so far stands there.

    Raises:
        InputError: `out` exists and `resume` is not said, or the corpus does not fill one batch.
        CheckpointCorrupt: `out` holds the run of another model.
    """
    if out.exists() and not resume:
        raise InputError(
            f"{out} exists; nothing is overwritten. Name a folder that does not exist, or resume its run."
        )
    report("Learning the tokens", 0, 0)
    learned = out / "tokenizer.json"
    # A run goes on in the tokens that it began with, whatever was installed since.
    is_known = resume and learned.is_file()
    tokenizer = (
        Tokenizer.from_file(str(learned)) if is_known else learn_tokens(corpus, recipe.shape.vocab_size)
    )
    length = recipe.shape.max_model_len + 1
    rows = build_rows(tokenizer, corpus, length, recipe.mixture, recipe.seed, recipe.library_times, report)
    if len(rows.train) < recipe.num_seqs:
        raise InputError(
            f"the corpus fills {len(rows.train)} rows of {length} tokens; a batch takes {recipe.num_seqs}. "
            "Give more text, or lower num_seqs."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        decoder = TinyDecoder(recipe.shape).to(device)
    out.mkdir(parents=True, exist_ok=True)
    if not is_known:
        export(out, decoder, tokenizer, recipe.shape)
    fitted = _fit(decoder, rows, recipe, out, report)
    export(out, decoder, tokenizer, recipe.shape)
    report("Reading held-out modules", 0, 0)
    loss, bits = held_out(decoder, tokenizer, corpus, recipe.is_mixed)
    (out / RUN).unlink(missing_ok=True)
    num_parameters = sum(parameter.numel() for parameter in decoder.parameters())
    return CoreTrained(out, fitted, int((rows.train != PAD).sum()), num_parameters, loss, bits)


def _fit(decoder: TinyDecoder, rows: Rows, recipe: CoreRecipe, out: Path, report: Report) -> Fitted:
    per_pass = len(rows.train) // recipe.num_seqs
    taken = torch.compile(token_loss) if recipe.is_compiled else token_loss

    def loss_of(step: int) -> Float[Tensor, ""]:
        order = np.random.default_rng((recipe.seed, step // per_pass)).permutation(len(rows.train))
        first = step % per_pass * recipe.num_seqs
        return taken(decoder, _tokens(decoder, rows.train[order[first : first + recipe.num_seqs]]))

    def check(step: int) -> float:
        export_weights(out, decoder)
        return watched_loss(decoder, rows.watched[:WATCHED_ROWS], recipe.is_mixed)

    course = Course(
        Schedule(recipe.num_steps, recipe.peak_rate, recipe.max_minutes),
        recipe.is_mixed,
        out / RUN,
        recipe.every,
    )
    optimiser = Muon(decoder, recipe.peak_rate, recipe.weight_decay)
    return fit(decoder, optimiser, loss_of, course, report, check)


def token_loss(decoder: TinyDecoder, tokens: Int[Tensor, "b n"]) -> Float[Tensor, ""]:
    """The mean nats of the tokens that rows hold, each but a row's first."""
    logits = decoder(tokens[:, :-1].clamp(min=0))
    return functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten(), ignore_index=PAD)


def _tokens(decoder: TinyDecoder, rows: Int32[np.ndarray, "b n"]) -> Int[Tensor, "b n"]:
    return torch.from_numpy(rows.astype(np.int64)).to(next(decoder.parameters()).device)


@torch.inference_mode()
def watched_loss(decoder: TinyDecoder, rows: Int32[np.ndarray, "b n"], is_mixed: bool) -> float:
    """The mean loss of rows, four at a time; NaN where there are none."""
    if not len(rows):
        return float("nan")
    device = next(decoder.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=is_mixed):
        parts = [
            float(token_loss(decoder, _tokens(decoder, rows[first : first + 4])))
            for first in range(0, len(rows), 4)
        ]
    return sum(parts) / len(parts)


def held_out(
    decoder: TinyDecoder, tokenizer: Tokenizer, corpus: CodeCorpus, is_mixed: bool
) -> tuple[float, float]:
    """Nats a token and bits a byte of the held-out modules, their tests apart, read from top to bottom."""
    length = decoder.shape.max_model_len + 1
    files = [file for file in corpus.held_out if file.part == "library"]
    plain = Mixture(gap_share=0.0, task_share=0.0)
    whole = CodeCorpus((), tuple(files), (), 0, ())
    rows = build_rows(tokenizer, whole, length, plain, 0).watched
    loss = watched_loss(decoder, rows, is_mixed)
    num_bytes = sum(len(file.text.encode()) for file in files)
    return loss, loss * int((rows != PAD).sum()) / num_bytes / float(np.log(2))


def export(folder: Path, decoder: TinyDecoder, tokenizer: Tokenizer, shape: Shape) -> None:
    """Write all that a checkpoint has: config, tokenizer with its chat template, and the weights."""
    end, turn_end = tokenizer.token_to_id(END), tokenizer.token_to_id(TURN_END)
    config = {
        **shape.config(),
        "dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": [end, turn_end],
        "pad_token_id": end,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    told = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "additional_special_tokens": [token for token in CONTROL if token != END],
        "model_max_length": shape.max_model_len,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(told, indent=2) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))
    export_weights(folder, decoder)


def export_weights(folder: Path, decoder: TinyDecoder) -> None:
    """Write the weights in bfloat16, whole or not at all."""
    tensors = {name: one.detach().cpu().bfloat16() for name, one in decoder.state_dict().items()}
    scratch = folder / ".model.safetensors.part"
    write_safetensors(scratch, tensors, {"format": "pt"})
    scratch.replace(folder / "model.safetensors")
