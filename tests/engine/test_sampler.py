"""The sampler: the same bits in any batch, faults that stay in their row, and the right distribution."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from cynosure.core.errors import EngineFault, InputError
from cynosure.engine import filters
from cynosure.engine.largest import Likeliest
from cynosure.engine.sampler import (
    SUMMED_TOGETHER,
    Row,
    SampledToken,
    SampleError,
    _place_of,
    new_dice,
    sample,
)
from cynosure.engine.sampling import SamplingParams

GREEDY = SamplingParams(64, temperature=0.0)
FREE = SamplingParams(64)
PROMPT, ANSWER = (3, 5, 5, 8), (5, 6)

KINDS = [
    GREEDY,
    replace(GREEDY, logprobs=3),
    replace(GREEDY, repetition_penalty=1.5, logit_bias=((2, 3.0),)),
    FREE,
    replace(FREE, temperature=0.3, logprobs=20),
    replace(FREE, temperature=2.0, min_p=0.02),
    replace(FREE, top_k=5),
    replace(FREE, top_p=0.8),
    replace(FREE, typical_p=0.7),
    replace(FREE, presence_penalty=1.0, frequency_penalty=-0.5, top_p=0.95, top_k=50, min_p=0.01),
    replace(FREE, min_tokens=9, stop_token_ids=(1, 4)),
]


def row(params: SamplingParams = FREE, seed: int = 0, **more: object) -> Row:
    return replace(Row(params, PROMPT, ANSWER, new_dice(seed)), **more)


def one(logits: Tensor, of: Row) -> SampledToken:
    [found] = sample(logits[None], [of])
    assert isinstance(found, SampledToken)
    return found


@pytest.mark.parametrize("vocab", [11, 1000, 4097, 32003])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_gets_the_same_bits_alone_and_in_any_batch(vocab: int, dtype: torch.dtype) -> None:
    logits = (torch.randn(3 * len(KINDS), vocab) * 3).to(dtype)
    kinds = KINDS * 3

    def rows() -> list[Row]:
        return [row(params, seed, eos_token_ids=(7,)) for seed, params in enumerate(kinds)]

    together = sample(logits, rows())
    for place, of in enumerate(rows()):
        assert sample(logits[place : place + 1], [of]) == [together[place]]
    order = torch.randperm(len(kinds)).tolist()
    mixed = rows()
    assert sample(logits[order], [mixed[place] for place in order]) == [together[place] for place in order]


def test_what_is_drawn_depends_on_the_seed() -> None:
    """Without this, rows could agree by being constant."""
    flat = torch.zeros(1, 1000).expand(40, -1)
    found = sample(flat, [row(seed=seed) for seed in range(40)])
    assert len({item.token_id for item in found if isinstance(item, SampledToken)}) > 30


def test_a_greedy_row_draws_nothing_and_another_one_number() -> None:
    logits = torch.randn(1, 500)
    for params, numbers in ((GREEDY, 0), (FREE, 1), (replace(FREE, top_k=3, top_p=0.5), 1)):
        used, fresh = new_dice(4), new_dice(4)
        sample(logits, [row(params, dice=used)])
        for _ in range(numbers):
            torch.rand((), generator=fresh, dtype=torch.float64)
        assert torch.equal(used.get_state(), fresh.get_state())


@pytest.mark.parametrize("params", [FREE, replace(FREE, temperature=0.7, top_k=12), replace(FREE, top_p=0.9)])
def test_the_distribution_is_the_oracle_s(params: SamplingParams) -> None:
    """Chi-square over 8,000 draws; 30 classes leave 99.9% of honest samplers below 59."""
    logits, num_draws = torch.randn(30) * 1.5, 8_000
    scores = TemperatureLogitsWarper(params.temperature)(None, logits[None])
    if params.top_k:
        scores = TopKLogitsWarper(params.top_k)(None, scores)
    if params.top_p < 1.0:
        scores = TopPLogitsWarper(params.top_p)(None, scores)
    expected = scores[0].double().softmax(-1)
    drawn = sample(logits.expand(num_draws, -1), [row(params, seed=11)] * num_draws)
    counts = Counter(item.token_id for item in drawn if isinstance(item, SampledToken))

    def chi_square(probs: Tensor) -> float:
        return sum(
            (counts[place] - num_draws * prob) ** 2 / (num_draws * prob)
            for place, prob in enumerate(probs.tolist())
            if prob > 0
        )

    assert not [place for place in counts if expected[place] == 0]
    assert chi_square(expected) < 59
    assert chi_square((scores[0] * 0.85).double().softmax(-1)) > 59, (
        "a temperature a little off is told apart"
    )


def test_the_order_of_processors_is_the_oracle_s() -> None:
    """One distribution after all of them, compared by its support and by where each draw falls."""
    bias = ((4, 1.5), (9, -2.0))
    params = SamplingParams(
        64, temperature=0.6, min_p=0.003, top_k=120, top_p=0.93, typical_p=0.9, repetition_penalty=1.4,
        logit_bias=bias,
    )  # fmt: skip
    oracle = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.4),
            SequenceBiasLogitsProcessor([[[token_id], value] for token_id, value in bias]),
            TemperatureLogitsWarper(0.6),
            MinPLogitsWarper(0.003),
            TopKLogitsWarper(120),
            TopPLogitsWarper(0.93),
            TypicalLogitsWarper(0.9),
        ]
    )
    for seed in range(200):
        logits = torch.randn(300, generator=torch.Generator().manual_seed(seed)) * 2
        reached = oracle(torch.tensor([PROMPT + ANSWER]), logits[None])[0].double().softmax(-1).cumsum(-1)
        thrown = torch.rand((), generator=new_dice(seed), dtype=torch.float64)
        expected = int(torch.searchsorted(reached, thrown * reached[-1], right=True))
        assert one(logits, row(params, seed)).token_id == expected


def test_log_probabilities_are_the_model_s_own() -> None:
    logits = torch.randn(60)
    params = replace(FREE, temperature=0.2, top_k=3, logit_bias=((1, 50.0),), logprobs=4)
    found = one(logits, row(params))
    own = logits.log_softmax(-1)
    assert found.token_id == 1
    assert found.logprob == float(own[1])
    assert [item.token_id for item in found.top_logprobs] == own.argsort(descending=True)[:4].tolist()
    assert [item.logprob for item in found.top_logprobs] == own.sort(descending=True).values[:4].tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_that_is_no_number_fails_alone(bad: float) -> None:
    logits = torch.randn(3, 50)
    logits[1, 17] = bad
    found = sample(logits, [row(FREE), row(GREEDY), row(GREEDY)])
    assert isinstance(found[1], SampleError)
    assert isinstance(found[1].error, EngineFault)
    clean = sample(logits[[0, 2]], [row(FREE), row(GREEDY)])
    assert [found[0], found[2]] == clean


def test_what_stands_highest_is_not_sought_where_it_is_known() -> None:
    """The known token need not be the likeliest here, so that whoever seeks again is found out."""
    logits = torch.randn(2, 50)
    logits[:, 17] = 9.0
    known = Likeliest(5, 3.0)
    rows = [row(GREEDY, likeliest=known), row(replace(GREEDY, logit_bias=((8, 100.0),)), likeliest=known)]
    assert sample(logits, rows) == [SampledToken(5, None), SampledToken(8, None)]
    assert sample(logits, [rows[0], row(GREEDY)]) == [SampledToken(17, None)] * 2, "one is not known"
    [broken] = sample(logits[:1], [row(GREEDY, likeliest=Likeliest(5, math.nan))])
    assert isinstance(broken, SampleError)


def test_a_token_that_does_not_exist_fails_its_row_alone() -> None:
    wrong = row(replace(GREEDY, logit_bias=((50, 1.0),)))
    found = sample(torch.randn(2, 50), [wrong, row(GREEDY)])
    assert isinstance(found[0], SampleError)
    assert isinstance(found[0].error, InputError)
    assert isinstance(found[1], SampledToken)


def test_a_constraint_without_a_way_out_fails_its_row_alone() -> None:
    found = sample(torch.randn(2, 9), [row(allowed=torch.zeros(9, dtype=torch.bool)), row()])
    assert isinstance(found[0], SampleError)
    assert "allows no token" in str(found[0].error)
    assert isinstance(found[1], SampledToken)


def test_a_constraint_binds_those_who_draw_and_those_who_do_not() -> None:
    allowed = torch.zeros(100, dtype=torch.bool)
    allowed[[10, 20]] = True
    for params in (GREEDY, FREE):
        found = {one(torch.randn(100), row(params, seed, allowed=allowed)).token_id for seed in range(20)}
        assert found == {10, 20}


@pytest.mark.parametrize("params", [GREEDY, replace(FREE, temperature=0.01)])
def test_ends_are_held_back_until_min_tokens(params: SamplingParams) -> None:
    logits = torch.zeros(20)
    logits[[2, 4]] = 9.0
    logits[11] = 5.0
    params = replace(params, min_tokens=3, stop_token_ids=(2,))
    of = row(params, eos_token_ids=(4,))
    assert one(logits, of).token_id == 11, "two tokens are there, three are asked for"
    assert one(logits, replace(of, generated_ids=(5, 6, 7))).token_id in (2, 4)
    ignoring = replace(of, params=replace(params, ignore_eos=True))
    assert one(logits, ignoring).token_id == 4, "an end that is ignored ends nothing"


@pytest.mark.parametrize("params", [GREEDY, FREE])
@pytest.mark.parametrize(("bias", "expected"), [(100.0, {3}), (-100.0, {0, 1, 2, 4, 5})])
def test_the_largest_bias_forces_and_forbids(params: SamplingParams, bias: float, expected: set[int]) -> None:
    biased = replace(params, logit_bias=((3, bias),))
    found = {one(torch.randn(6) * 3, row(biased, seed)).token_id for seed in range(60)}
    assert found == expected


@pytest.mark.parametrize(
    "params",
    [
        replace(FREE, top_k=1),
        replace(FREE, top_p=0.0),
        replace(FREE, min_p=1.0),
        replace(FREE, temperature=1e-30),
        replace(FREE, temperature=5e-324),
        replace(FREE, top_k=1, top_p=0.0, min_p=1.0),
    ],
)
def test_where_all_is_filtered_the_best_stays(params: SamplingParams) -> None:
    logits = torch.randn(200) * 100
    assert one(logits, row(params)).token_id == int(logits.argmax())


def test_limits_beyond_the_vocabulary_filter_nothing() -> None:
    logits = torch.randn(9)
    found = one(logits, row(replace(FREE, top_k=1000, logprobs=20), 3))
    assert found.token_id == one(logits, row(FREE, 3)).token_id
    assert len(found.top_logprobs) == 9


def test_the_logits_are_left_as_they_are_and_no_rows_give_none() -> None:
    logits = torch.randn(len(KINDS), 30)
    before = logits.clone()
    sample(logits, [row(params, eos_token_ids=(7,)) for params in KINDS])
    assert torch.equal(logits, before)
    assert sample(torch.empty(0, 30), []) == []


def test_of_equals_the_first_is_the_likeliest() -> None:
    assert one(torch.zeros(500), row(GREEDY)).token_id == 0


def test_only_rows_that_are_filtered_by_rank_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("sorted")

    for name in ("sort", "topk"):
        monkeypatch.setattr(Tensor, name, refuse)
    monkeypatch.setattr(filters, "_descending", refuse)
    monkeypatch.setattr(filters, "_largest_but", refuse)
    sample(torch.randn(3, 99), [row(GREEDY), row(FREE), row(replace(FREE, min_p=0.1))])
    for params in (replace(FREE, top_p=0.5), replace(FREE, top_k=5), replace(FREE, typical_p=0.5)):
        with pytest.raises(RuntimeError, match="sorted"):
            sample(torch.randn(1, 99), [row(params)])


def test_what_has_no_probability_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dice may show exactly 0, and the first tokens may be banned."""
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.zeros((), dtype=torch.float64))
    allowed = torch.tensor([False, False, True, True])
    assert one(torch.zeros(4), row(allowed=allowed)).token_id == 2


@pytest.mark.parametrize("size", [1, 2, SUMMED_TOGETHER - 1, SUMMED_TOGETHER, SUMMED_TOGETHER + 1, 5000])
def test_blocks_find_the_place_that_running_sums_over_all_find(size: int) -> None:
    dice = torch.Generator().manual_seed(size)
    # Whole numbers, whose sums are exact in any order; some tokens have no weight.
    weights = torch.randint(0, 4, (size,), generator=dice).float()
    weights[-1] = 1.0
    reached = weights.cumsum(-1, dtype=torch.float64)
    thrown = [0.0, 1 - 2**-53, *torch.rand(50, generator=dice, dtype=torch.float64).tolist()]
    for share in thrown:
        place = _place_of(weights, torch.tensor(share, dtype=torch.float64))
        assert place == int((reached <= share * float(reached[-1])).sum())
        assert weights[place] > 0


def test_weights_that_round_badly_still_end_on_one_that_counts() -> None:
    weights = torch.full((SUMMED_TOGETHER * 3,), 1 / 3)
    weights[-500:] = 0.0
    place = _place_of(weights, torch.tensor(1.0, dtype=torch.float64))
    assert place == len(weights) - 501
