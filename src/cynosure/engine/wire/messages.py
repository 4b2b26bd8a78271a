"""Say what server and engine process tell each other. Knows nothing of how it is sent.

The server sends a `Setup`, then calls; the engine says who it is, answers each call by its number, tells what
happens to requests, and every quarter of a second that it lives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cynosure.core.errors import CynosureError, InputError
from cynosure.engine.constraints import Constraint
from cynosure.engine.pool.card import ModelCard, ServedModel
from cynosure.engine.pool.settings import PoolSettings
from cynosure.engine.request import Event, Request
from cynosure.engine.wire.types import codec_of
from cynosure.observe.load import EngineLoad

#: As many pieces of a stream a second as a film has pictures: nobody reads faster, a voice waits for words.
STREAM_DELAY_S = 0.04
MAX_STREAM_DELAY_S = 1.0


@dataclass(frozen=True)
class Setup:
    """What an engine process holds; the first message to it.

    - `num_threads`: of computing; None takes what torch does.
    - `log_level`: as `logging` counts; `logs_content`: whether the words of failures are logged.
    - `stream_delay_s`: how long a token may wait for the next ones, so that they are told at once.
    """

    models: tuple[ServedModel, ...]
    settings: PoolSettings
    num_threads: int | None = None
    log_level: int = 30
    logs_content: bool = False
    stream_delay_s: float = STREAM_DELAY_S

    def __post_init__(self) -> None:
        """Check the delay.

        Raises:
            InputError: it is none, or so long that a stream would stutter.
        """
        if not 0 <= self.stream_delay_s <= MAX_STREAM_DELAY_S:
            raise InputError(
                f"tokens may wait {self.stream_delay_s} s for the next ones; it may be 0 to "
                f"{MAX_STREAM_DELAY_S}. Change it."
            )


@dataclass(frozen=True)
class Submit:
    """Begin a request; its events come back as `Told`, whatever happens."""

    model: str
    request: Request


@dataclass(frozen=True)
class Cancel:
    """Forget a request."""

    model: str
    request_id: str


@dataclass(frozen=True)
class Compile:
    """Have a constraint ready."""

    call_id: int
    model: str
    constraint: Constraint
    tenant: str


@dataclass(frozen=True)
class LoadModel:
    """Have a model in memory."""

    call_id: int
    model: str


@dataclass(frozen=True)
class LoadAdapter:
    """Have an adapter of a model in memory, from a folder; its requests name it."""

    call_id: int
    model: str
    adapter: str
    folder: Path


@dataclass(frozen=True)
class UnloadAdapter:
    """Take an adapter out; the answer comes once the requests under way with it have ended."""

    call_id: int
    model: str
    adapter: str


@dataclass(frozen=True)
class Embed:
    """Turn texts into vectors; the answer is `Rows`."""

    call_id: int
    model: str
    texts: tuple[str, ...]
    tenant: str


@dataclass(frozen=True)
class Attend:
    """Say what an embedder attended to in a text, or a ranker with a question; the answer is `Shares`."""

    call_id: int
    model: str
    text: str
    question: str | None = None


@dataclass(frozen=True)
class Score:
    """Score readings, each a pair of texts or one; the answer is `Rows` of one number a label."""

    call_id: int
    model: str
    readings: tuple[tuple[str, ...], ...]
    tenant: str


@dataclass(frozen=True)
class Stop:
    """End what is under way, and the process."""


@dataclass(frozen=True)
class Hello:
    """The process is up: what it can serve. Nothing is loaded yet."""

    cards: tuple[ModelCard, ...]


@dataclass(frozen=True)
class Told:
    """What happened to requests, in the order in which it did."""

    model: str
    events: tuple[Event, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """A row of numbers for each text or pair, and how many tokens each had."""

    values: np.ndarray
    token_counts: tuple[int, ...]


@dataclass(frozen=True)
class Shares:
    """Shares of attention by token of a text: offsets in code points, and what went to added tokens."""

    offsets: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]
    sink_share: float


@dataclass(frozen=True)
class Done:
    """A call's answer; None where there is nothing to say."""

    call_id: int
    result: Rows | Shares | None = None


@dataclass(frozen=True)
class CallFailed:
    """Why a call has no answer."""

    call_id: int
    error: CynosureError


@dataclass(frozen=True)
class SetupFailed:
    """Why the process can't serve what it was asked to."""

    error: CynosureError


@dataclass(frozen=True)
class Pulse:
    """The process lives; how busy each model that generates is, and which models are loaded.

    `step_age_s`: for how long the step that runs now has run; `load_age_s`: for how long a model has been on
    its way into memory. Native code that never ends lets Python, and so this message, go on.
    """

    loads: dict[str, EngineLoad]
    loaded: tuple[str, ...]
    step_age_s: float = 0.0
    load_age_s: float = 0.0


@dataclass(frozen=True)
class LogLine:
    """What the process logs; `failure` is a type's name, `frames` where it came from."""

    logger: str
    level: int
    message: str
    fields: dict[str, str]
    failure: str | None = None
    frames: tuple[str, ...] = ()


#: What is answered once, by its number.
Question = Compile | LoadModel | LoadAdapter | UnloadAdapter | Embed | Attend | Score
Call = Setup | Submit | Cancel | Question | Stop
Reply = Hello | SetupFailed | Told | Done | CallFailed | Pulse | LogLine

CALLS = codec_of(Call)
REPLIES = codec_of(Reply)
