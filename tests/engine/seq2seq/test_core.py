"""The engine of encoder-decoders equals the plain loop, and transformers, whatever its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from cynosure.core.errors import EngineFault, InputError, InputTooLong
from cynosure.engine import Cancelled, Failed, Finished, FinishReason, RefusalReason, Refused
from cynosure.engine.beam_params import BeamParams, EarlyStopping
from cynosure.engine.seq2seq.core import Seq2SeqCore
from cynosure.engine.seq2seq.runner import InputWork, LineWork
from cynosure.engine.settings import EngineSettings
from cynosure.models.encoder_decoder import EncoderDecoder
from cynosure.models.seq2seq import generate_seq2seq
from tests.engine.engine_cases import Ear, run_to_end
from tests.engine.seq2seq_cases import SMALL, ask, new_core, pair_of, searched
from tests.models.t5_oracle import ids

BLOCK = SMALL.block_size


@pytest.fixture(scope="module")
def graph() -> EncoderDecoder:
    return pair_of().graph


def plain(graph: EncoderDecoder, prompt: Sequence[int], max_tokens: int = 8) -> list[int]:
    return generate_seq2seq(graph, [prompt], start_id=0, max_new_tokens=max_tokens)[0]


def run(core: Seq2SeqCore, **requests: object) -> Ear:
    ear = Ear()
    for request in requests.values():
        core.add(request, ear)  # type: ignore[arg-type]
    run_to_end(core)  # type: ignore[arg-type]
    return ear


@pytest.mark.parametrize("length", [1, BLOCK - 1, BLOCK, BLOCK + 1, 90])
@pytest.mark.parametrize("num_new", [1, BLOCK, BLOCK + 1])
def test_greedy_is_the_plain_loop_token_for_token(graph: EncoderDecoder, length: int, num_new: int) -> None:
    prompt = ids(length, length)
    ear = run(new_core(graph), r=ask("r", prompt, num_new))
    assert ear.tokens("r") == plain(graph, prompt, num_new)
    end = ear.end("r")
    assert isinstance(end, Finished)
    assert end.reason is FinishReason.LENGTH
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (length, num_new)


def test_many_requests_give_what_each_gives_alone(graph: EncoderDecoder) -> None:
    core, ear = new_core(graph), Ear()
    prompts = [ids(length, length) for length in (33, 1, 90, 8, 7, 40, 21, 60, 5, 30)]
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 4 + index), ear)
        core.step(float(index))  # they come while others are being answered
        core.check_integrity()
    run_to_end(core)  # type: ignore[arg-type]
    for index, prompt in enumerate(prompts):
        assert ear.tokens(f"r{index}") == plain(graph, prompt, 4 + index)


def test_an_end_token_ends_its_answer_and_the_others_go_on(graph: EncoderDecoder) -> None:
    prompts = [ids(20, 1), ids(30, 2)]
    answers = [plain(graph, prompt, 12) for prompt in prompts]
    ends = next(token for token in answers[0] if token not in answers[1])
    core, ear, lines = new_core(graph, eos_token_ids=[ends]), Ear(), []
    right = core._runner.decode

    def count(work: Sequence[LineWork]) -> torch.Tensor:
        lines.append(len(work))
        return right(work)

    core._runner.decode = count  # type: ignore[method-assign]
    for index, prompt in enumerate(prompts):
        core.add(ask(f"r{index}", prompt, 12), ear)
    run_to_end(core)  # type: ignore[arg-type]
    length = answers[0].index(ends) + 1
    assert ear.tokens("r0") == answers[0][:length]
    assert ear.end("r0").reason is FinishReason.EOS  # type: ignore[union-attr]
    assert ear.tokens("r1") == answers[1]
    assert lines == [2] * length + [1] * (12 - length)


def test_sampling_is_the_same_in_any_company(graph: EncoderDecoder) -> None:
    drawn = {"temperature": 1.3, "top_p": 0.9, "seed": 5, "repetition_penalty": 1.2, "logprobs": 2}
    alone = run(new_core(graph), r=ask("r", ids(20, 1), 12, **drawn))
    others = {f"o{index}": ask(f"o{index}", ids(10, index), 9) for index in range(4)}
    together = run(new_core(graph), r=ask("r", ids(20, 1), 12, **drawn), **others)
    assert together.tokens("r") == alone.tokens("r") != plain(graph, ids(20, 1), 12)
    assert len(alone.events["r"][0].top_logprobs) == 2  # type: ignore[union-attr]


def test_reproducible_answers_are_bitwise_those_alone(graph: EncoderDecoder) -> None:
    alone = run(new_core(graph), r=ask("r", ids(20, 1), 10, is_reproducible=True))
    others = {f"o{index}": ask(f"o{index}", ids(10 + index, index), 9) for index in range(5)}
    together = run(new_core(graph), **others, r=ask("r", ids(20, 1), 10, is_reproducible=True))
    assert together.logprobs("r") == alone.logprobs("r")
    assert together.tokens("r") == alone.tokens("r")


def test_logprobs_are_those_of_transformers() -> None:
    pair, prompt = pair_of("v1"), ids(25, 4)
    ear = run(new_core(pair.graph), r=ask("r", prompt, 6))
    given = torch.tensor([[0, *ear.tokens("r")[:-1]]])
    with torch.inference_mode():
        logits = pair.oracle(input_ids=torch.tensor([prompt]), decoder_input_ids=given).logits[0]
    expected = logits.log_softmax(-1).gather(1, torch.tensor(ear.tokens("r"))[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(ear.logprobs("r")), expected, atol=1e-4, rtol=1e-4)


class TestInputs:
    """Encoded inputs are shared within a tenant, and never beyond."""

    @staticmethod
    def cached(ear: Ear, request_id: str) -> int:
        return ear.end(request_id).usage.cached_tokens  # type: ignore[union-attr]

    def test_the_same_input_is_encoded_once_for_a_tenant(self, graph: EncoderDecoder) -> None:
        core, prompt, encoded = new_core(graph), ids(30, 3), []
        right = core._runner.encode

        def count(work: Sequence[InputWork]) -> None:
            encoded.extend(item.content for item in work)
            right(work)

        core._runner.encode = count  # type: ignore[method-assign]
        both = {name: ask(name, prompt, tenant="a") for name in ("first", "beside")}
        ear = run(core, **both)
        assert sorted(self.cached(ear, name) for name in both) == [0, 30]
        assert self.cached(run(core, r=ask("later", prompt, tenant="a")), "later") == 30
        assert len(encoded) == 1
        strange = run(core, r=ask("other", prompt, tenant="b"))
        assert self.cached(strange, "other") == 0
        assert len(encoded) == 2
        assert strange.tokens("other") == ear.tokens("first") == ear.tokens("beside") == plain(graph, prompt)

    def test_reproducible_inputs_are_kept_apart(self, graph: EncoderDecoder) -> None:
        core, prompt = new_core(graph), ids(30, 3)
        run(core, r=ask("plain", prompt))
        assert self.cached(run(core, r=ask("exact", prompt, is_reproducible=True)), "exact") == 0
        assert self.cached(run(core, r=ask("again", prompt, is_reproducible=True)), "again") == 30

    def test_without_a_prefix_cache_nothing_is_shared(self, graph: EncoderDecoder) -> None:
        settings = EngineSettings(kv_cache_bytes=1 << 20, block_size=8, has_prefix_cache=False)
        core, prompt = new_core(graph, settings), ids(30, 3)
        ear = run(core, a=ask("a", prompt), b=ask("b", prompt))
        assert [self.cached(ear, name) for name in "ab"] == [0, 0]
        assert core.snapshot.num_free_blocks == core.snapshot.num_blocks

    def test_what_nobody_reads_gives_way_oldest_first(self, graph: EncoderDecoder) -> None:
        per_block = 2 * 2 * 4 * 12 * 8 * 4  # layers, k and v, heads, width, tokens, bytes
        settings = EngineSettings(kv_cache_bytes=10 * per_block, block_size=8)
        core = new_core(graph, settings)
        assert core.snapshot.num_blocks == 10
        for name in ("old", "new"):
            run(core, r=ask(name, ids(30, len(name) + ord(name[0])), 8))
        run(core, r=ask("again", ids(30, 3 + ord("o")), 8))  # read last now
        ear = run(core, r=ask("large", ids(33, 9), 8))
        assert isinstance(ear.end("large"), Finished)
        assert self.cached(run(core, r=ask("kept", ids(30, 3 + ord("o")), 1)), "kept") == 30
        assert self.cached(run(core, r=ask("gone", ids(30, 3 + ord("n")), 1)), "gone") == 0


class TestMemory:
    def test_who_can_never_fit_is_refused_and_others_wait_for_room(self, graph: EncoderDecoder) -> None:
        per_block = 2 * 2 * 4 * 12 * 8 * 4
        core = new_core(graph, EngineSettings(kv_cache_bytes=8 * per_block, block_size=8))
        requests = {f"r{index}": ask(f"r{index}", ids(20, index), 16) for index in range(5)}
        ear = run(core, large=ask("large", ids(20, 9), 60), **requests)
        end = ear.end("large")
        assert isinstance(end, Refused)
        assert end.reason is RefusalReason.TOO_LARGE
        for index in range(5):
            assert ear.tokens(f"r{index}") == plain(graph, ids(20, index), 16)

    def test_aborts_leave_nothing_behind(self, graph: EncoderDecoder) -> None:
        core, ear = new_core(graph), Ear()
        for index in range(60):
            beams = BeamParams(3) if index % 3 == 0 else None
            core.add(ask(f"r{index}", ids(10, index % 5), 30, beams=beams), ear)
            if index % 2:
                core.step(float(index))
            core.cancel(f"r{index - index % 7}")
            core.check_integrity()
        for index in range(60):
            core.cancel(f"r{index}")
        core.check_integrity()
        now = core.snapshot
        assert now.num_free_blocks + now.num_cached_blocks == now.num_blocks
        assert all(isinstance(ear.end(f"r{index}"), Cancelled | Finished) for index in range(60))

    def test_a_deadline_that_passed_is_refused(self, graph: EncoderDecoder) -> None:
        core, ear = new_core(graph), Ear()
        request = ask("late", ids(5, 1))
        core.add(type(request)(**{**vars(request), "deadline_s": 1.0}), ear)
        core.step(2.0)
        end = ear.end("late")
        assert isinstance(end, Refused)
        assert end.reason is RefusalReason.DEADLINE


class TestFaults:
    def test_a_pass_that_raises_fails_only_who_raises_alone(self, graph: EncoderDecoder) -> None:
        core = new_core(graph)
        right_encode, right_decode = core._runner.encode, core._runner.decode

        def encode(work: Sequence[InputWork]) -> None:
            if any(item.content == (150, 3, 4) for item in work):
                raise RuntimeError("a bad input")
            right_encode(work)

        def decode(work: Sequence[LineWork]) -> torch.Tensor:
            if any(item.input_len == 13 and item.past_len == 2 for item in work):
                raise RuntimeError("a bad step")
            return right_decode(work)

        core._runner.encode, core._runner.decode = encode, decode  # type: ignore[method-assign]
        good = {f"r{index}": ask(f"r{index}", ids(20, index)) for index in range(3)}
        ear = run(core, input=ask("input", [150, 3, 4]), step=ask("step", ids(13, 1)), **good)
        for name, word in (("input", "a bad input"), ("step", "a bad step")):
            end = ear.end(name)
            assert isinstance(end, Failed)
            assert isinstance(end.error, EngineFault)
            assert word in str(end.error)
        assert len(ear.tokens("step")) == 2
        for index in range(3):
            assert ear.tokens(f"r{index}") == plain(graph, ids(20, index))

    def test_nan_logits_fail_their_own_row(self, graph: EncoderDecoder) -> None:
        core = new_core(graph)
        right = core._runner.decode

        def decode(work: Sequence[LineWork]) -> torch.Tensor:
            logits = right(work).clone()
            for row, item in enumerate(work):
                if item.input_len == 13:
                    logits[row] = float("nan")
            return logits

        core._runner.decode = decode  # type: ignore[method-assign]
        requests = {
            "bad": ask("bad", ids(13, 1)),
            "beams": ask("beams", ids(13, 1), beams=BeamParams(3)),
            "good": ask("good", ids(20, 2)),
        }
        ear = run(core, **requests)
        assert isinstance(ear.end("bad"), Failed)
        assert isinstance(ear.end("beams"), Failed)
        assert ear.tokens("good") == plain(graph, ids(20, 2))

    def test_a_broken_input_is_kept_for_nobody(self, graph: EncoderDecoder) -> None:
        core = new_core(graph)
        spoil = graph.embed.register_forward_hook(lambda _, __, embedded: embedded * float("nan"))
        try:
            ear = run(core, bad=ask("bad", ids(20, 3)))
        finally:
            spoil.remove()
        assert isinstance(ear.end("bad"), Failed)
        ear = run(core, good=ask("good", ids(20, 3)))
        assert ear.tokens("good") == plain(graph, ids(20, 3))

    def test_an_ear_that_breaks_is_cancelled(self, graph: EncoderDecoder) -> None:
        def broken(event: object) -> None:
            raise RuntimeError("gone")

        core, ear = new_core(graph), Ear()
        core.add(ask("gone", ids(9, 1), 30), broken)
        core.add(ask("here", ids(9, 2)), ear)
        run_to_end(core)  # type: ignore[arg-type]
        assert ear.tokens("here") == plain(graph, ids(9, 2))

    def test_what_makes_no_sense_is_refused_by_name(self, graph: EncoderDecoder) -> None:
        core = new_core(graph)
        with pytest.raises(InputError, match="vocabulary"):
            core.check(ask("r", [10**6]))
        with pytest.raises(InputError, match="prompt_logprobs"):
            core.check(ask("r", [1], prompt_logprobs=1))
        with pytest.raises(InputError, match="two pages"):
            new_core(graph, EngineSettings(kv_cache_bytes=1))

    def test_reading_alone_chooses_nothing(self, graph: EncoderDecoder) -> None:
        ear = run(new_core(graph), r=ask("r", ids(9, 1), 0))
        assert ear.tokens("r") == []
        assert isinstance(ear.end("r"), Finished)


BEAMS = [
    BeamParams(num_beams, penalty, stopping)
    for num_beams in (2, 4)
    for penalty in (-1.0, 0.0, 1.0, 2.0)
    for stopping in EarlyStopping
]


@pytest.mark.parametrize(("variant", "part"), [("v1", 0), ("v1.1", 1)])
def test_beam_search_is_that_of_transformers(variant: str, part: int) -> None:
    pair, lengths = pair_of(variant), set()
    for index, beams in list(enumerate(BEAMS))[part::2]:
        prompt = ids(5 + 3 * index, index)
        # An end token that some beams meet early and others late.
        ends = plain(pair.graph, prompt, 10)[3 + index % 5]
        core = new_core(pair.graph, eos_token_ids=[ends])
        ear = run(core, r=ask("r", prompt, 10, beams=beams))
        expected = searched(pair.oracle, prompt, beams, 10, ends)
        assert ear.tokens("r") == expected, f"{beams} with the end token {ends}"
        lengths.add(len(expected))
    assert len(lengths) > 3, "the cases end at different lengths"


def test_beams_in_company_give_what_they_give_alone(graph: EncoderDecoder) -> None:
    beams = BeamParams(4)
    requests = {f"b{index}": ask(f"b{index}", ids(15 + index, index), 9, beams=beams) for index in range(4)}
    requests |= {f"g{index}": ask(f"g{index}", ids(11 + index, index), 9) for index in range(3)}
    together = run(new_core(graph), **requests)
    oracle = pair_of().oracle
    for index in range(4):
        assert together.tokens(f"b{index}") == searched(oracle, ids(15 + index, index), beams, 9, None)
    for index in range(3):
        assert together.tokens(f"g{index}") == plain(graph, ids(11 + index, index), 9)


def test_penalties_and_the_least_length_hold_along_beams(graph: EncoderDecoder) -> None:
    prompt, beams = ids(20, 6), BeamParams(3)
    ends = plain(graph, prompt, 3)[1]
    options = {"repetition_penalty": 1.7, "min_tokens": 6}
    core = new_core(graph, eos_token_ids=[ends])
    ear = run(core, r=ask("r", prompt, 12, beams=beams, **options))
    expected = searched(pair_of().oracle, prompt, beams, 12, ends, repetition_penalty=1.7, min_new_tokens=6)
    assert ear.tokens("r") == expected
    assert ear.tokens("r") != searched(pair_of().oracle, prompt, beams, 12, ends)


def test_beams_need_a_greedy_request() -> None:
    with pytest.raises(InputError, match="temperature"):
        ask("r", [1], temperature=0.5, beams=BeamParams(2))
    with pytest.raises(InputError, match="num_beams is 1"):
        BeamParams(1)
    with pytest.raises(InputError, match="length_penalty"):
        BeamParams(2, float("nan"))


def test_too_long_is_refused_for_prompt_and_answer_apart() -> None:
    core = new_core(pair_of().graph)
    spec = core._runner.graph.spec
    core._runner.graph.spec = replace(spec, max_model_len=20, max_input_len=20)
    try:
        core.check(ask("r", ids(20, 1), 20))
        for prompt, answer in ((21, 1), (1, 21)):
            with pytest.raises(InputTooLong, match="the limit is 20"):
                core.check(ask("r", ids(prompt, 1), answer))
    finally:
        core._runner.graph.spec = spec


def test_a_cache_in_eight_bits_changes_little(graph: EncoderDecoder) -> None:
    settings = EngineSettings(kv_cache_bytes=1 << 20, block_size=8, kv_cache_dtype="int8")
    core, prompt = new_core(graph, settings), ids(30, 3)
    first = run(core, r=ask("r", prompt, 1)).logprobs("r")[0]
    exact = run(new_core(graph), r=ask("r", prompt, 1)).logprobs("r")[0]
    assert 0 < abs(first - exact) < 0.1
    again = run(core, r=ask("again", prompt, 12))
    assert again.tokens("again") == run(new_core(graph, settings), r=ask("r", prompt, 12)).tokens("r")
