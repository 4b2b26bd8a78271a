"""Ask models of every kind in one pool, at once, and compare with each alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import pytest

from cynosure.core.errors import EmptyInput, EngineBusy, EngineFault, InputError, InputTooLong, NotFound
from cynosure.engine import Cancelled, Failed, Finished, SamplingParams
from cynosure.engine.features import Features
from cynosure.engine.pool import ModelRole
from cynosure.engine.pool.pool import ModelPool
from cynosure.engine.turnstile import Turnstile, _Ticket
from cynosure.models.cross_encoder import load_cross_encoder
from cynosure.models.embedder import Embedder, load_embedder
from cynosure.models.seq2seq import answer_from, generate_seq2seq
from cynosure.models.text.tokenizer import Encoding
from tests.engine.pool.pool_cases import Waiting, ask, folder_of, served, settings
from tests.engine.test_core import plain, prompts_of
from tests.models import seq2seq_cases, seq2seq_oracle, t5_oracle
from tests.models.decoder_oracle import pair_of

KINDS = ("llama", "gpt2", "t5", "embedder", "ranker", "classifier")
TEXTS = ["the centre of attention", "a sailor steers by the pole star", "café", "star " * 9]
PAIRS = [("where is the star", "a sailor steers by the pole star"), ("café", "the eyes of all")]


@pytest.fixture(scope="module")
def pool() -> Iterator[ModelPool]:
    pool = ModelPool([served(kind) for kind in KINDS], settings())
    yield pool
    pool.close()


def test_what_reads_features_answers_them_and_no_tokens() -> None:
    pair = seq2seq_oracle.pair_of("whisper")
    prompt = seq2seq_cases.frames(3)
    asked = replace(ask("r", [2, 31, 32]), features=Features.of(prompt.numpy()))
    with closing(ModelPool([served("whisper"), served("bart")], settings())) as pool:
        ear = Waiting()
        pool.submit("whisper", asked, ear)
        ear.wait("r")
        with pytest.raises(InputError, match="reads features of 10 bins and 60 frames"):
            pool.submit("whisper", ask("r", [2]), ear)
        with pytest.raises(InputError, match="reads tokens"):
            pool.submit("bart", asked, ear)
    memory = seq2seq_oracle.encoded(pair.graph, [prompt])
    assert ear.tokens("r") == answer_from(pair.graph, memory, [[2, 31, 32]], max_new_tokens=8)[0]


def test_all_kinds_answer_at_once_as_each_does_alone(pool: ModelPool) -> None:
    ear, prompts = Waiting(), prompts_of(3, [3, 9, 17, 30])
    futures = []
    for index, prompt in enumerate(prompts):
        for name in ("llama", "gpt2", "t5"):
            pool.submit(name, ask(f"{name}{index}", prompt), ear)
        futures.append(pool.embed("embedder", TEXTS))
        futures.append(pool.score("ranker", PAIRS))
    ear.wait(*(f"{name}{index}" for name in ("llama", "gpt2", "t5") for index in range(len(prompts))))
    t5 = t5_oracle.loaded(folder_of("t5"))
    for index, prompt in enumerate(prompts):
        for name in ("llama", "gpt2"):
            assert ear.tokens(f"{name}{index}") == plain(pair_of(name).model, prompt)
        answer = generate_seq2seq(t5, [prompt], start_id=0, max_new_tokens=8)[0]
        assert ear.tokens(f"t5{index}") == answer
    vectors = load_embedder(folder_of("embedder"), dtype="float32").embed(TEXTS)
    cross = load_cross_encoder(folder_of("ranker"))
    for embedded, scored in zip(futures[::2], futures[1::2], strict=True):
        np.testing.assert_allclose(embedded.result(60).values, vectors, atol=1e-5)
        logits = scored.result(60).values
        np.testing.assert_allclose(1 / (1 + np.exp(-logits)), cross.score(PAIRS), atol=1e-5)
        assert embedded.result().token_counts == tuple(len(cross.tokenizer.encode(text)) for text in TEXTS)
    assert all(card.is_loaded for name, card in pool.cards().items() if name != "classifier")
    assert not pool.cards()["classifier"].is_loaded


def test_what_is_wrong_is_told_by_name(pool: ModelPool) -> None:
    with pytest.raises(NotFound, match="llama"):
        pool.submit("nobody", ask("r", [1]), Waiting())
    with pytest.raises(InputError, match="it does not generate"):
        pool.submit("embedder", ask("r", [1]), Waiting())
    with pytest.raises(InputError, match="does not embed texts"):
        pool.embed("ranker", ["x"])
    with pytest.raises(InputError, match="vocabulary"):
        pool.submit("llama", ask("r", [10**6]), Waiting())
    with pytest.raises(EmptyInput):
        pool.embed("embedder", [])


def test_a_bad_text_fails_its_own_request_only(pool: ModelPool) -> None:
    good = pool.embed("embedder", TEXTS)
    bad = [pool.embed("embedder", [*TEXTS, text]) for text in (" ", "star " * 99)]
    assert good.result(60).values.shape == (4, 32)
    for future, kind in zip(bad, (EmptyInput, InputTooLong), strict=True):
        with pytest.raises(kind):
            future.result(60)


def test_one_text_or_two_are_read(pool: ModelPool) -> None:
    rows = pool.score("classifier", [("a star",), ("a star", "the pole")]).result(60)
    assert rows.values.shape == (2, 3)
    assert rows.token_counts[0] < rows.token_counts[1]
    assert pool.cards()["classifier"].activation == "softmax"


def test_evidence_is_that_of_the_embedder(pool: ModelPool) -> None:
    found = pool.attended("embedder", TEXTS[1]).result(60)
    assert found == load_embedder(folder_of("embedder"), dtype="float32").attended(TEXTS[1])


def test_evidence_of_a_pair_is_that_of_the_ranker(pool: ModelPool) -> None:
    found = pool.attended("classifier", TEXTS[1], TEXTS[0]).result(60)
    assert found == load_cross_encoder(folder_of("classifier")).attended(TEXTS[0], TEXTS[1])
    with pytest.raises(InputError, match="does not score texts"):
        pool.attended("embedder", TEXTS[1], TEXTS[0])
    with pytest.raises(InputError, match="does not embed texts"):
        pool.attended("classifier", TEXTS[1])


def test_a_cancelled_request_ends_wherever_it_is() -> None:
    pool, ear = ModelPool([served("llama")], settings()), Waiting()
    pool.submit("llama", ask("waits", [1, 2, 3], 100), ear)
    pool.cancel("llama", "waits")
    ear.wait("waits")
    pool.load("llama").result(60)
    pool.submit("llama", ask("runs", [1, 2, 3], 100), ear)
    pool.cancel("llama", "runs")
    ear.wait("runs")
    assert isinstance(ear.end("waits"), Cancelled)
    assert isinstance(ear.end("runs"), Cancelled | Finished)
    pool.close()


def test_closing_ends_everything_and_takes_nothing_more() -> None:
    pool, ear = ModelPool([served("llama"), served("embedder")], settings()), Waiting()
    pool.load("llama").result(60)
    pool.submit("llama", ask("r", [1, 2], 120), ear)
    future = pool.embed("embedder", TEXTS)
    pool.close()
    ear.wait("r")
    assert isinstance(ear.end("r"), Failed | Finished)
    wait([future], 60)
    assert future.done()
    with pytest.raises(EngineFault, match="shutting down"):
        pool.submit("llama", ask("late", [1]), ear)


def test_cards_are_read_without_weights() -> None:
    pool = ModelPool([served(kind) for kind in KINDS], settings())
    cards = pool.cards()
    assert {name: card.role for name, card in cards.items()} == {
        "llama": ModelRole.DECODER,
        "gpt2": ModelRole.DECODER,
        "t5": ModelRole.SEQ2SEQ,
        "embedder": ModelRole.EMBEDDER,
        "ranker": ModelRole.RANKER,
        "classifier": ModelRole.CLASSIFIER,
    }
    assert cards["embedder"].dim == 32
    assert cards["embedder"].max_tokens == 24
    assert cards["classifier"].labels == ("contradiction", "entailment", "neutral")
    assert not any(card.is_loaded for card in cards.values())
    pool.close()


def test_nothing_is_loaded_for_the_background() -> None:
    scored = SamplingParams(max_tokens=0, prompt_logprobs=0)
    asked = replace(ask("r", [1, 2, 3]), params=scored, is_background=True)
    with closing(ModelPool([served("llama")], settings())) as pool:
        ear = Waiting()
        with pytest.raises(EngineBusy, match="not loaded"):
            pool.submit("llama", asked, ear)
        assert not pool.cards()["llama"].is_loaded
        pool.load("llama").result(60)
        pool.submit("llama", asked, ear)
        ear.wait("r")
        assert isinstance(ear.end("r"), Finished)


def test_chat_goes_on_while_thousands_of_texts_are_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever generates waits for one bounded batch at most, and batches do get their turns."""
    went: list[str] = []
    right = Turnstile._turn

    @contextmanager
    def noted(turns: Turnstile, ticket: _Ticket) -> Iterator[None]:
        with right(turns, ticket):
            went.append("batch" if ticket.is_batch else "step")
            yield

    monkeypatch.setattr(Turnstile, "_turn", noted)
    sizes: list[int] = []
    right_run = Embedder.run

    def run(model: Embedder, encodings: Sequence[Encoding]) -> np.ndarray:
        sizes.append(sum(map(len, encodings)))
        return right_run(model, encodings)

    monkeypatch.setattr(Embedder, "run", run)
    bounds = {"max_encoding_tokens": 400, "max_shared_encoding_tokens": 60}
    pool, ear = ModelPool([served("llama"), served("embedder")], settings(**bounds)), Waiting()
    pool.load("llama").result(60)
    pool.load("embedder").result(60)
    pool.submit("llama", ask("chat", [1, 2, 3], 60), ear)
    vectors = pool.embed("embedder", ["a sailor steers by the star"] * 400)
    ear.wait("chat")
    vectors.result(60)
    pool.close()
    first = went.index("step")
    last = len(went) - went[::-1].index("step")
    between = "".join("b" if name == "batch" else "s" for name in went[first:last])
    assert between.count("s") >= 60
    assert "bb" not in between
    assert "b" in between, "the texts were not embedded beside the chat"
    while_generating = between.count("b")
    # The first may have been let in before the first step; afterwards nobody would wait for a long one.
    assert all(size <= 60 for size in sizes[1:while_generating])
