"""Compare a decoder loaded by us with transformers' on the same files. Knows nothing of any family's graph.

Attention is eager in the oracle, since its other kernels leave out softcaps and sinks. `measure` gives the
largest difference that any check found; `DECODER_CASES` hands it to `evals/parity.py`, by architecture.
"""

from __future__ import annotations

import inspect
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path

import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.load import LanguageModel, load
from tests.models.decoder_cases import CASES, VOCAB, Case

TOLERANCE = 1e-4
#: The first is longer than every window and every length "trained first" of the cases.
LENGTHS = (44, 7, 29)
NUM_NEW = 32

#: Factors on random weights. Those of queries and keys make attention peaked, so that a wrong score shows
#: (the tiny GPT-2 divides its scores by the layer's number); those of what attention adds keep a tied head
#: from repeating the token that it got.
GAINS = {
    **dict.fromkeys(("q_proj", "k_proj", "qkv", "query_key_value", "q_norm", "k_norm"), 1.7),
    **dict.fromkeys(("q_b_proj", "kv_b_proj", "query_layernorm", "key_layernorm"), 1.7),
    "c_attn": 3.0,
    **dict.fromkeys(("o_proj", "attn.c_proj", "self_attention.dense", "post_attention_layernorm"), 3.0),
}

Logits = Float[Tensor, "n vocab"]
Check = Callable[["Pair"], float]


@dataclass(frozen=True, eq=False)
class Pair:
    """The oracle, and our model of the same files."""

    oracle: transformers.PreTrainedModel
    model: LanguageModel
    folder: Path

    @property
    def graph(self) -> Decoder:
        assert isinstance(self.model.graph, Decoder)
        return self.model.graph

    @cached_property
    def prompts(self) -> list[list[int]]:
        dice = torch.Generator().manual_seed(7)
        return [torch.randint(1, VOCAB, (length,), generator=dice).tolist() for length in LENGTHS]

    @cached_property
    def expected(self) -> list[Logits]:
        """The oracle's logits of each prompt by itself."""
        return [self.oracle(torch.tensor([prompt])).logits[0] for prompt in self.prompts]


@lru_cache(maxsize=4)
def pair_of(case_name: str) -> Pair:
    return make_pair(CASES[case_name])


@torch.inference_mode(False)  # kept for tests that come later, whoever asks first
@torch.no_grad()
def make_pair(case: Case) -> Pair:
    """Write a random checkpoint to disk, and load it back."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, case.architecture)
    config = model_class.config_class(**case.settings, attn_implementation="eager")
    oracle = model_class(config).eval().requires_grad_(False)
    randomise(oracle, case.seed)
    oracle.generation_config = transformers.GenerationConfig(pad_token_id=0)
    folder = Path(tempfile.mkdtemp(prefix="parity-"))
    weakref.finalize(oracle, shutil.rmtree, folder, ignore_errors=True)
    oracle.save_pretrained(folder)
    if case.pinned is not None:
        pin(oracle, case.pinned)
    return Pair(oracle, load(folder, dtype="float32", max_model_len=case.max_model_len), folder)


def randomise(oracle: transformers.PreTrainedModel, seed: int) -> None:
    """Give every parameter values that matter: initial zeros, ones and tiny weights hide errors."""
    dice = torch.Generator().manual_seed(seed)
    offset = 0.6 if "Gemma" in type(oracle).__name__ else 1.0  # Gemma's norms add one to it
    for name, parameter in oracle.named_parameters():
        noise = torch.randn(parameter.shape, generator=dice)
        if "norm" in name or ".ln_" in name:
            value = 0.3 * noise if name.endswith("bias") else offset + 0.3 * noise
        elif parameter.dim() == 1:
            value = 0.3 * noise
        else:
            fan_in = parameter.shape[0] if "c_" in name else parameter.shape[-1]
            value = noise / fan_in**0.5
        parameter.copy_(value * next((gain for part, gain in GAINS.items() if part in name), 1.0))


def pin(oracle: transformers.PreTrainedModel, length: int) -> None:
    """Freeze the rotary frequencies at those for `length` tokens."""
    rotary = oracle.model.rotary_emb
    frequencies, _ = ROPE_INIT_FUNCTIONS[rotary.rope_type](oracle.config, seq_len=length)
    rotary.inv_freq = frequencies
    rotary.rope_type = "default"


def gap(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, relative to the largest value where that exceeds 1."""
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))


def prefill(pair: Pair) -> float:
    return gap(logits_of(pair.graph, pair.prompts[0]), pair.expected[0])


def logits_of(graph: Decoder, prompt: Sequence[int]) -> Logits:
    return graph.logits(graph(Batch.pack([prompt])).hidden)


def in_chunks(graph: Decoder, prompt: Sequence[int], sizes: Sequence[int]) -> Logits:
    """Run a prompt through a cache, so many tokens at a time."""
    cache = graph.new_cache(1, len(prompt))
    parts, first = [], 0
    for size in sizes:
        batch = Batch.pack([prompt[first : first + size]], past_lens=cache.lengths, max_len=cache.max_len)
        parts.append(graph.logits(graph(batch, cache).hidden))
        first += size
    assert first == len(prompt)
    return torch.cat(parts)


def token_by_token(pair: Pair) -> float:
    return gap(in_chunks(pair.graph, pair.prompts[0], [1] * LENGTHS[0]), pair.expected[0])


def chunked(pair: Pair) -> float:
    return gap(in_chunks(pair.graph, pair.prompts[0], (1, 7, LENGTHS[0] - 8)), pair.expected[0])


def packed(pair: Pair) -> float:
    logits = pair.graph.logits(pair.graph(Batch.pack(pair.prompts)).hidden)
    return max(map(gap, logits.split(LENGTHS), pair.expected))


def padded(pair: Pair) -> float:
    """Compare padded batches, ours on either side and the oracle's, with single runs of the oracle."""
    return max(*map(gap, oracle_padded(pair), pair.expected), ours_padded(pair))


def ours_padded(pair: Pair) -> float:
    """Compare our padded batches, on either side, with single runs of the oracle."""
    worst, longest = 0.0, max(LENGTHS)
    for on_left in (True, False):
        batch = Batch.pad(pair.prompts, 0, on_left=on_left)
        rows = pair.graph.logits(pair.graph(batch).hidden).split(longest)
        real = [row[-n:] if on_left else row[:n] for row, n in zip(rows, LENGTHS, strict=True)]
        worst = max(worst, *map(gap, real, pair.expected))
    return worst


def oracle_padded(pair: Pair) -> list[Logits]:
    """The oracle's own padded batch; it counts positions itself only where it takes no `position_ids`."""
    longest = max(LENGTHS)
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in pair.prompts])
    mask = torch.tensor([[0] * (longest - n) + [1] * n for n in LENGTHS])
    given = {"attention_mask": mask}
    if "position_ids" in inspect.signature(pair.oracle.forward).parameters:
        given["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    logits = pair.oracle(ids, **given).logits
    return [row[-n:] for row, n in zip(logits, LENGTHS, strict=True)]


def greedy(pair: Pair) -> float:
    """Compare 32 greedy tokens of each prompt, ours in one batch: 0 where all are the same, else infinity."""
    expected = [oracle_greedy(pair, prompt) for prompt in pair.prompts]
    num_kinds = len(set().union(*expected))
    assert num_kinds >= 8, f"a model that says only {num_kinds} tokens proves little: choose another seed"
    ours = generate(pair.model, pair.prompts, SamplingOptions(NUM_NEW, eos_token_ids=()))
    return 0.0 if [generation.token_ids for generation in ours] == expected else float("inf")


def oracle_greedy(pair: Pair, prompt: Sequence[int]) -> tuple[int, ...]:
    """The oracle's choice, which must not hang on a difference that the tolerance allows."""
    given = {"do_sample": False, "max_new_tokens": NUM_NEW, "return_dict_in_generate": True}
    theirs = pair.oracle.generate(torch.tensor([prompt]), **given, output_scores=True)
    top = torch.cat(theirs.scores).topk(2).values
    margin = float((top[:, 0] - top[:, 1]).min())
    assert margin > 2 * TOLERANCE * max(1.0, float(top.abs().max())), f"a tie ({margin}): choose another seed"
    return tuple(theirs.sequences[0, len(prompt) :].tolist())


def peakedness(pair: Pair) -> float:
    """The oracle's mean attention entropy, as a share of what uniform attention would have."""
    oracle = pair.oracle
    maps = oracle(torch.tensor([pair.prompts[0]]), output_attentions=True).attentions
    shares = []
    for weights in maps:
        visible = (weights > 0).sum(-1)[..., 4:].clamp(min=2)
        entropy = -(weights * weights.clamp(min=1e-30).log()).sum(-1)[..., 4:]
        shares.append(float((entropy / visible.log()).mean()))
    return max(shares)


CHECKS: dict[str, Check] = {
    "prefill": prefill,
    "token_by_token": token_by_token,
    "chunked": chunked,
    "packed": packed,
    "padded": padded,
    "greedy": greedy,
}


@torch.no_grad()
def errors_of(pair: Pair) -> dict[str, float]:
    """Run every check."""
    return {name: check(pair) for name, check in CHECKS.items()}


def measure(architecture: str) -> float:
    """The largest error over all cases and checks of an architecture."""
    names = [name for name, case in CASES.items() if case.architecture == architecture]
    assert names, f"no case of {architecture}"
    return max(max(errors_of(pair_of(name)).values()) for name in names)


DECODER_CASES: dict[str, Callable[[], float]] = {
    architecture: partial(measure, architecture)
    for architecture in dict.fromkeys(case.architecture for case in CASES.values())
}
