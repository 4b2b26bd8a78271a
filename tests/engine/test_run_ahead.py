"""Tokens that a step decodes ahead are those that single steps give, and end where these end."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cynosure.engine import Event, Failed, Finished, FinishReason, Request, SamplingParams, TokenEvent
from cynosure.engine.core import EngineCore
from cynosure.engine.settings import MAX_TOKENS_AHEAD, EngineSettings
from cynosure.engine.watch import AttendedTo
from cynosure.kernels import why_none
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.native import decode_step
from tests.engine.watch_cases import spec_of
from tests.models import decoder_oracle

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

SETTINGS = EngineSettings(
    kv_cache_bytes=1 << 20,
    block_size=8,
    max_num_seqs=4,
    max_num_batched_tokens=32,
    chunk_size=16,
    kernels="native",
)
PROMPT = tuple(range(3, 16))


def core_of(name: str = "llama", ahead: int = MAX_TOKENS_AHEAD, **fields: object) -> EngineCore:
    graph = load(decoder_oracle.pair_of(name).folder, dtype="float32").graph
    assert isinstance(graph, Decoder)
    core = EngineCore(graph, (), replace(SETTINGS, max_tokens_ahead=ahead, **fields), model_id="ahead")
    assert not core._runner.step_refusal
    # As if steps had been measured: whatever the machine does, they are short.
    core._pace.note_step = lambda num_prefilled, seconds: None  # type: ignore[method-assign]
    core._pace._step_s = 1e-4
    return core


def told(core: EngineCore, *requests: Request) -> list[list[int]]:
    """Return the tokens of each, when all have ended; pages must be accounted for at every step."""
    heard: list[list[Event]] = [[] for _ in requests]
    for request, events in zip(requests, heard, strict=True):
        core.add(request, events.append)
    while core.has_work:
        core.step(0.0)
        core.check_integrity()
    assert all(isinstance(events[-1], Finished) for events in heard)
    return [tokens_of(events) for events in heard]


def tokens_of(events: list[Event]) -> list[int]:
    return [event.token_id for event in events if isinstance(event, TokenEvent)]


def request(name: str, prompt: tuple[int, ...] = PROMPT, **params: object) -> Request:
    given = {"max_tokens": 21, "temperature": 0.0, "ignore_eos": True, **params}
    return Request(name, prompt, SamplingParams(**given))


def num_steps(core: EngineCore, *requests: Request) -> int:
    steps = 0
    for one in requests:
        core.add(one, lambda event: None)
    while core.has_work:
        core.step(0.0)
        steps += 1
    return steps


def test_there_is_room_for_all_rounds() -> None:
    assert decode_step.MAX_ROUNDS == 1 + MAX_TOKENS_AHEAD


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2"])
@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_tokens_are_those_of_single_steps(name: str, ahead: int) -> None:
    """Mistral has a window; gemma2 bends its logits, and decodes nothing ahead."""
    requests = [
        request("a"),
        request("b", PROMPT[::-1], max_tokens=5),
        request("c", PROMPT[:1], max_tokens=40),
    ]
    assert told(core_of(name, ahead), *requests) == told(core_of(name, 0), *requests)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_what_is_watched_is_what_single_steps_tell(name: str, every: int) -> None:
    """Also beside a request that nobody watches, and one whose answer ends within a round."""
    heads = [(0, 1), (1, 0), (1, 3)]
    folds = ((0.5, -1.0, 2.0),)
    watches = [replace(spec_of(len(PROMPT), heads, one), folds=folds) for one in (every, 1)]
    requests = [
        replace(request("a"), watch=watches[0]),
        request("b", PROMPT[::-1], max_tokens=9),
        replace(request("c", PROMPT[::-1], max_tokens=7), watch=watches[1]),
    ]
    by_steps, ahead = (seen(core_of(name, limit), *requests) for limit in (0, MAX_TOKENS_AHEAD))
    assert [len(one) for one in by_steps] == [21, 9, 7]
    assert [one is not None for one in by_steps[0]] == [at % every == 0 for at in range(21)]
    assert by_steps[1] == [None] * 9
    for alone, together in zip(by_steps, ahead, strict=True):
        for one, other in zip(alone, together, strict=True):
            assert (one is None) == (other is None)
            if one is not None and other is not None:
                assert other.masses == pytest.approx(one.masses, abs=1e-6)
                assert other.folds[0] == pytest.approx(one.folds[0], abs=1e-6)
                assert other.entropy_bits == pytest.approx(one.entropy_bits, abs=1e-5)
    # Nothing was decoded one by one for being watched.
    assert num_steps(core_of(name), replace(request("a"), watch=watches[0])) == 1 + 5


def seen(core: EngineCore, *requests: Request) -> list[list[AttendedTo | None]]:
    heard: list[list[Event]] = [[] for _ in requests]
    for one, events in zip(requests, heard, strict=True):
        core.add(one, events.append)
    while core.has_work:
        core.step(0.0)
        core.check_integrity()
    return [[event.attended for event in events if isinstance(event, TokenEvent)] for events in heard]


def test_steps_are_fewer() -> None:
    """The positive control: the first step reads the prompt and gives a token, then there are four a step."""
    assert num_steps(core_of(ahead=0), request("a")) == 21
    assert num_steps(core_of(), request("a")) == 1 + 5


@pytest.mark.parametrize(
    "params",
    [
        {"max_tokens": 1},
        {"max_tokens": 2},
        {"logprobs": 2},
        {"temperature": 0.8, "seed": 3},
        {"frequency_penalty": 0.7},
        {"logit_bias": ((7, 5.0),)},
        {"min_tokens": 4, "ignore_eos": False},
    ],
    ids=str,
)
def test_whatever_is_asked_for_gets_what_it_gets_alone(params: dict[str, object]) -> None:
    asked = request("a", **params)
    assert told(core_of(), asked) == told(core_of(ahead=0), asked)
    both = [asked, request("b", PROMPT[2:])]
    assert told(core_of(), *both) == told(core_of(ahead=0), *both)


@pytest.mark.parametrize("place", [1, 2, 3, 4, 5])
def test_an_answer_ends_in_the_middle_of_a_round(place: int) -> None:
    (plain,) = told(core_of(ahead=0), request("a"))
    first = next(i for i, token in enumerate(plain) if i >= place and token not in plain[:i])
    core, events = core_of(), list[Event]()
    core.add(request("a", stop_token_ids=frozenset({plain[first]})), events.append)
    while core.has_work:
        core.step(0.0)
        core.check_integrity()
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    assert tokens_of(events) == plain[: first + 1]
    assert core.snapshot.num_free_blocks + core.snapshot.num_cached_blocks == core.snapshot.num_blocks


def test_what_was_not_chosen_is_in_no_page_that_others_find() -> None:
    """A known beginning holds what was told, so that a second request goes on alike."""
    core = core_of()
    (first,) = told(core, request("a", max_tokens=19))
    again = (*PROMPT, *first)
    assert told(core, request("b", again)) == told(core_of(ahead=0), request("b", again))


def test_long_steps_and_waiting_requests_keep_it_off() -> None:
    core = core_of()
    core._pace._step_s = 0.02
    assert num_steps(core, request("a")) == 21
    crowd = [request(str(number), PROMPT[number:], max_tokens=9) for number in range(6)]
    assert told(core_of(), *crowd) == told(core_of(ahead=0), *crowd)


def test_logits_that_are_no_numbers_end_their_request_alone() -> None:
    core = core_of()
    heard: tuple[list[Event], list[Event]] = [], []
    core.add(request("a"), heard[0].append)
    core.add(request("b", PROMPT[3:]), heard[1].append)
    core.step(0.0)
    page = core._running["a"].pages.blocks[0]
    for layer in range(len(core._runner.graph.layers)):
        core.cache.pages(layer)[1][page] = torch.nan
    while core.has_work:
        core.step(0.0)
    assert isinstance(heard[0][-1], Failed)
    assert isinstance(heard[1][-1], Finished)
