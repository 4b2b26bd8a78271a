"""Watch what is served: the shares are those of a dense map, and asking for them changes nothing."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from cynosure.core.errors import InputError
from cynosure.engine import Finished, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import EngineSettings
from cynosure.engine.watch import DENIED, MAX_HEADS, MAX_SEGMENTS, AttendedTo, WatchSpec
from cynosure.kernels import why_none
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from tests.engine.engine_cases import SMALL, Ear, ask, run_to_end
from tests.engine.watch_cases import largest_error, spec_of
from tests.models import decoder_oracle, moe_oracle
from tests.models.decoder_oracle import Pair

KERNELS = [
    "torch",
    pytest.param("native", marks=pytest.mark.skipif(bool(why_none()), reason=why_none() or "they are here")),
]
#: GQA; windows and a softcap; ALiBi; sinks beside windows; latent rows.
FAMILIES = ("llama", "gemma2", "bloom", "gpt-oss", "deepseek-yarn")


def pair_of(name: str) -> Pair:
    return (moe_oracle if name in moe_oracle.CASES else decoder_oracle).pair_of(name)


def core_of(name: str, kernels: str, settings: EngineSettings = SMALL) -> EngineCore:
    # An engine on native kernels replaces the layers of its graph.
    graph = load(pair_of(name).folder, dtype="float32").graph if kernels == "native" else pair_of(name).graph
    assert isinstance(graph, Decoder)
    return EngineCore(graph, (), replace(settings, kernels=kernels), model_id="tiny")


def prompt_of(length: int, seed: int = 1) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 90) for _ in range(length)]


def heads_of(core: EngineCore) -> list[tuple[int, int]]:
    """Every second head of all layers."""
    counts = core._runner.graph.spec.num_heads
    return [(layer, head) for layer, count in enumerate(counts) for head in range(layer % 2, count, 2)]


def attended(ear: Ear, request_id: str) -> list[AttendedTo | None]:
    return [event.attended for event in ear.events[request_id] if isinstance(event, TokenEvent)]


def all_attended(ear: Ear, request_id: str) -> list[AttendedTo]:
    found = attended(ear, request_id)
    assert None not in found, "a token was not watched"
    return [one for one in found if one is not None]


def error_of(ear: Ear, name: str, request: Request) -> float:
    return largest_error(pair_of(name), request, ear.events[request.request_id])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", FAMILIES)
def test_shares_are_those_of_a_dense_map(name: str, kernels: str) -> None:
    """In chunks, beside others that are watched otherwise or not at all."""
    core, ear = core_of(name, kernels), Ear()
    heads = heads_of(core)
    requests = [
        ask("a", prompt_of(30), watch=spec_of(30, heads)),
        ask("b", prompt_of(9, 2), watch=spec_of(9, heads[:1])),
        ask("c", prompt_of(17, 3)),
        ask("d", prompt_of(4, 4), watch=spec_of(4, heads[-3:])),
    ]
    for request in requests:
        core.add(request, ear)
    run_to_end(core)
    assert not any(attended(ear, "c"))
    for request in requests:
        if request.watch is not None:
            assert error_of(ear, name, request) < 1e-5


@pytest.mark.parametrize("kernels", KERNELS)
def test_folds_add_up_single_heads(kernels: str) -> None:
    """Beside a request that watches other heads: a fold is the heads' own shares under its weights."""
    core, ear = core_of("llama", kernels), Ear()
    heads = heads_of(core)
    folds = (tuple(1.0 / len(heads) for _ in heads), tuple(place - 1.5 for place, _ in enumerate(heads)))
    prompt = prompt_of(17)
    spec = spec_of(17, heads)
    core.add(ask("folded", prompt, watch=replace(spec, folds=folds)), ear)
    core.add(ask("other", prompt_of(9, 2), watch=spec_of(9, heads[1:2])), ear)
    for head in heads:
        core.add(ask(f"{head}", prompt, watch=spec_of(17, [head])), ear)
    run_to_end(core)
    alone = [all_attended(ear, f"{head}") for head in heads]
    for place, told in enumerate(all_attended(ear, "folded")):
        shares = np.array([one[place].masses for one in alone])
        np.testing.assert_allclose(told.folds, np.array(folds) @ shares, atol=1e-5)
        np.testing.assert_allclose(told.folds[0], told.masses, atol=1e-5)
    assert all(one.folds == () for one in all_attended(ear, "other"))


@pytest.mark.parametrize("length", [SMALL.block_size - 1, SMALL.block_size, SMALL.block_size + 1, 16, 17])
def test_at_the_edges_of_pages_and_chunks(length: int) -> None:
    core, ear = core_of("llama", "torch"), Ear()
    request = ask("a", prompt_of(length), watch=spec_of(length, heads_of(core)))
    core.add(request, ear)
    run_to_end(core)
    assert error_of(ear, "llama", request) < 1e-5


@pytest.mark.parametrize("kernels", KERNELS)
def test_a_wrong_segment_is_seen(kernels: str) -> None:
    """The positive control of the comparisons: segments that are one token off."""
    core, ear = core_of("llama", kernels), Ear()
    request = ask("a", prompt_of(30), watch=spec_of(30, heads_of(core)))
    core.add(request, ear)
    run_to_end(core)
    assert request.watch is not None
    runs = ((0, 0, 1), (1, 1, 16), (2, 16, 29), (0, 29, 30))
    other = replace(request, watch=replace(request.watch, runs=runs))
    assert request.watch.runs[1] == (1, 1, 15)
    assert error_of(ear, "llama", other) > 1e-2


@pytest.mark.parametrize("kernels", KERNELS)
def test_what_is_found_in_pages_is_watched(kernels: str) -> None:
    core, ear = core_of("gemma2", kernels), Ear()
    request = ask("a", prompt_of(30), watch=spec_of(30, heads_of(core)))
    core.add(ask("first", request.token_ids), ear)
    run_to_end(core)
    core.add(request, ear)
    run_to_end(core)
    end = ear.end("a")
    assert isinstance(end, Finished)
    assert end.usage.cached_tokens >= 24
    assert error_of(ear, "gemma2", request) < 1e-5


def test_through_preemption() -> None:
    core = core_of("llama", "torch")
    bytes_per_page = SMALL.kv_cache_bytes // core.tree.pool.num_blocks
    core, ear = core_of("llama", "torch", replace(SMALL, kv_cache_bytes=bytes_per_page * 9)), Ear()
    requests = [ask(f"r{n}", prompt_of(9 + n, n), 20, watch=spec_of(9 + n, heads_of(core))) for n in range(4)]
    for request in requests:
        core.add(request, ear)
    run_to_end(core)
    reports = [ear.end(request.request_id).report for request in requests]
    assert sum(report.num_preemptions for report in reports if report is not None) > 0
    for request in requests:
        assert error_of(ear, "llama", request) < 1e-5


@pytest.mark.parametrize("kernels", KERNELS)
def test_through_guesses(kernels: str) -> None:
    """Several tokens come of one pass, each with what its own query attended to."""
    core = core_of("llama", kernels, replace(SMALL, num_speculative_tokens=4))
    ear = Ear()
    # What is repeated is guessed; the bias has the model follow.
    prompt = [5, 6, 7, 8] * 5
    params = SamplingParams(max_tokens=12, temperature=0.0, logprobs=0, logit_bias=((5, 60.0),))
    request = ask("a", prompt, params=params, watch=spec_of(20, heads_of(core)))
    core.add(request, ear)
    run_to_end(core)
    report = ear.end("a").report
    assert report is not None
    assert report.num_accepted > 2
    assert error_of(ear, "llama", request) < 1e-5


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_watching_changes_no_bit(name: str, kernels: str) -> None:
    def run(watched: Sequence[str]) -> list[tuple[list[int], list[float]]]:
        core, ear = core_of(name, kernels), Ear()
        params = SamplingParams(max_tokens=10, temperature=0.9, seed=3, logprobs=0)
        for place, request_id in enumerate("abc"):
            length = 30 - 7 * place
            watch = spec_of(length, heads_of(core)) if request_id in watched else None
            core.add(ask(request_id, prompt_of(length, place), params=params, watch=watch), ear)
        run_to_end(core)
        return [(ear.tokens(request_id), ear.logprobs(request_id)) for request_id in "abc"]

    plain = run("")
    assert run("abc") == plain
    assert run("b") == plain


@pytest.mark.skipif(bool(why_none()), reason=why_none() or "they are here")
@pytest.mark.parametrize("kv_cache_dtype", ["auto", "int8"])
def test_watching_changes_no_bit_as_models_are_served(kv_cache_dtype: str) -> None:
    """In bfloat16, over pages of codes too, with and without company, in steps of one token and in passes."""

    def run(watched: Sequence[str], num_guesses: int) -> list[tuple[list[int], list[float]]]:
        graph = load(pair_of("llama").folder, dtype="bfloat16").graph
        assert isinstance(graph, Decoder)
        settings = replace(
            SMALL, kernels="native", kv_cache_dtype=kv_cache_dtype, num_speculative_tokens=num_guesses
        )
        core, ear = EngineCore(graph, (), settings, model_id="tiny"), Ear()
        assert not core._runner.refusal, "passes are one program"
        for place, request_id in enumerate("abc"):
            watch = spec_of(40 - place, heads_of(core)) if request_id in watched else None
            core.add(ask(request_id, [5, 6, 7, 8] * 9 + prompt_of(4 - place), 12, watch=watch), ear)
        run_to_end(core)
        for request_id in watched:
            masses = [sum(one.masses) + one.sink for one in all_attended(ear, request_id)]
            assert masses == pytest.approx([1.0] * 12, abs=1e-5)
        return [(ear.tokens(request_id), ear.logprobs(request_id)) for request_id in "abc"]

    for num_guesses in (0, 4):
        plain = run("", num_guesses)
        assert run("abc", num_guesses) == plain
        assert run("b", num_guesses) == plain


def test_entropy_is_that_of_the_map() -> None:
    """One head, whose map is written out."""
    core, ear = core_of("llama", "torch"), Ear()
    prompt = prompt_of(12)
    core.add(ask("a", prompt, 1, watch=spec_of(12, [(1, 2)])), ear)
    run_to_end(core)
    from_map = dense_map_entropy(prompt)
    assert all_attended(ear, "a")[0].entropy_bits == pytest.approx(from_map, abs=1e-4)


def dense_map_entropy(prompt: Sequence[int]) -> float:
    with torch.inference_mode():
        out = pair_of("llama").oracle(torch.tensor([list(prompt)]), output_attentions=True)
    row = out.attentions[1][0, 2, -1].double()
    return float(-(row * row.clamp(min=1e-300).log2()).sum())


def test_one_token_of_so_many_is_watched() -> None:
    core, ear = core_of("llama", "torch"), Ear()
    core.add(ask("a", prompt_of(12), 7, watch=spec_of(12, [(0, 0)], every=3)), ear)
    run_to_end(core)
    assert [one is not None for one in attended(ear, "a")] == [True, False, False] * 2 + [True]


@pytest.mark.parametrize(
    ("heads", "runs", "every", "words"),
    [
        ((), ((0, 0, 1),), 1, "0 heads"),
        (tuple((0, head) for head in range(MAX_HEADS + 1)), ((0, 0, 1),), 1, "1025 heads"),
        (((1, 0), (0, 0)), ((0, 0, 1),), 1, "sorted"),
        (((0, 0),), ((0, 0, 1),), 0, "every is 0"),
        (((0, 0),), (), 1, "follow each other"),
        (((0, 0),), ((0, 0, 1), (1, 2, 3)), 1, "follow each other"),
        (((0, 0),), ((0, 0, 0),), 1, "empty"),
        (((0, 0),), ((2, 0, 1),), 1, "none of 0..1"),
    ],
)
def test_what_can_not_be_watched(
    heads: tuple[tuple[int, int], ...], runs: tuple[tuple[int, int, int], ...], every: int, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        WatchSpec(heads, runs, 2, every)


def test_too_many_segments() -> None:
    with pytest.raises(InputError, match="512 segments"):
        WatchSpec(((0, 0),), ((0, 0, 1),), MAX_SEGMENTS)


@pytest.mark.parametrize("head", [(0, 99), (99, 0)])
def test_heads_that_a_model_lacks(head: tuple[int, int]) -> None:
    core = core_of("llama", "torch")
    with pytest.raises(InputError, match="Count from 0"):
        core.check(ask("a", prompt_of(5), watch=spec_of(5, [head])))


def test_segments_end_where_the_prompt_does() -> None:
    with pytest.raises(InputError, match="its segments end at 5"):
        ask("a", prompt_of(6), watch=spec_of(5, [(0, 0)]))


@pytest.mark.parametrize(
    ("bias", "words"),
    [
        (((2, 2, 1.0),), "2..2 of 6"),
        (((2, 4, 1.0), (3, 5, 1.0)), "overlap"),
        (((2, 7, 1.0),), "2..7 of 6"),
        (((2, 3, 11.0),), "the limit is 10"),
        (((2, 3, math.nan),), "adds nan"),
        (((2, 6, DENIED),), "last token is denied"),
    ],
)
def test_biases_that_do_not_fit(bias: tuple[tuple[int, int, float], ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ask("a", prompt_of(6), bias=bias)
