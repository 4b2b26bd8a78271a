"""Compare encoder-decoders with transformers on the same files: states, logits, decoding, batches.

`SEQ2SEQ_CASES` hands the measurements to `evals/parity.py`, by architecture. T5 has an oracle of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

from cynosure.models.batch import Batch
from cynosure.models.encoder_decoder import Encoded, EncoderDecoder, StackedEncoder
from cynosure.models.load import load
from tests.models.seq2seq_cases import ANSWER_LEN, CASES, MAX_LEN, PROMPT_LEN, Case, frames, ids

#: What an encoder reads: token ids, or features.
Prompt = list[int] | Tensor
CONFIGS = {"MarianMTModel": "MarianConfig"}
LENGTHS = ((33, 20), (PROMPT_LEN, 3), (1, 40))


@dataclass(frozen=True, eq=False)
class Pair:
    """The oracle, our graph of the same files, and where those are."""

    case: Case
    oracle: Any
    graph: EncoderDecoder
    folder: Path

    @cached_property
    def expected(self) -> Float[Tensor, "n vocab"]:
        """What transformers gives for the long prompt and the long answer."""
        with torch.inference_mode():
            return theirs(self, self.prompt(PROMPT_LEN, 1), self.answer(ANSWER_LEN, 2))

    @property
    def start(self) -> int:
        return self.oracle.config.decoder_start_token_id

    def prompt(self, length: int, seed: int) -> Prompt:
        return frames(seed) if self.case.has_features else ids(length, seed)

    def answer(self, length: int, seed: int) -> list[int]:
        return [self.start, *ids(length - 1, seed)]


@lru_cache(maxsize=len(CASES))
def pair_of(name: str) -> Pair:
    case, folder = CASES[name], Path(tempfile.mkdtemp(prefix=f"{name}-"))
    oracle = build(case)
    oracle.save_pretrained(folder)
    return Pair(case, oracle, loaded(folder), folder)


def loaded(folder: Path) -> EncoderDecoder:
    """Our graph of a folder, through our loader."""
    graph = load(folder, dtype="float32").graph
    assert isinstance(graph, EncoderDecoder)
    return graph


@torch.no_grad()
def build(case: Case) -> Any:  # noqa: ANN401 - each architecture has a class of its own
    """An oracle whose every weight matters: nothing is zero or one, and attention is peaked."""
    torch.manual_seed(case.seed)
    name = CONFIGS.get(case.architecture, case.architecture.replace("ForConditionalGeneration", "Config"))
    config = getattr(transformers, name)(**deepcopy(case.settings))
    config._attn_implementation = "eager"
    model = getattr(transformers, case.architecture)(config).eval()
    for key, weight in model.named_parameters():
        _spread(key, weight, scale=config.d_model**0.5 if config.to_dict().get("scale_embedding") else 1.0)
    for key, buffer in model.named_buffers():
        if key == "final_logits_bias":
            buffer.normal_(std=1.0)
    return model


def _spread(name: str, weight: Tensor, scale: float) -> None:
    """Give one parameter random numbers that show; positions that are sines stay."""
    owner = name.rpartition(".")[0]
    if "norm" in owner.rpartition(".")[2]:
        # Either sign: with tied embeddings a token would otherwise predict itself for ever.
        signs = torch.randint(0, 2, weight.shape) * 2 - 1
        weight.normal_(std=0.2) if name.endswith("bias") else weight.uniform_(0.5, 1.5).mul_(signs)
    elif name.endswith("bias"):
        weight.normal_(std=0.2)
    elif "relative_attention_bias" in name or "embed_global" in name:
        weight.normal_(std=1.5)
    elif "embed_positions" in name:
        if weight.requires_grad:
            weight.normal_(std=0.3)
    elif name.endswith((".q.weight", ".k.weight")):
        weight.normal_(std=0.13)
    elif owner.rpartition(".")[2].startswith(("q_proj", "k_proj", "query", "key")):
        weight.normal_(std=0.22)
    elif "shared" in name or "embed_tokens" in name:
        weight.normal_(std=0.3 / scale**0.5)
    else:
        weight.normal_(std=0.12)


def error(ours: Float[Tensor, "*shape"], theirs: Float[Tensor, "*shape"]) -> float:
    """The largest difference, relative to the largest number where that exceeds 1."""
    assert theirs.isfinite().all()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))


def given(pair: Pair, prompt: Prompt) -> dict[str, Tensor]:
    """A prompt as transformers takes it; of LED's the first token attends to all, as its authors advise."""
    if isinstance(prompt, Tensor):
        return {"input_features": prompt[None]}
    found = {"input_ids": torch.tensor([prompt])}
    if pair.case.architecture.startswith("LED"):
        found["global_attention_mask"] = (torch.arange(len(prompt)) == 0).long()[None]
    return found


def theirs(pair: Pair, prompt: Prompt, answer: Sequence[int]) -> Float[Tensor, "n vocab"]:
    return pair.oracle(**given(pair, prompt), decoder_input_ids=torch.tensor([list(answer)])).logits[0]


def encoded(graph: EncoderDecoder, prompts: Sequence[Prompt], backend: str = "auto") -> Encoded:
    """Our encoder's output for several requests, packed."""
    if isinstance(prompts[0], Tensor):
        return graph.encode_features(torch.stack(list(prompts)), backend=backend)  # type: ignore[arg-type]
    return graph.encode(Batch.pack(prompts), backend=backend)  # type: ignore[arg-type]


def states(pair: Pair) -> float:
    """What the encoder makes of an input."""
    prompt = pair.prompt(PROMPT_LEN, 1)
    expected = pair.oracle.get_encoder()(**given(pair, prompt)).last_hidden_state[0]
    return error(encoded(pair.graph, [prompt]).output.hidden, expected)


def prefill(pair: Pair, graph: EncoderDecoder | None = None, backend: str = "auto") -> float:
    """Logits in one pass without a cache; of `graph` where one is given."""
    prompt, answer = pair.prompt(PROMPT_LEN, 1), pair.answer(ANSWER_LEN, 2)
    ours = graph or pair.graph
    memory = encoded(ours, [prompt], backend)
    hidden = ours.decode(Batch.pack([answer]), None, memory, backend=backend).hidden
    return error(ours.logits(hidden), pair.expected)


def chunked(pair: Pair) -> float:
    """The decoder's first tokens one at a time, and all in chunks of 7 and of 64, through a cache."""
    prompt, whole = pair.prompt(PROMPT_LEN, 1), pair.answer(ANSWER_LEN, 2)
    memory, expected = encoded(pair.graph, [prompt]), pair.expected
    worst = 0.0
    for size, length in ((1, 24), (7, ANSWER_LEN), (64, ANSWER_LEN)):
        answer = whole[:length]
        cache, parts = pair.graph.new_cache(1, len(answer)), []
        for start in range(0, len(answer), size):
            batch = Batch.pack([answer[start : start + size]], past_lens=cache.lengths, max_len=cache.max_len)
            parts.append(pair.graph.logits(pair.graph.decode(batch, cache, memory).hidden))
        worst = max(worst, error(torch.cat(parts), expected[:length]))
    return worst


def batched(pair: Pair) -> float:
    """Several requests, packed, and padded where they are tokens: each gets what it gets alone."""
    prompts = [pair.prompt(length, length) for length, _ in LENGTHS]
    answers = [pair.answer(length, length) for _, length in LENGTHS]
    expected = torch.cat([theirs(pair, *one) for one in zip(prompts, answers, strict=True)])
    memories = [encoded(pair.graph, prompts)]
    if not pair.case.has_features:
        padded = [Batch.pad(prompts, 1, on_left=left) for left in (False, True)]  # type: ignore[arg-type]
        memories += [pair.graph.encode(batch) for batch in padded]
    found = [pair.graph.decode(Batch.pack(answers), None, memory).hidden for memory in memories]
    return max(error(pair.graph.logits(hidden), expected) for hidden in found)


Check = Callable[[Pair], float]
CHECKS: dict[str, Check] = {"states": states, "prefill": prefill, "chunked": chunked, "batched": batched}
assert ANSWER_LEN <= MAX_LEN


@torch.inference_mode()
def errors_of(pair: Pair, names: Collection[str] = tuple(CHECKS)) -> dict[str, float]:
    """Run checks, all where none is named."""
    return {name: CHECKS[name](pair) for name in names}


def measure(architecture: str) -> float:
    """The largest error over all cases and checks of an architecture."""
    names = [name for name, case in CASES.items() if case.architecture == architecture]
    return max(max(errors_of(pair_of(name)).values()) for name in names)


@torch.inference_mode()
def measure_encoder(name: str) -> float:
    """Error of the encoder of a case, saved and loaded alone."""
    pair = pair_of(name)
    architecture = pair.case.architecture.replace("ForConditionalGeneration", "EncoderModel")
    model = getattr(transformers, architecture)(pair.oracle.config).eval()
    model.load_state_dict(pair.oracle.state_dict(), strict=False)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        graph = load(folder, dtype="float32").graph
        assert isinstance(graph, StackedEncoder)
        prompt = ids(PROMPT_LEN, 1)
        expected = model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
        return error(graph(Batch.pack([prompt])).hidden, expected)


ENCODERS = {"UMT5EncoderModel": ("umt5",), "LongT5EncoderModel": ("longt5-local", "longt5-global")}
SEQ2SEQ_CASES: dict[str, Callable[[], float]] = {
    **{
        architecture: partial(measure, architecture)
        for architecture in dict.fromkeys(case.architecture for case in CASES.values())
    },
    **{
        name: partial(lambda cases: max(map(measure_encoder, cases)), cases)
        for name, cases in ENCODERS.items()
    },
}
