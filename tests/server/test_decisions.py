"""`/v1/decisions` through the stock client, with a decoder, a classifier and a cross-encoder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
import transformers
from openai.types.decision import Decision
from pydantic import BaseModel

from cynosure.cli.local_completer import load_completer, local_completer
from cynosure.engine.settings import EngineSettings
from cynosure.models.load import load
from cynosure.server.services import ScoreKind, Services
from tests.models.tiny_tokenizers import byte_level, write
from tests.server.chat_models import SOURCE
from tests.server.fakes import serving
from tests.server.rankers import FakeRanker

PATH = "/v1/decisions"
PREDICATE: dict[str, Any] = {"type": "predicate", "name": "p", "instructions": "It is about a star."}
CHOICE: dict[str, Any] = {
    "type": "choice",
    "instructions": "What is it about?",
    "choices": [{"value": "a star", "description": "far away"}, {"value": "ships"}, {"value": True}],
}
SCORE: dict[str, Any] = {
    "type": "score",
    "name": "s",
    "instructions": "How bright?",
    "levels": [{"label": "dark"}, {"label": "bright", "description": "much light"}],
}
INPUT = "The pole star."


@pytest.fixture(scope="module")
def oracle() -> transformers.LlamaForCausalLM:
    torch.manual_seed(5)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = transformers.LlamaConfig(
        vocab_size=325, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=400, bos_token_id=None, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return model


@pytest.fixture(scope="module")
def client(
    oracle: transformers.LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[openai.OpenAI]:
    folders = {name: tmp_path_factory.mktemp(name) for name in ("plain", "chat")}
    for folder in folders.values():
        oracle.save_pretrained(folder)
        write(folder, byte_level())
    (folders["chat"] / "chat_template.jinja").write_text(SOURCE)
    rankers = [
        FakeRanker("labelled", ("star", "ship", "sea"), ScoreKind.SHARES),
        FakeRanker("many", ("star", "ship"), ScoreKind.CHANCES),
        FakeRanker("cross"),
        FakeRanker("numbers", kind=ScoreKind.NUMBERS),
    ]

    def serve(_: object) -> Services:
        completers = {name: load_completer(name, folder, dtype="float32") for name, folder in folders.items()}
        forgetful = load(folders["chat"], dtype="float32")
        off = EngineSettings(has_prefix_cache=False)
        completers["forgetful"] = local_completer("forgetful", forgetful, off)
        return Services({}, {}, completers, int(time.time()), {ranker.name: ranker for ranker in rankers})

    with (
        serving(serve, wait_s=60) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        yield made


def _logprob(oracle: transformers.LlamaForCausalLM, ids: list[int], start: int) -> float:
    with torch.no_grad():
        logprobs = oracle(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(logprobs[at - 1, ids[at]] for at in range(start, len(ids))))


def _expected(
    oracle: transformers.LlamaForCausalLM, prompt: str, answers: list[str]
) -> tuple[list[float], float]:
    tokenizer = byte_level()
    before = tokenizer.encode(prompt, add_special_tokens=False).ids
    sums = [
        _logprob(oracle, before + tokenizer.encode(answer, add_special_tokens=False).ids, len(before))
        for answer in answers
    ]
    total = np.logaddexp.reduce(sums)
    return np.exp(np.array(sums) - total).tolist(), float(np.exp(total))


def _decide(client: openai.OpenAI, model: str, *questions: dict[str, Any], **more: object) -> Decision:
    asked: dict[str, Any] = {"input": INPUT} | more
    return client.decisions.create(model=model, questions=list(questions), **asked)


def _coverage(answer: BaseModel) -> float:
    return answer.model_dump()["coverage"]


PROMPTS = {
    "predicate": "The pole star.\n\nIs this statement true of what is above?\nIt is about a star.\n"
    "Answer Yes or No, and nothing else.",
    "choice": "The pole star.\n\nA question about what is above:\nWhat is it about?\n"
    "Answer with one of these, and nothing else:\n- a star: far away\n- ships\n- true",
    "score": "The pole star.\n\nA question about what is above:\nHow bright?\n"
    "Answer with one of these, and nothing else:\n- dark\n- bright: much light",
}


@pytest.mark.parametrize("model", ["chat", "plain"])
def test_chances_are_those_of_the_whole_answers(
    client: openai.OpenAI, oracle: transformers.LlamaForCausalLM, model: str
) -> None:
    def expected(kind: str, *answers: str) -> tuple[list[float], float]:
        if model == "chat":
            prompt = f"<|im_start|>user\n{PROMPTS[kind]}<|im_end|>\n<|im_start|>assistant\n"
            return _expected(oracle, prompt, list(answers))
        return _expected(oracle, f"{PROMPTS[kind]}\nAnswer:", [f" {answer}" for answer in answers])

    found = _decide(client, model, PREDICATE, CHOICE, SCORE)
    predicate, choice, score = found.answers
    assert predicate.type == "predicate"
    chances, coverage = expected("predicate", "Yes", "No")
    assert predicate.name == "p"
    assert predicate.probability == pytest.approx(chances[0], rel=1e-4)
    assert _coverage(predicate) == pytest.approx(coverage, rel=1e-4)
    assert choice.type == "choice"
    chances, coverage = expected("choice", "a star", "ships", "true")
    assert [one.probability for one in choice.probabilities] == pytest.approx(chances, rel=1e-4)
    assert [one.value for one in choice.probabilities] == ["a star", "ships", True]
    assert choice.choice == ["a star", "ships", True][int(np.argmax(chances))]
    assert choice.confidence == pytest.approx(max(chances), rel=1e-4)
    assert _coverage(choice) == pytest.approx(coverage, rel=1e-4)
    assert choice.name is None
    assert score.type == "score"
    chances, _ = expected("score", "dark", "bright")
    assert score.score == pytest.approx(chances[1], rel=1e-4)
    assert [(one.label, one.value) for one in score.probabilities] == [("dark", 0), ("bright", 1)]
    assert found.usage.input_tokens > 0
    assert found.usage.output_tokens == 0


@pytest.mark.parametrize("model", ["chat", "forgetful"])
def test_the_input_is_read_once(client: openai.OpenAI, model: str) -> None:
    """Whether pages are kept between requests or not: these are shared within one."""
    found = _decide(client, model, PREDICATE, CHOICE, SCORE, input=f"{model}: " + "the pole star. " * 12)
    usage = found.usage
    computed = usage.input_tokens - usage.input_tokens_details.cached_tokens
    num_answers, longest = 7, usage.input_tokens // 7
    # What comes behind the input, and the part of a page before it, is read for each answer.
    assert longest > 150
    assert computed < longest + num_answers * 110
    assert usage.input_tokens_details.cached_tokens > usage.input_tokens / 3
    plain = _decide(client, "chat", PREDICATE, CHOICE, SCORE, input=f"{model}: " + "the pole star. " * 12)
    for one, other in zip(found.answers, plain.answers, strict=True):
        assert one.model_dump_json() == pytest.approx(other.model_dump_json()) or (
            _coverage(one) == pytest.approx(_coverage(other), rel=1e-4)
        )


def test_a_conversation_is_judged_too(client: openai.OpenAI) -> None:
    said: Any = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]},
    ]
    [found] = _decide(client, "chat", PREDICATE, input=said).answers
    assert found.type == "predicate"
    [other] = _decide(client, "chat", PREDICATE, input=said[:1]).answers
    assert other.type == "predicate"
    assert 0 < found.probability < 1
    assert found.probability != other.probability


def test_a_classifier_s_labels_are_chosen_among(client: openai.OpenAI) -> None:
    words = [{"value": "star"}, {"value": "ship"}]
    answer = _decide(client, "labelled", {"type": "choice", "choices": words}, input="a star").answers[0]
    assert answer.type == "choice"
    shares = np.exp([1.0, 0.0, 0.0]) / np.exp([1.0, 0.0, 0.0]).sum()
    expected = shares[:2] / shares[:2].sum()
    assert [one.probability for one in answer.probabilities] == pytest.approx(expected.tolist())
    assert _coverage(answer) == pytest.approx(float(shares[:2].sum()))
    assert answer.choice == "star"


def test_a_cross_encoder_judges_a_statement(client: openai.OpenAI) -> None:
    found = _decide(client, "cross", PREDICATE, PREDICATE | {"instructions": "ships"}, input="a star")
    chances = [answer.probability for answer in found.answers if answer.type == "predicate"]
    assert chances == pytest.approx([1 / (1 + np.exp(-1.0)), 0.5])
    assert found.usage.input_tokens == 7 + 3


@pytest.mark.parametrize(
    ("model", "question", "words"),
    [
        ("chat", {"type": "predicate"}, ["questions[0]", "instructions"]),
        ("chat", CHOICE | {"choices": [{"value": "no"}, {"value": "not"}]}, ["'not'", "'no'", "apart"]),
        ("chat", CHOICE | {"choices": [{"value": "true"}, {"value": True}]}, ["'true'", "apart"]),
        ("chat", CHOICE | {"choices": [{"value": "a"}, {"value": "a"}]}, ["twice"]),
        ("chat", CHOICE | {"choices": [{"value": "a"}]}, ["at least 2"]),
        ("chat", SCORE | {"levels": [{"label": str(n)} for n in range(11)]}, ["at most 10"]),
        ("chat", {"type": "guess", "instructions": "?"}, ["guess"]),
        ("labelled", CHOICE, ["reads no instructions"]),
        ("labelled", {"type": "predicate"}, ["3 labels", "star, ship, sea"]),
        ("labelled", {"type": "choice", "choices": CHOICE["choices"]}, ["'a star'", "no label"]),
        ("many", {"type": "choice", "choices": [{"value": "star"}, {"value": "ship"}]}, ["exclude"]),
        ("cross", {"type": "predicate"}, ["instructions"]),
        ("numbers", PREDICATE, ["no chances"]),
    ],
)
def test_what_can_not_be_decided_is_refused(
    client: openai.OpenAI, model: str, question: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        _decide(client, model, question)
    assert all(word in str(refused.value) for word in words), refused.value


def test_too_many_answers_are_refused_before_anything_is_read(client: openai.OpenAI) -> None:
    many = CHOICE | {"choices": [{"value": f"{number} stars"} for number in range(255)]}
    with pytest.raises(openai.BadRequestError, match="1275 possible answers; the limit is 1024"):
        _decide(client, "chat", *[many] * 5)


def test_a_model_that_is_not_here(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="chat, cross, forgetful, labelled, many, numbers, plain"):
        _decide(client, "absent", PREDICATE)


def test_the_client_s_types_accept_the_answer(client: openai.OpenAI) -> None:
    body = {"model": "chat", "input": INPUT, "questions": [PREDICATE, CHOICE, SCORE]}
    answer = httpx.post(f"{client.base_url}decisions", json=body)
    Decision.model_validate(answer.json())
