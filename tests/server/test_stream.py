"""How events are written: the quick way and the plain one give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from cynosure.server.answers import chat_completion, completion_answer
from cynosure.server.stream import Blank
from tests.server.chat_models import ScriptedModel, scripted, serves
from tests.server.fakes import serving

TEXTS = [
    "",
    "a",
    ' "quoted" \\ back',
    "line\nend\ttab\r",
    "größe ☆ 🎻",
    "\x00\x1f\x7f\u2028",
    "</script>",
    "{}",
]
CHAT = {"messages": [{"role": "user", "content": "Hi."}]}
STREAMS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": "Hi.", "max_tokens": 99},
    "/v1/messages": CHAT | {"max_tokens": 99},
    "/v1/responses": {"input": "Hi."},
}
#: One for all: to make one takes longer than most of what is asked here.
CLIENT = httpx.Client(trust_env=False)
ANSWER = 'He said: "größe ☆",\nand \\ left. </s> {"a": 1}'


@pytest.mark.parametrize("text", TEXTS)
def test_a_blank_is_filled_as_it_would_be_written(text: str) -> None:
    def make(said: str, token_ids: Sequence[int] = ()) -> dict[str, object]:
        return {
            "id": "größe",
            "choices": [{"index": 0, "text": said, "end": None}],
            "more": {"a": [1.5, True]},
        }

    def make_with_ids(said: str, token_ids: Sequence[int]) -> dict[str, object]:
        return make(said) | {"token_ids": token_ids, "after": [7]}

    assert Blank(make).filled(text, [1, 2]) == json.dumps(make(text), ensure_ascii=False)
    for token_ids in ([], [0], [5, 6, 151_000]):
        expected = json.dumps(make_with_ids(text, token_ids), ensure_ascii=False)
        assert Blank(make_with_ids).filled(text, token_ids) == expected


def test_an_event_that_does_not_hold_its_text_once_has_no_blank() -> None:
    makers = (
        lambda text, ids: {"a": 1},
        lambda text, ids: {"a": text, "b": text},
        lambda text, ids: {"a": text + "!"},
    )
    for make in makers:
        with pytest.raises(ValueError, match="values to unpack"):
            Blank(make)  # type: ignore[arg-type]


class WrittenAnew(Blank):
    """The plain way: the whole event, each time."""

    def __init__(self, make: Any) -> None:  # noqa: ANN401
        self._make = make

    def filled(self, text: str, token_ids: Sequence[int] = ()) -> str:
        return json.dumps(self._make(text, token_ids), ensure_ascii=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ScriptedModel:
    made = scripted(tmp_path_factory.mktemp("scripted"))
    made.answer = ANSWER
    return made


@pytest.fixture(scope="module")
def url(model: ScriptedModel) -> Iterator[str]:
    with serving(lambda _: serves(model)) as address:
        yield address


def lines_of(url: str, path: str, **more: object) -> list[str]:
    body = {"model": "scripted", "stream": True, **STREAMS[path], **more}
    with CLIENT.stream("POST", url + path, json=body) as response:
        assert response.status_code == 200
        return response.read().decode().split("\n")


def without_names(lines: list[str]) -> list[str]:
    """Names and times differ from answer to answer."""
    event = json.loads(next(line for line in lines if line.startswith("data: ")).removeprefix("data: "))
    return [line.replace(event["id"], "ID").replace(str(event["created"]), "0") for line in lines]


USAGE = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("more", [{}, {"n": 2}, USAGE, {"return_token_ids": True}], ids=str)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_pieces_are_the_bytes_that_the_plain_way_writes(
    url: str, path: str, more: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = lines_of(url, path, **more)
    monkeypatch.setattr(chat_completion, "Blank", WrittenAnew)
    monkeypatch.setattr(completion_answer, "Blank", WrittenAnew)
    plain = lines_of(url, path, **more)
    assert sorted(without_names(quick)) == sorted(without_names(plain))
    assert "n" in more or without_names(quick) == without_names(plain)
    assert len(quick) > 10


@pytest.mark.parametrize("path", STREAMS)
def test_every_event_is_written_the_one_way(url: str, path: str) -> None:
    """As `json.dumps` does, without escapes: what clients and logs have seen so far."""
    data = [line.removeprefix("data: ") for line in lines_of(url, path) if line.startswith("data: {")]
    assert data
    for line in data:
        assert json.dumps(json.loads(line), ensure_ascii=False) == line


def test_the_first_pieces_to_the_byte(url: str) -> None:
    lines = without_names(lines_of(url, "/v1/chat/completions"))
    head = 'data: {"id": "ID", "object": "chat.completion.chunk", "created": 0, "model": "scripted", '
    role = '{"role": "assistant", "content": "", "refusal": null}'
    end = ', "logprobs": null, "finish_reason": null}]}'
    assert lines[0] == f'{head}"choices": [{{"index": 0, "delta": {role}{end}'
    assert lines[1:3] == ["", f'{head}"choices": [{{"index": 0, "delta": {{"content": "He "}}{end}']
    lines = without_names(lines_of(url, "/v1/completions"))
    assert lines[0] == (
        'data: {"id": "ID", "object": "text_completion", "created": 0, "model": "scripted", "choices": '
        '[{"index": 0, "text": "He ", "logprobs": null, "finish_reason": null}]}'
    )


def test_words_that_end_where_a_line_does_stay_in_it(tmp_path: Path) -> None:
    """A text with a line end must not end the event that holds it."""
    model = scripted(tmp_path)
    model.answer = "one\n\ndata: [DONE]\n\ntwo"
    with serving(lambda _: serves(model)) as url:
        lines = lines_of(url, "/v1/completions")
    assert lines.count("data: [DONE]") == 1
    data = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    assert "".join(part["choices"][0]["text"] for part in data) == model.answer
