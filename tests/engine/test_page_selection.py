"""Select pages in an engine: all of them change no bit, few are reported, and nobody else notices."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from cynosure.attention import page_choice
from cynosure.core.errors import InputError
from cynosure.engine import Finished
from cynosure.engine.core import EngineCore
from cynosure.engine.page_selection import MIN_PAGES, PageSelection
from cynosure.engine.report import RequestReport
from cynosure.engine.settings import EngineSettings
from cynosure.engine.watch import WatchSpec
from cynosure.kernels import why_none
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from tests.engine.engine_cases import SMALL, Ear, ask, run_to_end
from tests.models.decoder_oracle import pair_of

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none())

BOUNDED = replace(SMALL, kernels="native", has_page_bounds=True)
FEW = PageSelection(MIN_PAGES, 3)


def core_of(name: str = "llama", settings: EngineSettings = BOUNDED) -> EngineCore:
    graph = load(pair_of(name).folder, dtype="float32").graph
    assert isinstance(graph, Decoder)
    return EngineCore(graph, (), settings, model_id="tiny")


def prompt_of(length: int, seed: int = 1) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 90) for _ in range(length)]


def report_of(ear: Ear, request_id: str) -> RequestReport:
    end = ear.end(request_id)
    assert isinstance(end, Finished)
    assert end.report is not None
    return end.report


def test_the_engine_and_the_kernels_agree_on_the_fewest_pages() -> None:
    assert MIN_PAGES == page_choice.MIN_PAGES


@pytest.mark.parametrize("dtype", ["auto", "int8"])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_as_many_pages_as_there_are_change_nothing(name: str, dtype: str) -> None:
    ear, core = Ear(), core_of(name, replace(BOUNDED, kv_cache_dtype=dtype, has_prefix_cache=False))
    assert not core._runner.choice_refusal
    for length in (1, 63, 64, 65):
        core.add(ask(f"all{length}", prompt_of(length), 16, page_selection=PageSelection(50, 3)), ear)
        run_to_end(core)
        core.add(ask(f"plain{length}", prompt_of(length), 16), ear)
        run_to_end(core)
        assert ear.tokens(f"all{length}") == ear.tokens(f"plain{length}")
        assert ear.logprobs(f"all{length}") == ear.logprobs(f"plain{length}")
        report = report_of(ear, f"all{length}")
        assert report.num_page_choices == 15
        assert (report.num_page_checks, report.recalled) == (5, 1.0)


def test_few_pages_are_reported_and_change_what_is_attended_to() -> None:
    core, ear = core_of(), Ear()
    core.add(ask("few", prompt_of(100), 30, page_selection=PageSelection(MIN_PAGES, 5)), ear)
    core.add(ask("plain", prompt_of(100), 30), ear)
    run_to_end(core)
    report = report_of(ear, "few")
    assert (report.num_page_choices, report.num_page_checks) == (29, 5)
    assert report.recalled is not None
    assert report.least_recalled is not None
    assert 0.0 < report.least_recalled < report.recalled < 0.999
    assert ear.logprobs("few") != ear.logprobs("plain")
    assert report_of(ear, "plain").num_page_choices == 0


def test_every_step_checked_is_every_step_exact() -> None:
    core, ear = core_of(), Ear()
    core.add(ask("checked", prompt_of(100), 20, page_selection=PageSelection(MIN_PAGES, 1)), ear)
    core.add(ask("plain", prompt_of(100), 20), ear)
    run_to_end(core)
    assert ear.logprobs("checked") == ear.logprobs("plain")
    assert report_of(ear, "checked").num_page_checks == 19


def test_a_neighbour_that_selects_changes_nobody() -> None:
    alone, ear = core_of(), Ear()
    alone.add(ask("alone", prompt_of(60, 2), 20), ear)
    alone.add(ask("other", prompt_of(90, 3), 20), ear)
    run_to_end(alone)
    beside = core_of()
    beside.add(ask("beside", prompt_of(60, 2), 20), ear)
    beside.add(ask("few", prompt_of(90, 3), 20, page_selection=FEW), ear)
    run_to_end(beside)
    assert ear.logprobs("beside") == ear.logprobs("alone")
    assert ear.logprobs("few") != ear.logprobs("other")


def test_pages_of_a_known_beginning_are_chosen_as_new_ones_are() -> None:
    """Their bounds were never asked for before, and pages are written over in between."""
    core, ear, prompt = core_of(), Ear(), prompt_of(97)
    core.add(ask("fresh", prompt, 12, page_selection=FEW), ear)
    run_to_end(core)
    other = core_of()
    other.add(ask("warm", prompt, 2), ear)
    run_to_end(other)
    other.add(ask("found", prompt, 12, page_selection=FEW), ear)
    run_to_end(other)
    assert report_of(ear, "found").num_pages_found == 12
    assert ear.tokens("found") == ear.tokens("fresh")
    assert ear.logprobs("found") == pytest.approx(ear.logprobs("fresh"), abs=1e-5)


def test_bounds_follow_pages_that_are_written_anew() -> None:
    """A pool of one sequence's size: the second has the first one's pages, with other keys."""
    page = BOUNDED.kv_cache_bytes // core_of().tree.pool.num_blocks
    tight = replace(BOUNDED, kv_cache_bytes=page * 15, has_prefix_cache=False)
    core, ear = core_of(settings=tight), Ear()
    core.add(ask("first", prompt_of(90, 4), 16, page_selection=FEW), ear)
    run_to_end(core)
    core.add(ask("second", prompt_of(90, 5), 16, page_selection=FEW), ear)
    run_to_end(core)
    clean = core_of(settings=tight)
    clean.add(ask("clean", prompt_of(90, 5), 16, page_selection=FEW), ear)
    run_to_end(clean)
    assert ear.logprobs("second") == ear.logprobs("clean")


def test_what_was_generated_over_few_pages_is_not_shared() -> None:
    core, ear, prompt = core_of(), Ear(), prompt_of(64)
    core.add(ask("few", prompt, 30, page_selection=FEW), ear)
    core.add(ask("plain", prompt_of(64, 9), 30), ear)
    run_to_end(core)
    for request_id, first in (("few", prompt), ("plain", prompt_of(64, 9))):
        core.add(ask(f"{request_id} again", [*first, *ear.tokens(request_id)], 1), ear)
    run_to_end(core)
    assert report_of(ear, "few again").num_pages_found == 8
    assert report_of(ear, "plain again").num_pages_found == 11


def test_preemption_leaves_bounds_that_hold() -> None:
    page = BOUNDED.kv_cache_bytes // core_of().tree.pool.num_blocks
    core, ear = core_of(settings=replace(BOUNDED, kv_cache_bytes=page * 24)), Ear()
    for index in range(3):
        core.add(ask(f"r{index}", prompt_of(50, index), 24, page_selection=PageSelection(50)), ear)
    run_to_end(core)
    plain = core_of()
    for index in range(3):
        plain.add(ask(f"p{index}", prompt_of(50, index), 24), ear)
    run_to_end(plain)
    assert sum(report_of(ear, f"r{index}").num_preemptions for index in range(3)) > 0
    assert all(ear.tokens(f"r{index}") == ear.tokens(f"p{index}") for index in range(3))


def test_selection_is_refused_by_name() -> None:
    request = ask("r", prompt_of(20), page_selection=FEW)
    with pytest.raises(InputError, match=r"keeps no bounds.*--page-bounds"):
        core_of(settings=replace(BOUNDED, has_page_bounds=False)).check(request)
    with pytest.raises(InputError, match=r"no layer can.*adds to scores by distance"):
        core_of("bloom").check(request)
    core_of().check(request)
    with pytest.raises(InputError, match="no program of kernel calls"):
        core_of(settings=replace(BOUNDED, kernels="torch")).check(request)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"is_reproducible": True}, "reproducible"),
        ({"speculation": True}, "speculation"),
        ({"watch": WatchSpec(((0, 0),), ((0, 0, 20),), 1)}, "watched"),
        ({"bias": ((0, 3, 1.0),)}, "bias"),
    ],
)
def test_what_needs_all_pages_refuses_a_selection(options: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=f"selects pages, and.*{told}"):
        ask("r", prompt_of(20), page_selection=FEW, **options)


@pytest.mark.parametrize("numbers", [(MIN_PAGES - 1, 1), (0, 1), (MIN_PAGES, 0)])
def test_a_selection_of_nothing_is_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="the limit is"):
        PageSelection(*numbers)


def test_bounds_take_a_part_of_the_memory() -> None:
    plain = core_of(settings=replace(BOUNDED, has_page_bounds=False)).tree.pool.num_blocks
    assert 0.7 * plain < core_of().tree.pool.num_blocks < plain
