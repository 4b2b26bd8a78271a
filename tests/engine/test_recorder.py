"""A report says what a sequence waited for, found and computed, whichever way it ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cynosure.cache import Match, MatchEnd
from cynosure.engine import Cancelled, Failed, Finished, Request, SamplingParams
from cynosure.engine.constraints import choice
from cynosure.engine.core import EngineCore
from cynosure.engine.recorder import MAX_CHUNKS, Recorder
from cynosure.engine.report import RequestReport
from cynosure.models.load import LanguageModel
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models.decoder_oracle import pair_of


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def recorder(clock: Clock, arrival_s: float = 100.0, constrained: bool = False) -> Recorder:
    params = SamplingParams(max_tokens=4, constraint=choice(["a"]) if constrained else None)
    return Recorder(Request("r", (1, 2, 3), params, arrival_s=arrival_s), clock)


def test_each_part_has_its_time() -> None:
    clock = Clock()
    notes = recorder(clock, arrival_s=99.5, constrained=True)
    clock.now = 101.0
    notes.sought(Match((7, 8), 64, MatchEnd.EVICTED), "off", 129, 32)
    notes.admitted()
    notes.computed(65, is_decode=False)
    clock.now = 103.0
    notes.constrained(1)
    notes.chose()
    notes.computed(1, is_decode=True)
    clock.now = 103.5
    notes.constrained(5)
    notes.chose()
    clock.now = 999.0
    assert notes.report() == RequestReport(
        constraint_s=0.5,
        queue_s=1.0,
        prefill_s=2.0,
        decode_s=0.5,
        chunks=(65,),
        num_decode_steps=1,
        page_size=32,
        num_pages_sought=4,
        num_pages_found=2,
        page_end="evicted",
        num_constrained=2,
        num_forced=1,
    )


def test_what_never_began_has_only_waited() -> None:
    clock = Clock()
    notes = recorder(clock, arrival_s=50.0)
    clock.now = 103.0
    assert notes.report() == RequestReport(queue_s=3.0)


def test_a_last_chunk_of_one_token_is_no_decode() -> None:
    notes = recorder(Clock())
    notes.computed(1, is_decode=True)
    assert (notes.report().chunks, notes.report().num_decode_steps) == ((1,), 0)


def test_after_a_preemption_the_first_look_counts() -> None:
    notes = recorder(Clock())
    notes.sought(Match((), 0, MatchEnd.NEW_TOKENS), "off", 65, 32)
    notes.admitted()
    notes.sought(Match((1, 2), 64, MatchEnd.PROMPT_END), "off", 65, 32)
    report = notes.report()
    assert (report.num_pages_found, report.page_end) == (0, "new_tokens")


def test_chunks_are_bounded_and_none_is_lost() -> None:
    notes = recorder(Clock())
    for _ in range(MAX_CHUNKS + 10):
        notes.computed(2, is_decode=False)
    chunks = notes.report().chunks
    assert len(chunks) == MAX_CHUNKS
    assert sum(chunks) == 2 * (MAX_CHUNKS + 10)


@pytest.mark.parametrize("event", [Finished, Failed, Cancelled])
def test_a_report_makes_no_two_events_differ(event: type) -> None:
    values = {Finished: ("r", None, None), Failed: ("r", None), Cancelled: ("r", None)}[event]
    assert event(*values, report=RequestReport(queue_s=1.0)) == event(*values)


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return pair_of("llama").model


PROMPT = [(7 * at) % 89 + 1 for at in range(30)]


def reports(core: EngineCore, *requests: Request) -> list[RequestReport]:
    """What is told of requests that run one after the other."""
    ear = Ear()
    for request in requests:
        core.add(request, ear)
        run_to_end(core)
    found = [ear.end(request.request_id).report for request in requests]  # type: ignore[union-attr]
    return [report for report in found if report is not None]


def test_the_engine_tells_which_pages_hit_and_why_the_others_did_not(llama: LanguageModel) -> None:
    """30 tokens in pages of 8: three full pages stand before the last token."""
    changed = [*PROMPT[:20], 1, *PROMPT[21:]]
    scored = SamplingParams(max_tokens=2, temperature=0.0, prompt_logprobs=0)
    told = reports(
        new_core(llama),
        ask("first", PROMPT, tenant="a"),
        ask("again", PROMPT, tenant="a"),
        ask("changed", changed, tenant="a"),
        ask("other", PROMPT, tenant="b"),
        ask("exact", PROMPT, tenant="a", is_reproducible=True),
        ask("scored", PROMPT, params=scored, tenant="a"),
    )
    found = [(report.num_pages_sought, report.num_pages_found, report.page_end) for report in told]
    assert found == [
        (3, 0, "new_key"),
        (3, 3, "prompt_end"),
        (3, 2, "new_tokens"),
        (3, 0, "new_key"),
        (0, 0, "reproducible"),
        (0, 0, "prompt_logprobs"),
    ]
    without = reports(new_core(llama, replace(SMALL, has_prefix_cache=False)), ask("off", PROMPT))
    assert [report.page_end for report in without] == ["off"]


def test_a_page_that_gave_way_is_told_so(llama: LanguageModel) -> None:
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    core = new_core(llama, replace(SMALL, kv_cache_bytes=bytes_per_page * 6))
    told = reports(core, ask("first", PROMPT), ask("other", [1] * 30), ask("again", PROMPT))
    assert told[-1].page_end == "evicted"


def test_chunks_and_steps_add_up(llama: LanguageModel) -> None:
    (told,) = reports(new_core(llama), ask("r", PROMPT, 5))
    assert told.chunks == (16, 14)
    assert told.num_decode_steps == 4
    assert told.prefill_s > 0
    assert told.decode_s > 0


def test_preemptions_are_counted(llama: LanguageModel) -> None:
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    core, ear = new_core(llama, replace(SMALL, kv_cache_bytes=bytes_per_page * 9)), Ear()
    for at in range(4):
        core.add(ask(f"r{at}", PROMPT[at : at + 10], 20), ear)
    run_to_end(core)
    told = [ear.end(f"r{at}").report for at in range(4)]  # type: ignore[union-attr]
    assert sum(report.num_preemptions for report in told if report is not None) > 0


def test_a_request_that_is_cancelled_or_refused_is_told_of_too(llama: LanguageModel) -> None:
    core, ear = new_core(llama), Ear()
    core.add(ask("gone", PROMPT), ear)
    core.step(0.0)
    core.cancel("gone")
    gone = ear.end("gone")
    assert isinstance(gone, Cancelled)
    assert gone.report is not None
    assert gone.report.chunks == (16,)
    bytes_per_page = SMALL.kv_cache_bytes // core.tree.pool.num_blocks
    (large,) = reports(
        new_core(llama, replace(SMALL, kv_cache_bytes=bytes_per_page * 3)), ask("large", [5] * 40)
    )
    assert large.page_end == "not_admitted"
