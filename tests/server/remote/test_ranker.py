"""A ranker whose computing is done by whoever plays the engine at the other end of a connection."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from cynosure.core.errors import InputTooLong
from cynosure.engine.pool.card import ModelCard, ModelRole
from cynosure.engine.wire.codec import Channel
from cynosure.engine.wire.messages import (
    CALLS,
    REPLIES,
    Attend,
    Call,
    CallFailed,
    Done,
    Reply,
    Rows,
    Score,
    Shares,
)
from cynosure.server.remote.link import EngineLink
from cynosure.server.remote.ranker import BlockingRanker, RemoteRanker
from cynosure.server.remote.supervisor import Supervisor
from cynosure.server.services import ScoreKind

LABELS = ("relevant", "answers", "no_answer")
CARD = ModelCard(
    "ranker", ModelRole.CLASSIFIER, "X", "folder", "float32", 10, None, max_tokens=512, labels=LABELS
)
SHARES = Shares(((0, 2), (4, 8), (8, 9)), (0.25, 0.375, 0.125), 0.25)


class Linked(Supervisor):
    """A supervisor that started nothing, and has a link."""

    def __init__(self, link: EngineLink) -> None:
        self._told = link

    @property
    def link(self) -> EngineLink:
        return self._told


@pytest.fixture
def linked() -> Iterator[tuple[Linked, list[Call]]]:
    """A link, and what the engine was asked over it; texts of `long` are too long for it."""
    ours, theirs = socket.socketpair()
    link = EngineLink(Channel(ours, CALLS, REPLIES))
    engine: Channel[Reply, Call] = Channel(theirs, REPLIES, CALLS)
    heard: list[Call] = []

    def answer() -> None:
        for call in engine.messages():
            heard.append(call)
            if isinstance(call, Attend):
                engine.post(Done(call.call_id, SHARES))
            elif isinstance(call, Score) and "long" in call.readings[0][1]:
                engine.post(CallFailed(call.call_id, InputTooLong("too long. Shorten it.")))
            elif isinstance(call, Score):
                rows = np.arange(3 * len(call.readings), dtype=np.float32).reshape(-1, 3)
                engine.post(Done(call.call_id, Rows(rows, (4,) * len(call.readings))))

    threads = [threading.Thread(target=link.read), threading.Thread(target=answer)]
    for thread in threads:
        thread.start()
    yield Linked(link), heard
    engine.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


@pytest.fixture
def asked(linked: tuple[Linked, list[Call]]) -> tuple[BlockingRanker, list[Call]]:
    """The ranker, and what the engine was asked."""
    supervisor, heard = linked
    return BlockingRanker("ranker@1:float32", CARD, supervisor), heard


def test_it_says_of_itself_what_the_search_checks(asked: tuple[BlockingRanker, list[Call]]) -> None:
    ranker, _ = asked
    assert (ranker.model_id, ranker.max_tokens, ranker.labels) == ("ranker@1:float32", 512, LABELS)


def test_pairs_are_scored_in_order(asked: tuple[BlockingRanker, list[Call]]) -> None:
    ranker, heard = asked
    assert ranker.score("how?", ["so", "thus"]).tolist() == [[0, 1, 2], [3, 4, 5]]
    (call,) = heard
    assert isinstance(call, Score)
    assert call.readings == (("how?", "so"), ("how?", "thus"))
    assert call.tenant == ""
    # Nothing to score is no call.
    assert ranker.score("how?", []).shape == (0, 3)
    assert len(heard) == 1


def test_faults_are_raised(asked: tuple[BlockingRanker, list[Call]]) -> None:
    with pytest.raises(InputTooLong):
        asked[0].score("how?", ["a long one"])


def test_what_was_attended_to_is_asked_with_the_question(asked: tuple[BlockingRanker, list[Call]]) -> None:
    ranker, heard = asked
    assert ranker.attended("how?", "so it is") == SHARES
    (call,) = heard
    assert isinstance(call, Attend)
    assert (call.model, call.text, call.question) == ("ranker", "so it is", "how?")


def test_words_are_told_to_whoever_waits_on_the_loop(linked: tuple[Linked, list[Call]]) -> None:
    supervisor, heard = linked
    ranker = RemoteRanker(CARD, ScoreKind.NUMBERS, supervisor)
    told = asyncio.run(ranker.attended("how?", "so, thus."))
    assert [(word.start, word.end) for word in told.words] == [(0, 2), (4, 8)]
    assert told.words[1].weight == 1.0
    assert (told.sink_share, told.num_tokens) == (0.25, 3)
    (call,) = heard
    assert isinstance(call, Attend)
    assert (call.text, call.question) == ("so, thus.", "how?")
