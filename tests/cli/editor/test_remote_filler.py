from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import Filling, Gap, Question
from cynosure.cli.editor.local_filler import LocalFiller
from cynosure.cli.editor.remote_filler import FIRST_CHARS, RemoteFiller
from cynosure.core.errors import EnvironmentFault, InputError, InputTooLong
from cynosure.server.services import Services
from tests.server.fakes import CREATED, serving

TEXT = "the star\r\na sailor \r\nsteers\r\n"
GAP = Gap(TEXT, TEXT.index(" \r\n") + 1)


@pytest.fixture(scope="module")
def url(filler: LocalFiller) -> Iterator[str]:
    with serving(lambda report: Services({}, {}, {"tiny": filler.model}, CREATED), wait_s=60) as url:
        yield url


def fill(filler: LocalFiller | RemoteFiller, question: Question) -> Filling:
    return asyncio.run(filler.fill(question))


@pytest.mark.parametrize(
    "question",
    [
        Question(GAP, max_tokens=24),
        Question(GAP, Extent.BLOCK, max_tokens=40),
        Question(Gap("pole = sailor\n\n", 14), names=("pole", "sailor"), max_tokens=40),
    ],
    ids=["line", "block", "names"],
)
def test_a_server_says_what_the_model_says_here(url: str, filler: LocalFiller, question: Question) -> None:
    here, there = fill(filler, question), fill(RemoteFiller(f"{url}/v1/", "tiny"), question)
    assert (there.text, there.end, there.window) == (here.text, here.end, here.window)
    assert 0 < there.first_ms <= there.total_ms


def test_a_window_is_drawn_closer_until_the_server_takes_it(url: str) -> None:
    text = "the star\n" * 2000
    remote = RemoteFiller(url, "tiny")
    told = fill(remote, Question(Gap(text, len(text) // 2), max_tokens=8))
    start, end = told.window
    assert 300 < end - start < FIRST_CHARS
    assert text[start - 1] == text[end - 1] == "\n"
    again = fill(remote, Question(Gap(text, len(text) // 2), max_tokens=8))
    assert again.window == told.window


def test_what_the_server_refuses_is_said(url: str) -> None:
    with pytest.raises(InputError, match="other"):
        fill(RemoteFiller(url, "other"), Question(GAP))
    remote = RemoteFiller(url, "tiny")
    with pytest.raises(InputTooLong, match="limit is 512"):
        fill(remote, Question(GAP, max_tokens=600))
    # It is no reason to show less of the next.
    assert fill(remote, Question(Gap("a\n" * 50, 0), max_tokens=4)).window == (0, 100)


def test_without_a_server_that_is_said() -> None:
    with pytest.raises(EnvironmentFault, match="does not answer"):
        fill(RemoteFiller("http://127.0.0.1:1", "tiny"), Question(GAP))
    with pytest.raises(InputError, match="plain HTTP"):
        RemoteFiller("https://127.0.0.1", "tiny")
