"""Tiny T5 checkpoints on disk, transformers' answer to them and ours, and how far apart the two are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import T5Config, T5EncoderModel, T5ForConditionalGeneration

from cynosure.models.batch import Batch
from cynosure.models.encoder_decoder import EncoderDecoder, StackedEncoder
from cynosure.models.load import load
from cynosure.models.seq2seq import generate_seq2seq

VOCAB = 200
NUM_TOKENS = 32


@dataclass(frozen=True)
class Variant:
    """Where versions of T5 differ."""

    feed_forward: str
    is_tied: bool


VARIANTS = {
    "v1": Variant("relu", True),
    "v1.1": Variant("gated-gelu", False),
    "ul2": Variant("gated-silu", False),
}


def ids(length: int, seed: int) -> list[int]:
    """Token ids without padding (0) and the end token (1)."""
    return torch.randint(2, VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


# Both are far longer than the largest distance that has a bucket of its own (20).
PROMPT, ANSWER = ids(90, 1), [0, *ids(39, 2)]


def build(variant: Variant, vocab_size: int = VOCAB) -> T5ForConditionalGeneration:
    """An oracle whose every weight matters: nothing is zero or one, and attention is peaked."""
    torch.manual_seed(5)
    config = T5Config(
        vocab_size=vocab_size,
        d_model=64,
        d_kv=12,
        d_ff=96,
        num_layers=3,
        # Not more than num_layers: the cache of transformers' generate has a layer for each of those.
        num_decoder_layers=2,
        num_heads=4,
        relative_attention_num_buckets=12,
        relative_attention_max_distance=20,
        feed_forward_proj=variant.feed_forward,
        tie_word_embeddings=variant.is_tied,
        decoder_start_token_id=0,
        # No parity would be shown by an answer of one token.
        eos_token_id=None,
    )
    config._attn_implementation = "eager"
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                # Either sign: with tied embeddings a token would otherwise predict itself for ever.
                weight.uniform_(0.5, 1.5).mul_(torch.randint(0, 2, weight.shape) * 2 - 1)
            elif name.endswith("relative_attention_bias.weight"):
                weight.normal_(std=1.5)
            elif name.endswith((".q.weight", ".k.weight")):
                weight.normal_(std=0.13)
            elif name == "shared.weight":
                weight.normal_(std=0.3)
            else:
                weight.normal_(std=0.12)
        if not variant.is_tied:
            model.lm_head.weight = torch.nn.Parameter(torch.randn(vocab_size, 64) * 0.3)
    return model


def save(model: T5ForConditionalGeneration | T5EncoderModel, folder: Path) -> None:
    """Write `model` as transformers does."""
    model.save_pretrained(folder)


def loaded(folder: Path) -> EncoderDecoder:
    """Our graph of a folder, through our loader."""
    graph = load(folder, dtype="float32").graph
    assert isinstance(graph, EncoderDecoder)
    return graph


def error(ours: Float[Tensor, "*shape"], theirs: Float[Tensor, "*shape"]) -> float:
    """The largest difference, relative to the largest logit where that exceeds 1."""
    assert theirs.isfinite().all()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1.0))


@torch.inference_mode()
def oracle_logits(model: T5ForConditionalGeneration) -> Float[Tensor, "n vocab"]:
    """What transformers gives for the prompt and the answer."""
    return model(input_ids=torch.tensor([PROMPT]), decoder_input_ids=torch.tensor([ANSWER])).logits[0]


@torch.inference_mode()
def chunked(graph: EncoderDecoder, lengths: Sequence[int], backend: str = "auto") -> Float[Tensor, "n vocab"]:
    """Our logits where the answer enters in chunks, through a cache."""
    encoded = graph.encode(Batch.pack([PROMPT]), backend=backend)
    cache = graph.new_cache(1, len(ANSWER))
    parts, start = [], 0
    for length in lengths:
        chunk = ANSWER[start : start + length]
        batch = Batch.pack([chunk], past_lens=cache.lengths, max_len=cache.max_len)
        parts.append(graph.logits(graph.decode(batch, cache, encoded, backend=backend).hidden))
        start += length
    assert cache.lengths == [len(ANSWER)]
    return torch.cat(parts)


@torch.inference_mode()
def prefill(graph: EncoderDecoder, backend: str = "auto") -> Float[Tensor, "n vocab"]:
    """Our logits in one pass without a cache."""
    encoded = graph.encode(Batch.pack([PROMPT]), backend=backend)
    return graph.logits(graph.decode(Batch.pack([ANSWER]), None, encoded, backend=backend).hidden)


@torch.inference_mode()
def batched(
    graph: EncoderDecoder, prompts: Batch, answers: Sequence[Sequence[int]]
) -> Float[Tensor, "n vocab"]:
    """Our packed logits for several requests."""
    return graph.logits(graph.decode(Batch.pack(answers), None, graph.encode(prompts)).hidden)


PROMPTS, ANSWERS = [ids(n, n) for n in (33, 90, 1)], [[0, *ids(n, n)] for n in (20, 3, 40)]
BATCHES = {
    "packed": Batch.pack(PROMPTS),
    "padded-right": Batch.pad(PROMPTS, 0),
    "padded-left": Batch.pad(PROMPTS, 0, on_left=True),
}


@torch.inference_mode()
def single_runs(model: T5ForConditionalGeneration) -> Float[Tensor, "n vocab"]:
    """What transformers gives each of several requests alone, packed."""
    pairs = zip(PROMPTS, ANSWERS, strict=True)
    runs = [model(input_ids=torch.tensor([a]), decoder_input_ids=torch.tensor([b])) for a, b in pairs]
    return torch.cat([run.logits[0] for run in runs])


@torch.inference_mode()
def oracle_answers(model: T5ForConditionalGeneration, prompt: list[int]) -> tuple[list[int], float]:
    """The greedy answer of transformers, and by how much its tokens win at least."""
    got = model.generate(
        torch.tensor([prompt]),
        do_sample=False,
        max_new_tokens=NUM_TOKENS,
        output_scores=True,
        return_dict_in_generate=True,
    )
    best = torch.cat(got.scores).topk(2, dim=-1).values
    return got.sequences[0, 1:].tolist(), float((best[:, 0] - best[:, 1]).min())


def measure_generation(variant: Variant) -> float:
    """Largest error of prefill, decode and chunks for one variant; greedy answers must be the same."""
    with tempfile.TemporaryDirectory() as name:
        model, folder = build(variant), Path(name)
        save(model, folder)
        graph = loaded(folder)
        theirs = oracle_logits(model)
        answer, _ = oracle_answers(model, PROMPT)
        assert generate_seq2seq(graph, [PROMPT], start_id=0, max_new_tokens=NUM_TOKENS) == [answer]
        ours = [prefill(graph), chunked(graph, [1] * len(ANSWER)), chunked(graph, [1, 7, len(ANSWER) - 8])]
        alone = single_runs(model)
        together = [error(batched(graph, prompts, ANSWERS), alone) for prompts in BATCHES.values()]
        return max(*(error(one, theirs) for one in ours), *together)


def measure_encoder() -> float:
    """Error of the encoder alone."""
    whole = build(VARIANTS["v1.1"])
    config = T5Config.from_dict(whole.config.to_dict())
    config._attn_implementation = "eager"
    model = T5EncoderModel(config).eval()
    model.load_state_dict(whole.state_dict(), strict=False)
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        save(model, Path(name))
        assert json.loads((Path(name) / "config.json").read_text())["architectures"] == ["T5EncoderModel"]
        graph = load(name, dtype="float32").graph
        assert isinstance(graph, StackedEncoder)
        theirs = model(input_ids=torch.tensor([PROMPT])).last_hidden_state[0]
        return error(graph(Batch.pack([PROMPT])).hidden, theirs)


#: How far each architecture is from transformers, measured when called.
T5_CASES: dict[str, Callable[[], float]] = {
    "T5ForConditionalGeneration": lambda: max(map(measure_generation, VARIANTS.values())),
    "T5EncoderModel": measure_encoder,
}
