"""Answers say the risk of each sentence where the model has a fitted profile: over every protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cynosure.cli.local_completer import load_completer
from cynosure.insight import WatchPolicy
from cynosure.insight.heads.profile_choice import choice_of
from cynosure.insight.judging.risk import RISK, RiskModel
from cynosure.insight.judging.sentence_features import FITTED
from cynosure.insight.profile import HeadProfile
from cynosure.server.runtime import Report
from cynosure.server.services import Services
from tests.models.tiny_tokenizers import byte_fallback, write
from tests.server.fakes import serving
from tests.server.served_tiny import write_decoder

#: Knows every sentence but those of prompts with another number of documents than two.
FIT = RiskModel(
    heads=((0, 1), (1, 0)),
    weights=(0.5, 0.5),
    retrieval=(),
    features=FITTED,
    intercept=1.0,
    coefficients=(-6.0, 0.0, 2.0),
    calibration=(1.0, 0.0),
    ranges=((-1.0, 1.0),) * 3,
    num_tokens=(1, 1000),
    num_documents=(2, 2),
    fitted_on={},
)
SOURCE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant:"
#: A random model says what it is told to say.
SAID = "Yes. No way!"
TEXTS = ["The pole star.", "Tides follow."]
CONSTRAINED = {"structured_outputs": {"choice": [SAID]}}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = write_decoder(tmp_path_factory.mktemp("tiny"), max_model_len=1024)
    # Without a token for thoughts, which a random model would never end.
    write(folder, byte_fallback())
    (folder / "chat_template.jinja").write_text(SOURCE)

    def load(_: Report) -> Services:
        fitted = load_completer("fitted", folder, dtype="float32")
        profile = HeadProfile("f00d", "tiny", (4, 4), {}, {RISK: FIT.as_json()})
        fitted.watching = WatchPolicy(choice_of(profile), profile=profile)
        plain = load_completer("plain", folder, dtype="float32")
        return Services({}, {}, {"fitted": fitted, "plain": plain}, int(time.time()))

    with serving(load, wait_s=60) as address:
        yield address


def body(texts: list[str] = TEXTS, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    parts = [{"type": "text", "text": text, "segment": f"doc:{number}"} for number, text in enumerate(texts)]
    parts.append({"type": "text", "text": "Is it?"})
    asked = {"model": "fitted", "messages": [{"role": "user", "content": parts}], "temperature": 0}
    return asked | {"max_tokens": 40, "attention": {"level": "summary"}} | CONSTRAINED | options


def chat(url: str, **options: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = httpx.post(f"{url}/v1/chat/completions", json=body(**options), timeout=60)
    assert answer.status_code == 200, answer.text
    choice = answer.json()["choices"][0]
    assert choice["message"]["content"] == SAID
    return choice["attention"]


def test_each_sentence_has_a_risk(url: str) -> None:
    told = chat(url)
    assert [SAID[one["start"] : one["end"]] for one in told["sentences"]] == ["Yes.", "No way!"]
    risks = [one["risk"] for one in told["sentences"]]
    assert all(0 < risk < 1 for risk in risks)
    assert risks[0] != risks[1]
    assert told["risk"] == max(risks)
    assert all("risk_unknown_reason" not in one for one in told["sentences"])


def test_it_is_what_the_tokens_folds_come_to(url: str) -> None:
    told = chat(url, attention={"level": "full", "heads": [[0, 1], [1, 0]]})
    # The same heads for the same: their mean is the fold. But a request that names heads has no groups.
    assert [one["risk"] for one in told["sentences"]] == [None, None]
    assert told["risk"] is None
    assert "leave them to the profile" in told["sentences"][0]["risk_unknown_reason"]
    first = told["tokens"][: len("Yes.")]
    lookback = sum(token["mass"]["doc:0"] + token["mass"]["doc:1"] for token in first) / 4
    generated = sum(token["generated_mass"] for token in first) / 4
    logit = 1 - 6 * lookback + 2 * generated
    assert chat(url)["sentences"][0]["risk"] == pytest.approx(1 / (1 + 2.718281828**-logit), abs=1e-4)


@pytest.mark.parametrize("level", ["topk", "full"])
def test_the_level_changes_no_risk(url: str, level: str) -> None:
    told = chat(url, attention={"level": level})
    assert told["sentences"] == chat(url)["sentences"]


def test_a_stream_has_it_in_its_last_piece(url: str) -> None:
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body(stream=True), timeout=60) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
    pieces = [json.loads(line)["choices"][0] for line in lines if line != "[DONE]"]
    told = [piece["attention"] for piece in pieces if "attention" in piece]
    assert all("sentences" not in one for one in told[:-1])
    assert told[-1]["sentences"] == chat(url)["sentences"]


def test_beyond_the_fit_it_is_unknown(url: str) -> None:
    told = chat(url, texts=TEXTS[:1])
    assert told["risk"] is None
    assert "number of documents is 1" in told["sentences"][0]["risk_unknown_reason"]


def test_watching_some_tokens_tells_too_little(url: str) -> None:
    told = chat(url, attention={"level": "summary", "every": 3})
    assert "not all of its tokens" in told["sentences"][0]["risk_unknown_reason"]


def test_without_a_fitted_profile_nothing_is_told(url: str) -> None:
    told = chat(url, model="plain")
    assert "risk" not in told
    assert "sentences" not in told


def test_completions_count_from_the_answer(url: str) -> None:
    prompt = "\n".join([*TEXTS, "Is it?"])
    spans = [{"id": "doc:1", "start": 0, "end": 14}, {"id": "doc:2", "start": 15, "end": 28}]
    asked = {"model": "fitted", "prompt": prompt, "max_tokens": 40, "temperature": 0} | CONSTRAINED
    attention = {"level": "summary", "segments": spans}
    for echo in (False, True):
        answer = httpx.post(
            f"{url}/v1/completions", json=asked | {"attention": attention, "echo": echo}, timeout=60
        ).json()
        told = answer["choices"][0]["attention"]["sentences"]
        assert [SAID[one["start"] : one["end"]] for one in told] == ["Yes.", "No way!"]
        assert all(one["risk"] is not None for one in told)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_other_protocols(url: str, path: str) -> None:
    asked = {"model": "fitted", "temperature": 0, "attention": {"level": "summary"}}
    if path == "/v1/messages":
        asked |= {"max_tokens": 9, "messages": [{"role": "user", "content": "Is it?"}]}
    else:
        asked |= {"max_output_tokens": 9, "input": "Is it?"}
    answer = httpx.post(f"{url}{path}", json=asked, timeout=60).json()
    told = answer["attention"]
    assert told["risk"] is None
    # Nothing was given to stand on.
    assert all("document" in one["risk_unknown_reason"] for one in told["sentences"])
