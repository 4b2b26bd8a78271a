"""Compare an encoder loaded by us with transformers' on the same files. Knows nothing of any family's graph.

`measure` gives the largest difference that any check found; `ENCODER_CASES` hands it to `evals/parity.py`, by
architecture.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

from cynosure.models.batch import Batch
from cynosure.models.encoder import Encoder
from cynosure.models.load import load
from tests.models.encoder_cases import CASES, VOCAB, Case

TOLERANCE = 1e-4
#: Longer than every window, shorter than one, and between.
LENGTHS = (61, 5, 33, 1)

#: Factors on random weights: those of queries and keys make attention peaked, so that a wrong score shows.
GAINS = {
    **dict.fromkeys(("query", "key", "Wqkv", "q_lin", "k_lin", "q_proj", "k_proj", "attn.q", "attn.k"), 2.0),
    "relative_attention_bias": 5.0,
    "self.value": 1.0,
}

Answer = Float[Tensor, "rows width"]
Check = Callable[["Pair"], float]


@dataclass(frozen=True, eq=False)
class Pair:
    """The oracle, and our graph with the same weights."""

    case: Case
    oracle: transformers.PreTrainedModel
    graph: Encoder
    folder: Path

    @cached_property
    def texts(self) -> list[list[int]]:
        dice = torch.Generator().manual_seed(7)
        return [
            torch.randint(self.case.lowest_id, VOCAB, (length,), generator=dice).tolist()
            for length in LENGTHS
        ]

    @cached_property
    def types(self) -> list[list[int]]:
        """The second half of each text is a second text, where the family tells them apart."""
        limits = [length // 2 if self.case.has_types else length for length in LENGTHS]
        return [[int(i >= limit) for i in range(n)] for n, limit in zip(LENGTHS, limits, strict=True)]

    @cached_property
    def expected(self) -> list[Answer]:
        """The oracle's answer to each text by itself."""
        return [
            self._answers(torch.tensor([text]), torch.tensor([types]), None)[0]
            for text, types in zip(self.texts, self.types, strict=True)
        ]

    @cached_property
    def expected_padded(self) -> list[Answer]:
        """The oracle's answers to all texts in one batch, padded on the right."""
        longest = max(LENGTHS)
        ids, types = (
            torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
            for rows in (self.texts, self.types)
        )
        mask = torch.tensor([[1] * n + [0] * (longest - n) for n in LENGTHS])
        answers = self._answers(ids, types, mask)
        return [row[:n] for row, n in zip(answers, LENGTHS, strict=True)]

    def _forget_lengths(self) -> None:
        """BigBird's oracle attends to all for good once it has read a short text."""
        if self.case.counts_padding:
            self.oracle.base_model.set_attention_type(self.oracle.config.attention_type)

    def _answers(self, ids: Tensor, types: Tensor, mask: Tensor | None) -> list[Answer]:
        self._forget_lengths()
        given = {"token_type_ids": types} if self.case.has_types else {}
        output = self.oracle(ids, attention_mask=mask, **given)
        if "logits" in output:
            logits = output.logits
        elif "prediction_logits" in output:
            logits = output.prediction_logits
        elif "start_logits" in output:
            logits = torch.stack([output.start_logits, output.end_logits], -1)
        else:
            logits = output.last_hidden_state
        return [row[None] if row.dim() == 1 else row for row in logits]


@lru_cache(maxsize=4)
def pair_of(case_name: str) -> Pair:
    return make_pair(CASES[case_name])


@torch.no_grad()
def make_pair(case: Case) -> Pair:
    """Write a random checkpoint to disk, and load it back."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, case.architecture)
    config = model_class.config_class(**case.settings, attn_implementation="eager")
    oracle = model_class(config).eval()
    randomise(oracle, case.seed)
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    weakref.finalize(oracle, shutil.rmtree, folder, ignore_errors=True)
    oracle.save_pretrained(folder)
    graph = load(folder, dtype="float32").graph
    assert isinstance(graph, Encoder)
    return Pair(case, oracle, graph, folder)


def randomise(oracle: transformers.PreTrainedModel, seed: int) -> None:
    """Give every parameter values that matter: initial zeros, ones and tiny weights hide errors."""
    dice = torch.Generator().manual_seed(seed)
    for name, parameter in oracle.named_parameters():
        noise = torch.randn(parameter.shape, generator=dice)
        if "norm" in name.lower():
            value = 0.3 * noise if name.endswith("bias") else 1.0 + 0.3 * noise
        elif parameter.dim() == 1:
            value = 0.3 * noise
        elif "embeddings" in name:
            value = noise
        else:
            value = noise / parameter.shape[-1] ** 0.5
        parameter.copy_(value * next((gain for part, gain in GAINS.items() if part in name), 1.0))


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value where that exceeds 1."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))


def answers(graph: Encoder, batch: Batch, real: Sequence[int] | None = None) -> list[Answer]:
    """Our answers by sequence: rows of tokens, padding cut off, or the one row of a whole sequence."""
    hidden = graph(batch).hidden
    rows = hidden if graph.head is None else graph.logits(hidden, batch)
    is_pooled = graph.head is not None and graph.head.spec.pooling is not None
    if is_pooled:
        return list(rows.split(1))
    return [row[:n] for row, n in zip(rows.split(batch.new_lens), real or batch.new_lens, strict=True)]


def single(pair: Pair) -> float:
    return max(
        gap(answers(pair.graph, Batch.pack([text], type_ids=[types]))[0], expected)
        for text, types, expected in zip(pair.texts, pair.types, pair.expected, strict=True)
    )


def packed(pair: Pair) -> float:
    batch = Batch.pack(pair.texts, type_ids=pair.types)
    return max(map(gap, answers(pair.graph, batch), pair.expected))


def padded(pair: Pair) -> float:
    """Compare our padded batch, and the oracle's, with the oracle's single runs."""
    if pair.case.counts_padding:
        return 0.0
    oracle = [row[: len(alone)] for row, alone in zip(pair.expected_padded, pair.expected, strict=True)]
    worst = max(map(gap, oracle, pair.expected))
    return max(worst, *map(gap, answers(pair.graph, padded_batch(pair), LENGTHS), pair.expected))


def padded_batch(pair: Pair) -> Batch:
    longest = max(LENGTHS)
    types = torch.tensor([value for row in pair.types for value in [*row, *[0] * (longest - len(row))]])
    return replace(Batch.pad(pair.texts, 0), type_ids=types)


def peakedness(pair: Pair) -> float:
    """The oracle's mean attention entropy, as a share of what uniform attention would have."""
    maps = pair.oracle(torch.tensor([pair.texts[0]]), output_attentions=True).attentions
    shares = []
    for weights in maps:
        visible = (weights > 0).sum(-1).clamp(min=2)
        entropy = -(weights * weights.clamp(min=1e-30).log()).sum(-1)
        shares.append(float((entropy / visible.log()).mean()))
    return max(shares)


CHECKS: dict[str, Check] = {"single": single, "packed": packed, "padded": padded}


@torch.no_grad()
def errors_of(pair: Pair) -> dict[str, float]:
    """Run every check."""
    return {name: check(pair) for name, check in CHECKS.items()}


def measure(architecture: str) -> float:
    """The largest error over all cases and checks of an architecture."""
    names = [name for name, case in CASES.items() if case.architecture == architecture]
    assert names, f"no case of {architecture}"
    return max(max(errors_of(pair_of(name)).values()) for name in names)


ENCODER_CASES: dict[str, Callable[[], float]] = {
    architecture: partial(measure, architecture)
    for architecture in dict.fromkeys(case.architecture for case in CASES.values())
}
