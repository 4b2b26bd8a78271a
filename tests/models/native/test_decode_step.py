"""A step of decoding that is prepared by one call gives the bits of a pass that is prepared like others."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from cynosure.cache import PagedCache
from cynosure.core.errors import InputTooLong
from cynosure.engine import Request, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.request import Event, TokenEvent
from cynosure.engine.runner import Runner, Work
from cynosure.engine.settings import EngineSettings
from cynosure.kernels import why_none
from cynosure.models import rotary_rows
from cynosure.models.decoder import Decoder
from cynosure.models.load import load
from cynosure.models.native.decode_step import FIRST_CAPACITY, FIRST_WIDTH, DecodeSteps, refusal_of_steps
from cynosure.models.native.graph import use_kernels
from tests.models import decoder_cases, decoder_oracle

pytestmark = pytest.mark.skipif(bool(why_none()), reason=why_none() or "kernels are here")

BLOCK = 8
ENGINE = EngineSettings(
    block_size=BLOCK, kv_cache_bytes=1 << 20, max_num_batched_tokens=32, chunk_size=16, max_num_seqs=4
)
#: What differs between them: positions learned, rotated, by distance; windows; norms; caps; multipliers.
SHAPES = ["gpt2", "llama", "llama-tied", "mistral", "qwen3", "gemma2", "gemma3", "phi3", "bloom"]


def native(name: str, dtype: str = "float32", quantize: str | None = None) -> Decoder:
    graph = load(decoder_oracle.pair_of(name).folder, dtype=dtype, quantize=quantize).graph
    assert isinstance(graph, Decoder)
    use_kernels(graph, graph.dtype, "native")
    return graph


def runners(graph: Decoder, num_blocks: int = 128, kv_dtype: str = "auto") -> tuple[Runner, Runner]:
    """One that has steps of its own for decoding, and one that has not."""
    fast, general = (Runner(graph, graph.new_paged_cache(num_blocks, BLOCK, kv_dtype)) for _ in range(2))
    assert not fast.step_refusal
    general._steps = None
    return fast, general


def ids(length: int, seed: int) -> tuple[int, ...]:
    dice = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, decoder_cases.VOCAB, (length,), generator=dice).tolist())


def pages(place: int, num_blocks: int) -> tuple[int, ...]:
    """Pages of a sequence that do not lie side by side."""
    return tuple(range(place, 128, 128 // num_blocks))[:num_blocks]


def decoded(
    runner: Runner, lengths: Sequence[int], num_steps: int, *, is_reproducible: bool = False
) -> Tensor:
    """Logits of so many steps after prompts of these lengths; each sequence's pages grow under way."""
    found = []
    for place, length in enumerate(lengths):
        if length:
            runner.run([Work(ids(length, place), 0, pages(place, 8), 1)])
    for step in range(num_steps):
        held = [(length + step) // BLOCK + 1 for length in lengths]
        work = [
            Work(ids(1, 100 * step + place), length + step, pages(place, 8)[:count], 1, is_reproducible)
            for place, (length, count) in enumerate(zip(lengths, held, strict=True))
        ]
        found.append(torch.cat(runner.run(work)).clone())
    return torch.stack(found)


@pytest.mark.parametrize("name", SHAPES)
def test_steps_give_the_bits_of_passes(name: str) -> None:
    lengths = (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK)
    fast, general = runners(native(name))
    assert torch.equal(decoded(fast, lengths, BLOCK + 1), decoded(general, lengths, BLOCK + 1))
    assert fast._was_step
    assert not general._was_step


@pytest.mark.parametrize("kv_dtype", ["auto", "int8"])
@pytest.mark.parametrize("quantize", [None, "int8", "int4"])
def test_in_bfloat16_and_in_codes(quantize: str | None, kv_dtype: str) -> None:
    fast, general = runners(native("llama-tied", "bfloat16", quantize), kv_dtype=kv_dtype)
    assert torch.equal(decoded(fast, (5, 20), 4), decoded(general, (5, 20), 4))


@pytest.mark.parametrize("num_seqs", [1, 2, 3, FIRST_CAPACITY, FIRST_CAPACITY + 1])
def test_any_number_of_sequences(num_seqs: int) -> None:
    """One more than the first buffers hold."""
    fast, general = runners(native("gemma3", "bfloat16"))
    lengths = [3 + place for place in range(num_seqs)]
    assert torch.equal(decoded(fast, lengths, 2), decoded(general, lengths, 2))
    assert torch.equal(decoded(fast, lengths[:1], 2), decoded(general, lengths[:1], 2))


@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_layers_whose_windows_have_pages_of_their_own(name: str) -> None:
    graph, found = native(name), []
    for is_fast in (True, False):
        core = EngineCore(graph, (), ENGINE, model_id="m")
        assert core.cache.windows
        if not is_fast:
            core._runner._steps = None
        events: list[Event] = []
        for number, length in enumerate((1, BLOCK, 3 * BLOCK + 1)):
            params = SamplingParams(max_tokens=3 * BLOCK, temperature=0.0, logprobs=0, ignore_eos=True)
            core.add(Request(str(number), ids(length, number), params), events.append)
        for now in range(100):
            core.step(float(now))
        core.check_integrity()
        assert core._runner.step_refusal == ""
        found.append(
            [(one.request_id, one.token_id, one.logprob) for one in events if isinstance(one, TokenEvent)]
        )
    assert len(found[0]) == 3 * 3 * BLOCK
    assert found[0] == found[1]


def test_a_fixed_way() -> None:
    fast, general = runners(native("llama", "bfloat16"))
    alone = decoded(fast, (9,), 2, is_reproducible=True)
    assert torch.equal(alone, decoded(general, (9,), 2, is_reproducible=True))
    # And back: the way of one step is not that of the next.
    assert torch.equal(decoded(fast, (9,), 2), decoded(general, (9,), 2))


def test_more_pages_and_positions_than_the_first_tables_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotary_rows, "FIRST_POSITIONS", 16)
    graph = native("llama")
    length = BLOCK * FIRST_WIDTH + 3
    blocks = tuple(reversed(range(FIRST_WIDTH + 2)))
    found = []
    for runner in runners(graph):
        runner.run([Work(ids(length, 1), 0, blocks, 1), Work(ids(3, 2), 0, (70,), 1)])
        found.append(runner.run([Work((5,), length, blocks, 1)])[0].clone())
        found.append(runner.run([Work((6,), 3, (70, 71), 1)])[0].clone())
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])


def test_a_wrong_length_is_seen() -> None:
    """The positive control: one key less changes the bits."""
    fast, _ = runners(native("llama"))
    prompt = ids(12, 1)
    fast.run([Work(prompt, 0, (0, 1), 1)])
    right = fast.run([Work((5,), 12, (0, 1), 1)])[0].clone()
    wrong = fast.run([Work((5,), 11, (0, 1), 1)])[0].clone()
    assert not torch.equal(right, wrong)


def test_pages_that_do_not_hold_the_token_are_refused() -> None:
    fast, _ = runners(native("llama"))
    with pytest.raises(InputTooLong, match="sequence 1 would hold 9 tokens; its pages hold 8"):
        fast.run([Work((5,), 3, (0,), 1), Work((5,), BLOCK, (1,), 1)])


@pytest.mark.parametrize("token_id", [-1, decoder_cases.VOCAB])
def test_a_token_beyond_the_table_is_refused(token_id: int) -> None:
    fast, _ = runners(native("llama"))
    with pytest.raises(IndexError, match="the table has"):
        fast.run([Work((token_id,), 3, (0,), 1)])


def test_another_backend_refuses_steps() -> None:
    graph = native("llama")
    cache = graph.new_paged_cache(8, BLOCK)
    assert "attends on tiled" in refusal_of_steps(graph, cache, "tiled")
    assert not refusal_of_steps(graph, cache, "auto")


def test_prompts_beside_steps_go_the_general_way() -> None:
    fast, general = runners(native("llama"))
    work = [Work((5,), 0, (0,), 1), Work(ids(3, 1), 0, (1,), 1)]
    assert all(torch.equal(a, b) for a, b in zip(fast.run(work), general.run(work), strict=True))
    assert not fast._was_step


def test_parts_are_timed() -> None:
    graph = native("qwen3")
    runner = Runner(graph, graph.new_paged_cache(8, BLOCK))
    runner.time_passes()
    runner.run([Work((3,), 0, (0,), 1)])
    assert runner._was_step
    calls = {time.part: time.num_calls for time in runner.times}
    assert calls["attention"] == calls["qkv"] == len(graph.layers)
    assert calls["head"] == 1


def test_nothing_is_allocated_between_steps() -> None:
    """Buffers, structs and tables of a step are those of the one before it."""
    graph = native("llama")
    steps = DecodeSteps(graph, PagedCache(graph.cache_shapes, 8, torch.float32, BLOCK))
    blocks = (0, 1)
    with torch.inference_mode():
        first = steps.run([3], [0], [blocks])
        before = dict(vars(steps))
        second = steps.run([4], [1], [blocks])
    assert first is not None
    assert second is not None
    assert first.data_ptr() == second.data_ptr()
    assert all(vars(steps)[name] is before[name] for name in before)
