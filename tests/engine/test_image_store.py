"""Hold the engine against transformers where prompts bring images: whatever the batch, pages and chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cynosure.cache import PageNames, PageStore
from cynosure.core.errors import InputError, InputTooLong
from cynosure.engine import Failed, Finished, image_store
from cynosure.engine.core import EngineCore
from cynosure.engine.session import Session
from cynosure.engine.session_pages import Disk
from cynosure.engine.settings import EngineSettings
from cynosure.models.generate import SamplingOptions, generate
from cynosure.models.image_input import ImageInput
from cynosure.models.load import load
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.engine.image_cases import (
    FAMILIES,
    NUM_NEW,
    Question,
    expected,
    image_of,
    model_of,
    pair_of,
    question,
    questions,
    reader_of,
)

PLAIN = SamplingOptions(max_new_tokens=NUM_NEW, eos_token_ids=())
TINY = replace(SMALL, image_cache_bytes=1 << 16)


def asked(
    core: EngineCore, ear: Ear, request_id: str, it: Question, num_new: int = NUM_NEW, **options: object
) -> None:
    core.add(ask(request_id, it.prompt, num_new, images=it.images, **options), ear)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def wanted(family: str) -> list[list[int]]:
    return [expected(family, it) for it in questions(family)]


def test_the_plain_loop_equals_transformers(family: str, wanted: list[list[int]]) -> None:
    these = questions(family)
    told = generate(model_of(family), [it.prompt for it in these], PLAIN, [it.images for it in these])
    assert [list(one.token_ids) for one in told] == wanted


@pytest.mark.parametrize("chunk_size", [1, 7, 64])
def test_a_mixed_batch_equals_transformers(family: str, wanted: list[list[int]], chunk_size: int) -> None:
    core = new_core(model_of(family), replace(TINY, chunk_size=chunk_size, max_num_batched_tokens=80))
    ear = Ear()
    for number, it in enumerate(questions(family)):
        asked(core, ear, f"r{number}", it)
    run_to_end(core)
    for number, tokens in enumerate(wanted):
        assert isinstance(ear.end(f"r{number}"), Finished)
        assert ear.tokens(f"r{number}") == tokens, number


def test_speculation_changes_nothing(family: str, wanted: list[list[int]]) -> None:
    settings = replace(TINY, num_speculative_tokens=4)
    core, ear = new_core(model_of(family), settings), Ear()
    for number, it in enumerate(questions(family)):
        asked(core, ear, f"r{number}", it)
    run_to_end(core)
    assert [ear.tokens(f"r{number}") for number in range(len(wanted))] == wanted


def test_a_reproducible_request_gets_the_same_bits_alone_and_in_a_crowd(family: str) -> None:
    it, other, *_ = questions(family)
    alone, crowd = Ear(), Ear()
    core = new_core(model_of(family), TINY)
    asked(core, alone, "it", it, is_reproducible=True)
    run_to_end(core)
    asked(core, crowd, "it", it, is_reproducible=True)
    for number in range(3):
        asked(core, crowd, f"r{number}", other)
    run_to_end(core)
    assert alone.logprobs("it") == crowd.logprobs("it")


@pytest.mark.parametrize("family", ["llava", "qwen2-vl", "mllama"])
def test_preemption_reads_images_again(family: str) -> None:
    """Pages for two answers, four sequences that grow: somebody must go and come back."""
    bytes_per_page = SMALL.kv_cache_bytes // new_core(model_of(family)).tree.pool.num_blocks
    core, ear = new_core(model_of(family), replace(TINY, kv_cache_bytes=bytes_per_page * 12)), Ear()
    these = questions(family)
    for number, it in enumerate(these):
        asked(core, ear, f"r{number}", it, 20)
    assert core.images is not None
    num_preempted = 0
    for now in range(400):
        before = set(core._running)
        core.step(float(now))
        core.check_integrity()
        num_preempted += len(before & set(core._waiting))
        if not core.has_work:
            break
    assert num_preempted, "nobody was preempted: the test shows nothing"
    assert [ear.tokens(f"r{number}") for number in range(4)] == [expected(family, it, 20) for it in these]
    assert core.images.num_encoded == 3, "what an image became is kept while its sequence waits"


def test_the_same_image_is_encoded_once_and_its_pages_are_found(family: str) -> None:
    core, ear = new_core(model_of(family), TINY), Ear()
    it = question(family, image_of(family, 1), num_words=14)
    for request_id, tenant in (("first", "a"), ("again", "a"), ("other", "b")):
        asked(core, ear, request_id, it, tenant=tenant)
        run_to_end(core)
    assert core.images is not None
    assert core.images.num_encoded == 2, "once for each tenant"
    cached = {request_id: ear.end(request_id).usage.cached_tokens for request_id in ear.events}
    assert cached["first"] == cached["other"] == 0
    assert cached["again"] == (len(it.prompt) - 1) // 8 * 8
    assert ear.tokens("again") == ear.tokens("first") == ear.tokens("other") == expected(family, it)


def test_another_image_in_the_same_places_never_shares_pages(family: str) -> None:
    """The tokens are the same; the pages before the image are shared, and no others."""
    core, ear = new_core(model_of(family), TINY), Ear()
    begin = question(family, image_of(family, 1), num_words=9)
    for request_id, seed in (("first", 1), ("other", 2), ("again", 1)):
        asked(core, ear, request_id, replace_image(begin, image_of(family, seed, like=1)))
        run_to_end(core)
    assert ear.end("other").usage.cached_tokens == 0
    assert ear.end("again").usage.cached_tokens == (len(begin.prompt) - 1) // 8 * 8
    assert ear.tokens("other") == expected(family, replace_image(begin, image_of(family, 2, like=1)))
    assert ear.logprobs("other") != ear.logprobs("first")


def test_pages_of_tokens_alone_would_be_shared(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would see if images were not told apart."""
    begin, told = question(family, image_of(family, 1), num_words=9), list[list[float]]()
    for is_told_apart in (True, False):
        if not is_told_apart:
            monkeypatch.setattr(image_store, "_page_ids", lambda token_ids, _: tuple(token_ids))
        core, ear = new_core(model_of(family), TINY), Ear()
        for request_id, seed in (("first", 1), ("other", 2)):
            asked(core, ear, request_id, replace_image(begin, image_of(family, seed, like=1)))
            run_to_end(core)
        told.append(ear.logprobs("other"))
        num_shared = 0 if is_told_apart else (len(begin.prompt) - 1) // 8 * 8
        assert ear.end("other").usage.cached_tokens == num_shared
    assert max(abs(right - wrong) for right, wrong in zip(*told, strict=True)) > 1e-3


def replace_image(it: Question, image: ImageInput) -> Question:
    return Question(it.prompt, (image,))


def test_a_conversation_goes_on_behind_its_images(family: str) -> None:
    """The second turn brings the first turn's image again, and one more."""
    core, ear = new_core(model_of(family), TINY), Ear()
    first = question(family, image_of(family, 1))
    asked(core, ear, "first", first)
    run_to_end(core)
    new = question(family, image_of(family, 2), seed=90)
    history = (*first.prompt, *ear.tokens("first"))
    second = Question((*history, *new.prompt), (*first.images, *new.images))
    asked(core, ear, "second", second)
    run_to_end(core)
    assert len(history) - 8 <= ear.end("second").usage.cached_tokens + 1 <= len(history)
    assert ear.tokens("second") == expected(family, second)


def test_memory_for_one_request_at_a_time_is_enough(family: str, wanted: list[list[int]]) -> None:
    """Who waits for the memory of others' images gets it once they let these go."""
    pages = max(sum(map(pages_of(family), it.images)) for it in questions(family))
    core, ear = new_core(model_of(family), with_pages(family, pages)), Ear()
    for number, it in enumerate(questions(family)):
        asked(core, ear, f"r{number}", it)
    run_to_end(core)
    assert [ear.tokens(f"r{number}") for number in range(len(wanted))] == wanted


def pages_of(family: str) -> Callable[[ImageInput], int]:
    return lambda image: -(-reader_of(family).num_kept(image) // 8)


def with_pages(family: str, count: int) -> EngineSettings:
    return replace(TINY, image_cache_bytes=count * 8 * reader_of(family).bytes_per_row())


def test_images_that_never_fit_are_refused(family: str) -> None:
    core = new_core(model_of(family), with_pages(family, 1))
    it = question(family, *(image_of(family, seed) for seed in range(3)))
    with pytest.raises(InputTooLong, match="image_cache_bytes"):
        core.check(ask("it", it.prompt, images=it.images))
    with pytest.raises(InputError, match="image_cache_bytes is 1,"):
        new_core(model_of(family), replace(TINY, image_cache_bytes=1))


def test_an_image_that_breaks_the_encoder_breaks_its_requests_alone(
    family: str, wanted: list[list[int]]
) -> None:
    """Numbers that are finite, and overflow on their way."""
    core, ear = new_core(model_of(family), TINY), Ear()
    broken = image_of(family, 99, scale=1e38)
    asked(core, ear, "broken", question(family, image_of(family, 1), broken))
    asked(core, ear, "too", question(family, broken))
    asked(core, ear, "it", questions(family)[0])
    run_to_end(core)
    assert "not finite" in str(failure(ear, "broken"))
    assert "not finite" in str(failure(ear, "too"))
    assert ear.tokens("it") == wanted[0]
    pool = core.tree.pool
    assert pool.num_available == pool.num_blocks


def failure(ear: Ear, request_id: str) -> Exception:
    end = ear.end(request_id)
    assert isinstance(end, Failed)
    return end.error


def test_images_do_not_wait_for_each_other_in_one_step(family: str) -> None:
    """A step encodes one image: who decodes waits for no more."""
    core, ear = new_core(model_of(family), TINY), Ear()
    for seed in range(3):
        asked(core, ear, f"r{seed}", question(family, image_of(family, seed), num_words=3))
    assert core.images is not None
    seen = []
    for now in range(8):
        core.step(float(now))
        seen.append(core.images.num_encoded)
    assert max(later - earlier for earlier, later in zip([0, *seen], seen, strict=False)) == 1
    assert seen[-1] == 3


def test_cancelled_requests_give_their_images_back(family: str) -> None:
    core, ear = new_core(model_of(family), replace(TINY, has_prefix_cache=False)), Ear()
    for number, it in enumerate(questions(family)):
        asked(core, ear, f"r{number}", it)
    for now in range(3):
        core.step(float(now))
    for number in range(4):
        core.cancel(f"r{number}")
    core.check_integrity()
    assert core.images is not None
    assert core.images._pool.num_free == core.images._pool.num_blocks


def test_what_does_not_fit_the_model_is_refused(family: str) -> None:
    core = new_core(model_of(family), TINY)
    it = question(family, image_of(family, 1))
    with pytest.raises(InputError, match=r"0 images take 0 places, and the prompt has"):
        core.check(ask("it", it.prompt))
    with pytest.raises(InputError, match=r"1 images take .* places, and the prompt has 0"):
        core.check(ask("it", [3, 4, 5], images=it.images))
    if reader_of(family).num_places(it.images[0]) > 1:
        apart = [*it.prompt[:6], 3, *it.prompt[6:]]
        with pytest.raises(InputError, match="not side by side"):
            core.check(ask("it", apart, images=it.images))
    with pytest.raises(InputError, match=r"Give|Resize"):
        core.check(ask("it", it.prompt, images=(ImageInput((3, 5), bytes(60)),)))
    with pytest.raises(InputError, match="the limit is 32"):
        ask("it", it.prompt, images=it.images * 33)


def test_a_session_on_disk_finds_pages_with_images_after_a_restart(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "cache", b"s" * 32, 1 << 24)
    disk = Disk(store, PageNames(b"s" * 32, "build", SMALL.block_size))
    talk, it = Session("talk", is_on_disk=True), question("llava", image_of("llava", 1), num_words=20)
    found = []
    try:
        for seed in (1, 1, 2):
            core, ear = EngineCore(reader_of("llava"), (), TINY, model_id="tiny", disk=disk), Ear()
            asked(core, ear, "it", replace_image(it, image_of("llava", seed)), session=talk)
            run_to_end(core)
            assert ear.tokens("it") == expected("llava", replace_image(it, image_of("llava", seed)))
            found.append(ear.end("it").usage.cached_tokens)
            store.flush()
    finally:
        store.close()
    assert found == [0, 24, 0]


@pytest.mark.parametrize("family", ["llava", "qwen2-vl", "mllama"])
def test_native_kernels_answer_as_the_plain_modules(family: str) -> None:
    """Kernels take the decoder and the encoder of images: in float32 they choose the same tokens."""
    model, these = load(pair_of(family).folder, dtype="float32"), questions(family)
    core, ear = new_core(model, replace(TINY, kernels="native")), Ear()
    assert core.native.num_native
    # Layers that attend to images stand beside the others; all else is one program of kernel calls.
    assert bool(core._runner.refusal) == (family == "mllama"), core._runner.refusal
    assert bool(core._runner.step_refusal) == (family == "mllama"), core._runner.step_refusal
    linears = [module for module in model.graph.modules() if type(module) is torch.nn.Linear]
    assert not linears, "the encoder of images has layers that are not native"
    for number, it in enumerate(these):
        asked(core, ear, f"r{number}", it)
    run_to_end(core)
    assert [ear.tokens(f"r{number}") for number in range(4)] == [expected(family, it) for it in these]
