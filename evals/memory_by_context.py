"""Measure the memory that a sequence's keys, values and states take as its context grows. Times nothing.

    python evals/memory_by_context.py [--write]

One sequence at a time runs through an engine, with a prompt of N, 2N or 4N tokens. After every step the
pages and states that it holds are counted in the pools; the most that it ever held is told, in bytes of the
tensors that they lie in. The models are tiny and random; their layers and heads are alike, so that policies
compare.

Positive control: layers that keep everything hold nearly four times as much at 4N.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import transformers

from cynosure.engine import Request, SamplingParams
from cynosure.engine.answer_rules import AnswerRules
from cynosure.engine.core import EngineCore
from cynosure.engine.seq2seq.core import Seq2SeqCore
from cynosure.engine.settings import EngineSettings
from cynosure.evaluate.results import write_result
from cynosure.models.decoder import Decoder
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.load import load

COMMAND = "python evals/memory_by_context.py --write"
FIRST_LENGTH = 512
WINDOW, CHUNK, BLOCK_SIZE = 128, 128, 32
ANSWER_LENGTH = 8
VOCAB = 256
SETTINGS = EngineSettings(
    kv_cache_bytes=32 << 20,
    block_size=BLOCK_SIZE,
    max_num_seqs=1,
    max_num_batched_tokens=CHUNK,
    chunk_size=CHUNK,
    kernels="torch",
)

_DECODER: Mapping[str, object] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 8192,
    "sliding_window": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GEMMA: Mapping[str, object] = {"sliding_window": WINDOW, "query_pre_attn_scalar": 16}
_LATENT: Mapping[str, object] = {
    "num_key_value_heads": 4,
    "head_dim": 8,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "first_k_dense_replace": 6,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "num_experts_per_tok": 2,
}
_MAMBA2: Mapping[str, object] = {"num_heads": 8, "state_size": 16, "n_groups": 1}
_BAMBA: Mapping[str, object] = {
    "attn_layer_indices": [3],
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 16,
}
_T5: Mapping[str, object] = {
    "vocab_size": VOCAB,
    "d_model": 64,
    "d_ff": 64,
    "d_kv": 16,
    "num_heads": 2,
    "num_layers": 6,
    "num_decoder_layers": 6,
    "decoder_start_token_id": 0,
}


@dataclass(frozen=True)
class Policy:
    """A model, and what its keys and values are kept in."""

    architecture: str
    config: Mapping[str, object] = field(default_factory=dict)
    kv_cache_dtype: str = "auto"


POLICIES: Mapping[str, Policy] = {
    "full": Policy("LlamaForCausalLM", _DECODER),
    "full_int8": Policy("LlamaForCausalLM", _DECODER, "int8"),
    "mix": Policy("Gemma2ForCausalLM", {**_DECODER, **_GEMMA}),
    "mix_int8": Policy("Gemma2ForCausalLM", {**_DECODER, **_GEMMA}, "int8"),
    "window": Policy("MistralForCausalLM", {**_DECODER, "sliding_window": WINDOW}),
    "latent": Policy("DeepseekV3ForCausalLM", {**_DECODER, **_LATENT}),
    "hybrid": Policy("BambaForCausalLM", {**_DECODER, **_BAMBA}),
    "state": Policy("Mamba2ForCausalLM", {**_DECODER, **_MAMBA2}),
    "cross": Policy("T5ForConditionalGeneration", _T5),
}


def graph_of(policy: Policy) -> Decoder | EncoderDecoder:
    """A random model, by way of a checkpoint on disk."""
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model_class = getattr(transformers, policy.architecture)
    names = model_class.config_class().to_dict().keys() | {"sliding_window"}
    settings = {name: value for name, value in policy.config.items() if name in names}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model_class(model_class.config_class(**settings)).save_pretrained(folder)
        graph = load(Path(folder), dtype="float32").graph
    assert isinstance(graph, Decoder | EncoderDecoder)
    return graph


def held_bytes(core: EngineCore | Seq2SeqCore) -> int:
    """What sequences hold now: pages that nobody else can have, at what they take in their tensors."""
    now = core.snapshot
    blocks = now.num_blocks - now.num_free_blocks - now.num_cached_blocks
    windows = enumerate(core.cache.windows, start=1)
    pages = blocks * core.cache.page_bytes() + sum(
        window.num_claimed * core.cache.page_bytes(group) for group, window in windows
    )
    states, slots = core.cache.states, core.tree.pool.states if isinstance(core, EngineCore) else None
    if states is None or slots is None:
        return pages
    return pages + (slots.num_running - slots.num_free) * states.slot_bytes


def most_held(graph: Decoder | EncoderDecoder, policy: Policy, num_tokens: int) -> int:
    """The most bytes that one sequence with such a prompt ever holds."""
    settings = replace(SETTINGS, kv_cache_dtype=policy.kv_cache_dtype)
    core: EngineCore | Seq2SeqCore
    if isinstance(graph, Decoder):
        core = EngineCore(graph, (), settings, model_id="tiny")
    else:
        # An input is encoded whole.
        settings = replace(settings, max_num_batched_tokens=num_tokens, chunk_size=num_tokens)
        core = Seq2SeqCore(graph, (), settings, rules=AnswerRules(0), model_id="tiny")
    dice = random.Random(num_tokens)
    prompt = tuple(dice.randrange(1, VOCAB) for _ in range(num_tokens))
    ends: list[str] = []
    params = SamplingParams(max_tokens=ANSWER_LENGTH, temperature=0.0, ignore_eos=True)
    core.add(Request("r", prompt, params), lambda event: ends.append(type(event).__name__))
    most = 0
    while core.has_work:
        core.step(0.0)
        most = max(most, held_bytes(core))
    assert ends[-1] == "Finished", ends
    assert held_bytes(core) == 0, "pages did not return"
    return most


def measure(first: int = FIRST_LENGTH, names: Sequence[str] = tuple(POLICIES)) -> dict[str, dict[str, int]]:
    """Bytes by policy, at one, two and four times the first length."""
    found = {}
    for name in names:
        graph = graph_of(POLICIES[name])
        found[name] = {f"n{factor}": most_held(graph, POLICIES[name], factor * first) for factor in (1, 2, 4)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/memory_by_context.json")
    arguments = parser.parse_args()
    found = measure()
    print(f"KiB of a sequence   {FIRST_LENGTH:>8} {2 * FIRST_LENGTH:>8} {4 * FIRST_LENGTH:>8} tokens")
    for name, sizes in found.items():
        print(f"{name:18}" + "".join(f"{size / 1024:9.0f}" for size in sizes.values()))
    full = found["full"]
    # A page more than the prompt fills is taken for the answer.
    assert full["n4"] > 3.8 * full["n1"], "the positive control does not grow"
    if arguments.write:
        growth = {name: round(sizes["n4"] / sizes["n1"], 2) for name, sizes in found.items()}
        settings = {"first_length": FIRST_LENGTH, "window": WINDOW, "chunk": CHUNK, "block_size": BLOCK_SIZE}
        write_result("memory_by_context", {**settings, "bytes": found, "growth": growth}, COMMAND)
    return 0


if __name__ == "__main__":
    sys.exit(main())
