"""Build a tiny decoder that spells any text, requests and random schemas. Knows nothing of what must hold."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers

from cynosure.engine import Constraint, Finished, FinishReason, Request, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.grammar.cache import GrammarCache
from cynosure.engine.grammar.process import TokenizerDefinition
from cynosure.engine.settings import EngineSettings
from cynosure.models.decoder import Decoder
from cynosure.models.load import LanguageModel, load
from tests.engine.engine_cases import Ear
from tests.models.tiny_tokenizers import byte_level, write

EOS = 0
VOCAB = 325
PROMPT = (40, 41, 42, 43, 44)
WIDE = EngineSettings(
    kv_cache_bytes=1 << 20, block_size=16, max_num_seqs=40, max_num_batched_tokens=256, chunk_size=64
)


@lru_cache(maxsize=1)
def speller() -> LanguageModel:
    """A random-weight Llama over a byte-level tokenizer; `<|end|>` ends."""
    torch.manual_seed(5)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=1024, bos_token_id=None, eos_token_id=EOS,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        write(folder, byte_level())
        model = load(folder, dtype="float32")
        assert model.tokenizer is not None
        assert model.generation_defaults.eos_token_ids == (EOS,)
    return model


def new_core(settings: EngineSettings = WIDE) -> EngineCore:
    graph = speller().graph
    assert isinstance(graph, Decoder)
    return EngineCore(graph, (EOS,), settings, model_id="speller")


def definition(eos_token_ids: tuple[int, ...] = (EOS,)) -> TokenizerDefinition:
    return TokenizerDefinition(byte_level().to_str(), VOCAB, eos_token_ids)


def text_of(token_ids: list[int]) -> str:
    tokenizer = speller().tokenizer
    assert tokenizer is not None
    return tokenizer.decode(token_ids)


def request_of(
    name: str, constraint: Constraint | None, seed: int = 0, max_tokens: int = 400, **more: object
) -> Request:
    params = SamplingParams(max_tokens=max_tokens, seed=seed, constraint=constraint, logprobs=0)
    return Request(name, PROMPT, replace(params, **more))  # type: ignore[arg-type]


def add(core: EngineCore, cache: GrammarCache, request: Request, ear: Ear) -> None:
    constraint = request.params.constraint
    matcher = None if constraint is None else cache.request(constraint).result(60).matcher()
    core.add(request, ear, matcher)


def run(cache: GrammarCache, requests: Sequence[Request], core: EngineCore | None = None) -> Ear:
    core, ear = core or new_core(), Ear()
    for request in requests:
        add(core, cache, request, ear)
    drain(core)
    return ear


def drain(core: EngineCore, limit: int = 10_000) -> None:
    """Step until nothing is left; whether every page is accounted for is asked once, since that is slow."""
    for now in range(limit):
        if not core.has_work:
            core.check_integrity()
            return
        core.step(float(now))
    raise AssertionError(f"the engine still works after {limit} steps")


def answer(ear: Ear, name: str) -> tuple[str, FinishReason]:
    end = ear.end(name)
    assert isinstance(end, Finished), end
    return text_of(ear.tokens(name)), end.reason


def random_schema(dice: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema whose values are short, so that random text comes to an end."""
    kinds = ["integer", "string", "pattern", "boolean", "null", "enum", "const", "number"] * (depth < 3)
    kinds += ["object", "object", "array", "anyOf", "ref"] * (depth > 0)
    kind = dice.choice(kinds)
    match kind:
        case "integer":
            low = dice.randrange(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + dice.randrange(60)}
        case "number":
            return {"type": "number", "minimum": 0, "exclusiveMaximum": dice.randrange(1, 9)}
        case "string":
            shortest = dice.randrange(3)
            return {"type": "string", "minLength": shortest, "maxLength": shortest + dice.randrange(5)}
        case "pattern":
            return {"type": "string", "pattern": dice.choice(["^[a-z]{2,4}$", "^x(é|🙂)?$", r"^\d{3}-\d$"])}
        case "enum":
            return {"enum": dice.sample(["a", 'b"', 1, 2.5, None, True, "ü"], 3)}
        case "const":
            return {"const": dice.choice([{"k": [1, None]}, "é\n", -3])}
        case "object":
            names = dice.sample(["a", "name", "x y", "ü", '"q"'], dice.randrange(4))
            return {
                "type": "object",
                "properties": {name: random_schema(dice, depth - 1) for name in names},
                "required": [name for name in names if dice.random() < 0.6],
                "additionalProperties": False,
            }
        case "array":
            fewest = dice.randrange(3)
            return {
                "type": "array",
                "items": random_schema(dice, depth - 1),
                "minItems": fewest,
                "maxItems": fewest + dice.randrange(3),
            }
        case "anyOf":
            return {"anyOf": [random_schema(dice, depth - 1) for _ in range(2)]}
        case "ref" if depth == 3:
            return {"$defs": {"d": random_schema(dice, 1)}, "type": "array", "items": {"$ref": "#/$defs/d"},
                    "maxItems": 3}  # fmt: skip
    return {"type": kind} if kind in ("boolean", "null") else {"type": "null"}


def run_preempted(cache: GrammarCache, requests: Sequence[Request], max_steps: int = 3000) -> Ear:
    """Answer requests where there are nine pages for all, so that some must wait in their midst."""
    core = new_core(
        replace(WIDE, kv_cache_bytes=9 * (WIDE.kv_cache_bytes // new_core().tree.pool.num_blocks))
    )
    ear, num_preempted = Ear(), 0
    for request in requests:
        add(core, cache, request, ear)
    for now in range(max_steps):
        before = set(core._running)
        core.step(float(now))
        num_preempted += len(before & set(core._waiting))
        if not core.has_work:
            break
    assert num_preempted > 0, "nobody was preempted: the test shows nothing"
    return ear
