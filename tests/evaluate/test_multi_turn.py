"""A conversation computes what is new in each turn: a few turns of `evals/multi_turn.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cynosure.evaluate.server_process import serve
from evals import isolation
from evals.faults import write_toy
from evals.multi_turn import BLOCK_SIZE, WORDS, changed, converse, count, rendered


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a key for each of two."""
    folder = write_toy(tmp_path_factory.mktemp("turns") / "toy")
    with serve([f"m={folder}", "--threads", "1"], folder.parent) as server:
        server.wait_until_ready()
        yield server.url


def test_each_turn_prefills_what_is_new_and_less_than_a_page(url: str) -> None:
    turns, messages = asyncio.run(converse(url, 5))
    assert turns[0].cached_tokens == 0
    assert all(0 <= turn.num_again < BLOCK_SIZE for turn in turns[1:])
    assert turns[-1].num_prefilled < turns[-1].prompt_tokens / 2
    assert asyncio.run(changed(url, messages)) == 0


def test_tokens_that_no_text_is_encoded_in_are_found_again(url: str) -> None:
    """Were they not kept, a turn would read the last answer again, letter by letter."""
    turns, messages = asyncio.run(converse(url, 4, WORDS))
    from_text = asyncio.run(count(url, rendered(messages[:-1])))
    assert from_text > turns[-1].prompt_tokens + 2 * BLOCK_SIZE, "the tokenizer spells it as it was generated"
    assert all(0 <= turn.num_again < BLOCK_SIZE for turn in turns[1:])


def test_two_keys_share_nothing_and_one_key_does(tmp_path: Path) -> None:
    """The clock is for the whole run; here it is what usage says."""
    folder = write_toy(tmp_path / "toy")
    with isolation.serve_keys(folder, tmp_path, ["--threads", "1"]) as server:
        metrics = isolation.metrics_of(asyncio.run(isolation.trials(server.url, 2)))
    assert metrics["other_max_cached"] == metrics["new_max_cached"] == 0
    assert metrics["same_min_cached"] == metrics["same_max_cached"] == 224


def test_what_counts_as_isolated() -> None:
    fast, slow = (
        [0.01 + 0.0001 * number for number in range(20)],
        [0.1 + 0.001 * number for number in range(20)],
    )
    nothing, hit = [0] * 20, [224] * 20
    arms = {
        "new": isolation.Arm(slow, nothing),
        "other": isolation.Arm(slow[::-1], nothing),
        "same": isolation.Arm(fast, hit),
    }
    assert isolation.is_isolated(isolation.metrics_of(arms))
    told_by_the_clock = arms | {"other": isolation.Arm(fast, nothing)}
    told_by_usage = arms | {"other": isolation.Arm(slow, hit)}
    blind = arms | {"same": isolation.Arm(slow, hit)}
    for broken in (told_by_the_clock, told_by_usage, blind):
        assert not isolation.is_isolated(isolation.metrics_of(broken))
