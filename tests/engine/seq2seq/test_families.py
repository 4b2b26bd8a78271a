"""Every encoder-decoder gives through the engine what the plain loop gives, and beams as transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from transformers import GenerationMixin

from cynosure.core.errors import InputError
from cynosure.engine import Finished, Request
from cynosure.engine.answer_rules import AnswerRules
from cynosure.engine.beam_params import BeamParams, EarlyStopping
from cynosure.engine.features import Features
from cynosure.engine.seq2seq.core import Seq2SeqCore
from cynosure.engine.settings import EngineSettings
from cynosure.models.seq2seq import answer_from
from tests.engine.engine_cases import Ear, run_to_end
from tests.engine.seq2seq_cases import EARLY, SMALL, ask
from tests.models import seq2seq_oracle as oracle
from tests.models.seq2seq_cases import CASES, MAX_LEN, ids
from tests.models.seq2seq_oracle import Pair, Prompt

FIRST = [*{case.architecture: name for name, case in reversed(CASES.items())}.values(), "longt5-global"]
#: What a Whisper's answer begins with: tokens for the language and the task.
TASK = (2, 31, 32, 33)


def new_core(
    pair: Pair,
    eos_token_ids: Sequence[int] = (),
    settings: EngineSettings = SMALL,
    **rules: object,
) -> Seq2SeqCore:
    own = AnswerRules(pair.start, **rules)  # type: ignore[arg-type]
    return Seq2SeqCore(pair.graph, eos_token_ids, settings, rules=own, model_id="tiny")


def request(pair: Pair, name: str, prompt: Prompt, max_tokens: int = 8, **options: object) -> Request:
    """Ask for an answer to a prompt, whatever the model reads."""
    if isinstance(prompt, list):
        return ask(name, prompt, max_tokens, **options)  # type: ignore[arg-type]
    asked = ask(name, TASK, max_tokens, **options)  # type: ignore[arg-type]
    return replace(asked, features=Features.of(prompt.numpy()))


def start_of(pair: Pair) -> list[int]:
    return list(TASK) if pair.case.has_features else [pair.start]


def plain(pair: Pair, prompt: Prompt, max_tokens: int = 8) -> list[int]:
    memory = oracle.encoded(pair.graph, [prompt])
    return answer_from(pair.graph, memory, [start_of(pair)], max_new_tokens=max_tokens)[0]


def run(core: Seq2SeqCore, *requests: Request) -> Ear:
    ear = Ear()
    for one in requests:
        core.check(one)
        core.add(one, ear)
        core.step(0.0)
        core.check_integrity()
    run_to_end(core)  # type: ignore[arg-type]
    return ear


@torch.inference_mode()
def searched(
    pair: Pair, prompt: Prompt, beams: BeamParams, max_tokens: int, ends: int, **options: object
) -> list[int]:
    """What transformers' beam search gives; of Whisper the plain one, without its windows over long audio."""
    begins = start_of(pair)
    asked: dict[str, object] = {
        "num_beams": beams.num_beams,
        "length_penalty": beams.length_penalty,
        "early_stopping": EARLY[beams.early_stopping],
        "begin_suppress_tokens": None,
        **options,
    }
    found = GenerationMixin.generate(
        pair.oracle,
        **oracle.given(pair, prompt),
        decoder_input_ids=torch.tensor([begins]),
        do_sample=False,
        max_new_tokens=max_tokens,
        eos_token_id=ends,
        pad_token_id=1,
        **asked,
    )
    return found[0, len(begins) :].tolist()


@pytest.mark.parametrize("name", FIRST)
def test_a_mixed_batch_gives_each_what_it_gets_alone(name: str) -> None:
    pair = oracle.pair_of(name)
    prompts = [pair.prompt(length, length) for length in (33, 1, 90, 8)]
    ear = run(
        new_core(pair), *(request(pair, f"r{i}", prompt, 4 + 3 * i) for i, prompt in enumerate(prompts))
    )
    answers = [ear.tokens(f"r{i}") for i in range(len(prompts))]
    assert answers == [plain(pair, prompt, 4 + 3 * i) for i, prompt in enumerate(prompts)]
    assert len({tuple(answer[:4]) for answer in answers}) > 1, "they answer their own prompts"


@pytest.mark.parametrize("name", FIRST)
def test_logprobs_are_those_of_transformers(name: str) -> None:
    pair, prompt = oracle.pair_of(name), oracle.pair_of(name).prompt(25, 4)
    ear = run(new_core(pair), request(pair, "r", prompt, 6))
    begins, tokens = start_of(pair), ear.tokens("r")
    with torch.inference_mode():
        logits = oracle.theirs(pair, prompt, [*begins, *tokens[:-1]])[len(begins) - 1 :]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(ear.logprobs("r")), expected, atol=1e-4, rtol=1e-4)
    assert tokens == logits.argmax(-1).tolist()


BEAMS = (
    BeamParams(2, 1.0, EarlyStopping.HEURISTIC),
    BeamParams(4, -1.0, EarlyStopping.FULL),
    BeamParams(4, 2.0, EarlyStopping.NEVER),
    BeamParams(2, 0.0, EarlyStopping.FULL),
)


@pytest.mark.parametrize("name", FIRST)
def test_beam_search_is_that_of_transformers(name: str) -> None:
    pair = oracle.pair_of(name)
    # Half of them for each, so that every brand and every kind has its turn.
    for index, beams in list(enumerate(BEAMS))[FIRST.index(name) % 2 :: 2]:
        prompt = pair.prompt(5 + 9 * index, index)
        # An end token that some beams meet early and others late.
        ends = plain(pair, prompt, 10)[3 + index]
        ear = run(new_core(pair, [ends]), request(pair, "r", prompt, 10, beams=beams))
        assert ear.tokens("r") == searched(pair, prompt, beams, 10, ends), f"{beams}"


@pytest.mark.parametrize("name", FIRST)
def test_the_same_input_is_encoded_once_for_a_tenant(name: str) -> None:
    pair = oracle.pair_of(name)
    core, prompt = new_core(pair), pair.prompt(30, 3)
    num_input = 30
    ear = run(
        core,
        *(request(pair, str(i), prompt, tenant=tenant) for i, tenant in enumerate("aab")),
        request(pair, "3", pair.prompt(29, 4), tenant="a"),
    )
    usages = [ear.end(str(i)).usage for i in range(4)]  # type: ignore[union-attr]
    assert [usage.cached_tokens for usage in usages] == [0, num_input, 0, 0]
    assert usages[0].prompt_tokens == num_input + (len(TASK) if pair.case.has_features else 0)
    assert ear.tokens("0") == ear.tokens("1") == ear.tokens("2") == plain(pair, prompt)


def test_what_an_answer_begins_with_is_read_in_one_pass_however_long() -> None:
    pair = oracle.pair_of("whisper")
    prompt, settings = pair.prompt(0, 1), replace(SMALL, kv_cache_bytes=1 << 22)
    for length in (1, 7, 8, 9, 64):
        begins = [2, *ids(length - 1, length)]
        asked = replace(request(pair, "r", prompt, 5), token_ids=tuple(begins))
        ear = run(new_core(pair, settings=settings), asked, replace(request(pair, "o", prompt)))
        memory = oracle.encoded(pair.graph, [prompt])
        assert ear.tokens("r") == answer_from(pair.graph, memory, [begins], max_new_tokens=5)[0]


def test_beams_begin_with_all_that_an_answer_begins_with() -> None:
    """So that pages of a long beginning are shared between beams, and each writes to its own."""
    pair, beams = oracle.pair_of("whisper"), BeamParams(3)
    prompt = pair.prompt(0, 8)
    core = new_core(pair, settings=replace(SMALL, kv_cache_bytes=1 << 22))
    asked = replace(request(pair, "r", prompt, 9, beams=beams), token_ids=(2, *ids(12, 1)))
    ear = run(core, asked, request(pair, "o", prompt, 9, beams=beams))
    assert ear.tokens("o") == searched(pair, prompt, beams, 9, -1)
    assert len(ear.tokens("r")) == 9
    assert core.snapshot.num_free_blocks + core.snapshot.num_cached_blocks == core.snapshot.num_blocks


def test_the_last_position_is_reached_and_none_behind_it() -> None:
    pair = oracle.pair_of("bart")
    core = new_core(pair, settings=replace(SMALL, kv_cache_bytes=1 << 22))
    ear = run(core, ask("r", ids(MAX_LEN, 1), MAX_LEN))
    assert isinstance(ear.end("r"), Finished)
    assert len(ear.tokens("r")) == MAX_LEN
    for prompt, answer in ((MAX_LEN + 1, 1), (1, MAX_LEN + 1)):
        with pytest.raises(InputError, match=f"the limit is {MAX_LEN}"):
            core.check(ask("r", ids(prompt, 1), answer))


@pytest.mark.parametrize("beams", BEAMS)
def test_a_first_token_that_the_checkpoint_names_is_said_first(beams: BeamParams) -> None:
    """BART's summaries begin with it, and mBART's translations say their language by it."""
    pair, prompt = oracle.pair_of("mbart"), oracle.pair_of("mbart").prompt(20, 6)
    greedy, wide = request(pair, "greedy", prompt, 9), request(pair, "wide", prompt, 9, beams=beams)
    ends = run(new_core(pair, first_id=17), greedy).tokens("greedy")[5]
    ear = run(new_core(pair, [ends], first_id=17), greedy, wide)
    memory = oracle.encoded(pair.graph, [prompt])
    rest = answer_from(pair.graph, memory, [[pair.start, 17]], max_new_tokens=8, eos_ids=[ends])[0]
    assert ear.tokens("greedy") == [17, *rest]
    assert ear.tokens("wide") == searched(pair, prompt, beams, 9, ends, forced_bos_token_id=17)


def test_a_first_token_is_not_put_before_what_a_request_begins_with() -> None:
    pair, prompt = oracle.pair_of("whisper"), oracle.pair_of("whisper").prompt(0, 6)
    ear = run(new_core(pair, first_id=17), request(pair, "r", prompt, 4))
    assert ear.tokens("r") == plain(pair, prompt, 4)


@pytest.mark.parametrize("name", ["whisper", "marian"])
@pytest.mark.parametrize("beams", [None, *BEAMS[:2]])
def test_what_a_checkpoint_holds_back_is_not_said(name: str, beams: BeamParams | None) -> None:
    """Marian never says its padding again, and Whisper no word for silence."""
    pair = oracle.pair_of(name)
    prompt = pair.prompt(20, 6)
    free = plain(pair, prompt, 6)
    never, first = free[-1], next(token for token in [*free, 50] if token != free[-1])
    core = new_core(pair, banned=frozenset({never}), banned_first=frozenset({first, free[0]}))
    told = run(core, request(pair, "r", prompt, 8, beams=beams)).tokens("r")
    assert never not in told
    assert told[0] not in (first, free[0])
    expected = searched(
        pair,
        prompt,
        beams or BeamParams(2),
        8,
        -1,
        suppress_tokens=[never],
        begin_suppress_tokens=[first, free[0]],
        **({} if beams else {"num_beams": 1}),
    )
    assert told == expected
