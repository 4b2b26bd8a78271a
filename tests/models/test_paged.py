"""A decoder over pages gives what it gives over rows of its own, whoever shares or held the pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch

from cynosure.attention import Watch
from cynosure.attention.mla import MlaReading
from cynosure.cache import PagePool
from cynosure.core.errors import InputTooLong
from cynosure.models.batch import Batch
from tests.models import decoder_cases, decoder_oracle, moe_oracle
from tests.models.decoder_oracle import Pair, gap
from tests.models.paged_runner import BLOCK_SIZE, CHECKS, PagedRunner, Scene, alone

TOLERANCE = 1e-5
NAMES = [*decoder_cases.CASES, *moe_oracle.CASES]


@pytest.fixture(autouse=True)
def no_grad() -> Iterator[None]:
    with torch.inference_mode():
        yield


def pair_of(name: str) -> Pair:
    return (moe_oracle if name in moe_oracle.CASES else decoder_oracle).pair_of(name)


def errors_of(pair: Pair) -> dict[str, float]:
    scene, errors = Scene.of(pair), {}
    for name, check in CHECKS.items():
        fresh = scene.anew()
        errors[name] = check(fresh)
        fresh.runner.tree.pool.check()
    return errors


@pytest.mark.parametrize("name", NAMES)
def test_pages_change_nothing(name: str) -> None:
    errors = errors_of(pair_of(name))
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("chosen", MlaReading)
def test_pages_of_latent_rows_change_nothing_under_either_reading(chosen: MlaReading) -> None:
    errors = errors_of(moe_oracle.reading(pair_of("deepseek-yarn"), chosen))
    assert max(errors.values()) <= TOLERANCE, errors


def never_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PagePool, "is_exclusive", lambda pool, block: True)


def copies_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(PagedRunner):
        def line(self, *given: object, **named: object) -> object:
            line = super().line(*given, **named)
            vars(line.pages)["_copy"] = lambda source, destination: None
            return line

    monkeypatch.setattr("tests.models.paged_runner.PagedRunner", Careless)


def loses_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = Batch.pack

    def mistaken(*args: object, block_tables: list[tuple[int, ...]], **named: object) -> Batch:
        """Full pages that are all seen may change places; one read twice is a fault."""
        turned = [table[:1] * 2 + table[2:] for table in block_tables]
        return pack(*args, block_tables=turned if max(named["past_lens"]) >= 16 else block_tables, **named)

    monkeypatch.setattr("tests.models.paged_runner.Batch", SimpleNamespace(pack=mistaken))


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        (never_copies, "rolled_back"),
        (never_copies, "forked"),
        (copies_nothing, "rolled_back"),
        (copies_nothing, "forked"),
        (loses_a_page, "chunked"),
        (loses_a_page, "prefix_hit"),
    ],
)
def test_a_fault_in_the_books_is_noticed(
    fault: Callable[[pytest.MonkeyPatch], None], check: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a wrong answer, or by the books themselves."""
    scene = Scene.of(pair_of("llama"))
    assert CHECKS[check](scene) <= TOLERANCE
    fault(monkeypatch)
    try:
        error = CHECKS[check](scene.anew())
    except AssertionError:
        error = float("inf")
    assert error > 100 * TOLERANCE


@pytest.mark.parametrize("name", ["llama", "gemma2", "deepseek-plain"])
def test_shares_are_those_of_rows(name: str) -> None:
    pair = pair_of(name)
    prompt = pair.prompts[0]
    segments, watch = [[index // 9 for index in range(len(prompt))]], Watch(entropy=True)
    runner = PagedRunner(pair.graph)
    line = runner.line()
    runner.step((line, prompt[:30]))
    assert line.pages.reserve(len(prompt) - 30)
    batch = Batch.pack([prompt[30:]], past_lens=[30], segments=segments, block_tables=[line.pages.blocks])
    plain = pair.graph(batch, runner.cache)
    seen = pair.graph(batch, runner.cache, watch=watch)
    assert torch.equal(plain.hidden, seen.hidden)
    cache = pair.graph.new_cache(1, len(prompt))
    pair.graph(Batch.pack([prompt[:30]], past_lens=[0], max_len=cache.max_len), cache)
    batch = Batch.pack([prompt[30:]], past_lens=[30], segments=segments, max_len=cache.max_len)
    expected = pair.graph(batch, cache, watch=watch)
    assert seen.states.keys() == {0, 1, 2}
    for layer, state in seen.states.items():
        assert gap(state.shares, expected.states[layer].shares) <= TOLERANCE
        assert gap(state.entropy, expected.states[layer].entropy) <= 10 * TOLERANCE


def test_half_precision_pages_hold_what_half_precision_rows_hold() -> None:
    graph, prompt = pair_of("llama").graph, pair_of("llama").prompts[0]
    half = type(graph)(graph.spec)
    half.load_state_dict(graph.state_dict())
    half.to(torch.bfloat16).eval()
    runner = PagedRunner(half)
    assert runner.cache.pages(0)[0].dtype is torch.bfloat16
    ours = runner.in_chunks(runner.line(), prompt, (len(prompt) // 2, len(prompt) // 2))
    assert gap(ours, alone(half, prompt)) <= 1e-2


def test_a_sequence_that_its_pages_do_not_hold_is_refused_before_anything_is_written() -> None:
    runner = PagedRunner(pair_of("llama").graph)
    batch = Batch.pack([[1] * 5, [1] * (BLOCK_SIZE + 1)], block_tables=[[3, 4], [5]])
    with pytest.raises(InputTooLong, match="sequence 1 would hold 9 tokens; its pages hold 8"):
        runner.graph(batch, runner.cache)
    assert bool(runner.cache.pages(0)[0].isnan().all())


def test_a_paged_cache_needs_block_tables() -> None:
    runner = PagedRunner(pair_of("llama").graph)
    with pytest.raises(AssertionError, match="packed with block_tables"):
        runner.graph(Batch.pack([[1, 2]]), runner.cache)


def test_a_batch_fills_up_shorter_tables() -> None:
    plan = Batch.pack([[1], [2]], past_lens=[0, 9], block_tables=[[4], [7, 2]]).plan
    table = plan.keys[0].block_table
    assert table is not None
    assert table.tolist() == [[4, -1], [7, 2]]
    assert plan.keys[0].positions.tolist() == [0, *range(10)]
