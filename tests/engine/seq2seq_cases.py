"""Build tiny T5 engines, and what transformers answers. Knows nothing of what must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers import T5ForConditionalGeneration

from cynosure.engine import Request, SamplingParams
from cynosure.engine.answer_rules import AnswerRules
from cynosure.engine.beam_params import BeamParams, EarlyStopping
from cynosure.engine.seq2seq.core import Seq2SeqCore
from cynosure.engine.settings import EngineSettings
from cynosure.models.encoder_decoder import EncoderDecoder
from tests.models import t5_oracle

SMALL = EngineSettings(
    kv_cache_bytes=1 << 20, block_size=8, max_num_seqs=8, max_num_batched_tokens=64, chunk_size=48
)
EARLY = {EarlyStopping.FULL: True, EarlyStopping.HEURISTIC: False, EarlyStopping.NEVER: "never"}


@dataclass(frozen=True, eq=False)
class Pair:
    """The oracle, and our graph of the same files."""

    oracle: T5ForConditionalGeneration
    graph: EncoderDecoder


@cache
def pair_of(variant: str = "v1.1") -> Pair:
    oracle, folder = t5_oracle.build(t5_oracle.VARIANTS[variant]), Path(mkdtemp(prefix="t5-"))
    t5_oracle.save(oracle, folder)
    return Pair(oracle, t5_oracle.loaded(folder))


def new_core(
    graph: EncoderDecoder, settings: EngineSettings = SMALL, eos_token_ids: Sequence[int] = ()
) -> Seq2SeqCore:
    return Seq2SeqCore(graph, eos_token_ids, settings, rules=AnswerRules(0), model_id="tiny")


def ask(
    request_id: str,
    prompt: Sequence[int],
    max_tokens: int = 8,
    tenant: str = "",
    is_reproducible: bool = False,
    **sampling: object,
) -> Request:
    """A greedy request, save for what `sampling` says."""
    fields = {"max_tokens": max_tokens, "temperature": 0.0, "logprobs": 0, **sampling}
    params = SamplingParams(**fields)  # type: ignore[arg-type]
    return Request(request_id, tuple(prompt), params, tenant, is_reproducible=is_reproducible)


def searched(
    oracle: T5ForConditionalGeneration,
    prompt: Sequence[int],
    beams: BeamParams,
    max_tokens: int,
    eos_token_id: int | None,
    **options: object,
) -> list[int]:
    """The tokens that transformers' beam search gives."""
    with torch.inference_mode():
        found = oracle.generate(
            torch.tensor([list(prompt)]),
            do_sample=False,
            num_beams=beams.num_beams,
            length_penalty=beams.length_penalty,
            early_stopping=EARLY[beams.early_stopping],
            max_new_tokens=max_tokens,
            eos_token_id=eos_token_id,
            pad_token_id=0,
            **options,
        )
    return found[0, 1:].tolist()
