"""Guesses, and what becomes of them: whatever is guessed, the tokens are those that are computed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from cynosure.core.errors import InputError
from cynosure.engine import Finished, FinishReason, PromptLogprobs, SamplingParams
from cynosure.engine.core import EngineCore
from cynosure.engine.session import Session
from cynosure.engine.speculation import MAX_REST, Drafter
from cynosure.models.load import LanguageModel
from tests.engine.engine_cases import SMALL, Ear, ask, new_core, run_to_end
from tests.models.decoder_oracle import pair_of

ABCD = [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("token_ids", "limit", "draft"),
    [
        ([], 4, ()),
        ([1], 4, ()),
        ([1, 2, 3], 4, ()),
        ([*ABCD, 9, 1, 2, 3], 0, ()),
        ([*ABCD, 9, 1, 2, 3], 1, (4,)),
        ([*ABCD, 9, 1, 2, 3], 4, (4, 9, 1, 2)),
        ([*ABCD, 9, 8, 7, 6, 1, 2, 3], 9, (4, 9, 8, 7)),  # four at first
        ([1, 2, 3, 5, 1, 2, 3, 6, 1, 2, 3], 1, (6,)),  # the last time
        ([0, 7, 1, 2, 3, 5, 8, 8, 1, 2, 3, 6, 0, 7, 1, 2, 3], 1, (5,)),  # but longer matches first
        ([5, 5, 5, 5], 4, (5, 5, 5, 5)),  # a run goes on
        ([1, 2, 1, 2, 1], 3, (2, 1, 2)),
    ],
)
def test_what_stood_before_is_guessed(token_ids: Sequence[int], limit: int, draft: tuple[int, ...]) -> None:
    assert Drafter(8).draft(token_ids, limit) == draft


def test_it_learns_how_far_to_guess() -> None:
    drafter, token_ids = Drafter(10), [1, 2, 3, *range(10, 40), 1, 2, 3]
    widths = []
    for _ in range(3):
        draft = drafter.draft(token_ids, 64)
        widths.append(len(draft))
        drafter.learn(len(draft), len(draft))
    draft = drafter.draft(token_ids, 64)
    drafter.learn(len(draft), 1)
    widths.append(len(drafter.draft(token_ids, 64)))
    assert widths == [4, 8, 10, 5]


def test_wrong_guesses_come_ever_more_seldom() -> None:
    drafter, token_ids = Drafter(4), [5, 5, 5, 5]
    guessed = []
    for step in range(400):
        draft = drafter.draft(token_ids, 4)
        if draft:
            guessed.append(step)
            drafter.learn(len(draft), 0)
    gaps = [later - earlier for earlier, later in pairwise(guessed)]
    assert gaps[:6] == [2, 3, 5, 9, 17, 33]
    assert set(gaps[6:]) == {MAX_REST + 1}


def told(drafter: Drafter, before: Sequence[int], answer: Sequence[int]) -> list[tuple[int, ...]]:
    """What is guessed before each token of an answer."""
    return [drafter.draft([*before, *answer[:at]], 2) for at in range(len(answer))]


def test_a_sequence_is_looked_up_as_it_grows() -> None:
    """Where nothing is followed, a look-up finds the last place of the longest run, as a first one would."""
    dice = random.Random(1)
    token_ids: list[int] = []
    growing = Drafter(4)
    num_found = 0
    for _ in range(300):
        token_ids.append(dice.randrange(3))
        growing._place = None
        draft = growing.draft(token_ids, 4)
        assert draft == Drafter(4).draft(token_ids, 4)
        num_found += bool(draft)
    assert num_found > 200


def test_the_place_that_is_followed_is_followed_on() -> None:
    """The same three tokens stood later too, and went on otherwise."""
    first, last = [1, 2, 3, 4, 5, 6, 7, 8, 9], [4, 5, 6, 0]
    before = [*first, *last, 99]
    assert told(Drafter(2), before, [1, 2, 3, 4, 5, 6, 7])[3:] == [(4, 5), (5, 6), (6, 7), (7, 8)]
    # Positive control: who comes upon them anew takes the last.
    assert told(Drafter(2), before, [4, 5, 6, 7])[3:] == [(0, 99)]


def test_one_changed_token_is_passed_over() -> None:
    before = [*range(100, 120), 99]
    told_one = told(Drafter(2), before, [100, 101, 102, 103, 55, 105, 106, 107])
    assert told_one[3:] == [(103, 104), (104, 105), (105, 106), (106, 107), (107, 108)]
    told_two = told(Drafter(2), before, [100, 101, 102, 103, 55, 56, 106, 107, 108])
    assert told_two[5:] == [(105, 106), (), (), ()]
    # A second change may follow once the place was confirmed.
    again = told(Drafter(2), before, [100, 101, 102, 55, 104, 105, 106, 56, 108])
    assert again[7:] == [(107, 108), (108, 109)]


def test_a_place_is_followed_while_it_rests() -> None:
    before, answer = [*range(100, 120), 99], [100, 101, 102, 103, 104, 105, 106]
    drafter = Drafter(2)
    assert told(drafter, before, answer[:4])[3] == (103, 104)
    drafter.learn(2, 0)
    guesses = [drafter.draft([*before, *answer[:at]], 2) for at in range(4, 7)]
    assert guesses == [(), (105,), (106,)]


FAMILIES = ("llama", "gemma2", "bloom")
GUESSING = replace(SMALL, num_speculative_tokens=6)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return pair_of(request.param).model


@pytest.fixture(scope="module")
def llama() -> LanguageModel:
    return pair_of("llama").model


def prompt_of(length: int, seed: int = 0) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(1, 90) for _ in range(length)]


#: It soon says again what it said.
TWO_WORDS = SamplingParams(max_tokens=40, temperature=0.0, logit_bias=((5, 50.0), (6, 50.0)))


class Oracle:
    """Guesses what is right for a while, and then what is wrong."""

    def __init__(self, answer: Sequence[int], num_prompt: int, num_right: int) -> None:
        self.answer, self.num_prompt, self.num_right = list(answer), num_prompt, num_right
        self.num_accepted = 0

    def draft(self, token_ids: Sequence[int], limit: int) -> tuple[int, ...]:
        coming = self.answer[len(token_ids) - self.num_prompt :]
        right = coming[: self.num_right]
        wrong = [token % 88 + 1 for token in coming[self.num_right :]]
        return tuple([*right, *wrong][: max(0, min(limit, self.num_right + 2))])

    def learn(self, num_drafted: int, num_accepted: int) -> None:
        assert num_accepted <= num_drafted
        self.num_accepted += num_accepted


def answers(core: EngineCore, *asked: tuple[list[int], SamplingParams], **options: object) -> Ear:
    ear = Ear()
    for index, (prompt, params) in enumerate(asked):
        core.add(ask(f"r{index}", prompt, params=params, **options), ear)
    run_to_end(core)
    return ear


PARAMS = {
    "greedy": SamplingParams(max_tokens=20, temperature=0.0),
    "sampled": SamplingParams(max_tokens=20, temperature=0.9, seed=7, top_p=0.9),
    "penalties": SamplingParams(max_tokens=20, temperature=0.0, repetition_penalty=1.3, presence_penalty=0.5),
    "logprobs": SamplingParams(max_tokens=20, temperature=0.0, logprobs=3),
    "prompt logprobs": SamplingParams(max_tokens=20, temperature=0.0, prompt_logprobs=2),
    "short": SamplingParams(max_tokens=2, temperature=0.0),
    "one": SamplingParams(max_tokens=1, temperature=0.0),
}


@pytest.mark.parametrize(
    ("params", "num_right", "length"),
    [
        *[(name, num_right, 8) for name in PARAMS for num_right in (0, 3)],
        # The prompt's last chunk is one token: it is scored, chosen after and guessed after in one pass.
        *[("prompt logprobs", 3, length) for length in (16, 17, 18)],
        *[("greedy", num_right, length) for num_right in (1, 6) for length in (7, 8, 9)],
    ],
)
def test_whatever_is_guessed_the_tokens_are_the_same(
    llama: LanguageModel, params: str, num_right: int, length: int
) -> None:
    prompt, params = prompt_of(length), replace(PARAMS[params], logprobs=PARAMS[params].logprobs or 0)
    plain = answers(new_core(llama), (prompt, params))
    core, ear = new_core(llama, GUESSING), Ear()
    core.add(ask("r0", prompt, params=params), ear)
    oracle = Oracle(plain.tokens("r0"), length, num_right)
    core._waiting["r0"]._drafter = oracle  # type: ignore[assignment]
    run_to_end(core)
    assert ear.tokens("r0") == plain.tokens("r0")
    assert ear.logprobs("r0") == pytest.approx(plain.logprobs("r0"), abs=1e-4)
    assert ear.end("r0") == plain.end("r0")
    told = [event for event in ear.events["r0"] if isinstance(event, PromptLogprobs)]
    expected = [event for event in plain.events["r0"] if isinstance(event, PromptLogprobs)]
    for one, other in zip(told, expected, strict=True):
        assert [token.token_id for token in one.tokens] == [token.token_id for token in other.tokens]
        assert [token.logprob for token in one.tokens] == pytest.approx(
            [token.logprob for token in other.tokens], abs=1e-4
        )
    if num_right and params.max_tokens > 2:
        assert oracle.num_accepted >= 5, "nothing was right: the test shows nothing"
        report = ear.end("r0").report
        assert report.num_decode_steps < 19


def test_a_model_that_repeats_itself_takes_fewer_steps(model: LanguageModel) -> None:
    asked = [(prompt_of(5 + seed, seed), TWO_WORDS) for seed in range(3)]
    plain, core = answers(new_core(model), *asked), new_core(model, GUESSING)
    ear = answers(core, *asked)
    for index in range(3):
        assert ear.tokens(f"r{index}") == plain.tokens(f"r{index}")
    assert core.load.num_accepted > 20
    assert core.load.num_drafted >= core.load.num_accepted
    reports = [ear.end(f"r{index}").report for index in range(3)]
    assert 20 < sum(report.num_accepted for report in reports) <= core.load.num_accepted
    assert sum(report.num_drafted for report in reports) == core.load.num_drafted
    assert sum(report.num_decode_steps for report in reports) < 3 * 39 - 20


def test_an_answer_ends_where_it_would(llama: LanguageModel) -> None:
    """The token that ends it is the second of a guess that would go on."""
    prompt = prompt_of(9)
    tokens = answers(new_core(llama), (prompt, PARAMS["greedy"])).tokens("r0")
    place = next(place for place in range(3, 20) if tokens[place] not in tokens[:place])
    params = replace(PARAMS["greedy"], stop_token_ids=(tokens[place],))
    core, ear = new_core(llama, GUESSING), Ear()
    core.add(ask("r0", prompt, params=params), ear)
    core._waiting["r0"]._drafter = Oracle(tokens, 9, 6)  # type: ignore[assignment]
    run_to_end(core)
    end = ear.end("r0")
    assert isinstance(end, Finished)
    assert (ear.tokens("r0"), end.reason) == (tokens[: place + 1], FinishReason.STOP)


def test_preemption_and_few_pages_change_nothing(llama: LanguageModel) -> None:
    bytes_per_page = SMALL.kv_cache_bytes // new_core(llama).tree.pool.num_blocks
    tight = replace(GUESSING, kv_cache_bytes=bytes_per_page * 9)
    asked = [(prompt_of(9 + seed, seed), PARAMS["greedy"]) for seed in range(4)]
    plain, ear = answers(new_core(llama), *asked), answers(new_core(llama, tight), *asked)
    for index in range(4):
        assert ear.tokens(f"r{index}") == plain.tokens(f"r{index}")
    assert sum(ear.end(f"r{index}").report.num_preemptions for index in range(4)) > 0


def test_pages_that_were_guessed_into_are_kept_for_the_next_turn(llama: LanguageModel) -> None:
    core, history = new_core(llama, GUESSING), prompt_of(9)
    params = TWO_WORDS
    plain = new_core(llama, replace(SMALL, has_prefix_cache=False))
    for turn in range(3):
        ear = answers(core, (history, params), session=Session("talk"))
        assert ear.tokens("r0") == answers(plain, (history, params)).tokens("r0")
        if turn:
            assert ear.end("r0").usage.cached_tokens >= len(history) - 12
        history = [*history, *ear.tokens("r0"), *prompt_of(3, turn)]
    assert core.load.num_accepted > 0


def test_who_does_not_want_it_gets_none(llama: LanguageModel) -> None:
    params = TWO_WORDS
    for options in ({"speculation": False}, {"is_reproducible": True}):
        core = new_core(llama, GUESSING)
        answers(core, (prompt_of(6), params), **options)
        assert core.load.num_drafted == 0
    core = new_core(llama, GUESSING)
    answers(core, (prompt_of(6), params), speculation=True)
    assert core.load.num_drafted > 0


def test_speculation_by_name_means_that_or_an_error(llama: LanguageModel) -> None:
    with pytest.raises(InputError, match="--num-speculative-tokens"):
        new_core(llama).check(ask("r", [1], speculation=True))
    new_core(llama).check(ask("r", [1], speculation=False))
    with pytest.raises(InputError, match="reproducible"):
        ask("r", [1], speculation=True, is_reproducible=True)
