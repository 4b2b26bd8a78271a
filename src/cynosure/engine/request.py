"""Say what the engine is asked and what it tells back. Knows nothing of tensors or of how it is done.

Every request gets any number of `TokenEvent` and `PromptLogprobs`, then exactly one terminal event:
`Finished`, `Refused`, `Failed` or `Cancelled`. That one may carry a report of how it went.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import NamedTuple

from cynosure.core.errors import CynosureError, EmptyInput, InputError
from cynosure.engine.features import Features
from cynosure.engine.page_selection import PageSelection
from cynosure.engine.report import RequestReport
from cynosure.engine.sampling import SamplingParams
from cynosure.engine.session import Session
from cynosure.engine.watch import DENIED, AttendedTo, BiasRun, WatchSpec, check_bias
from cynosure.models.image_input import ImageInput

MAX_IMAGES = 32
#: A message between the server and the engine's process holds them all.
MAX_IMAGE_BYTES = 48 << 20


@dataclass(frozen=True)
class Request:
    """One sequence to continue.

    - `request_id`: unique among those that have not ended.
    - `tenant`: who is served, as the server derived it; fairness and cache isolation go by it.
    - `priority`: lower goes first.
    - `arrival_s`, `deadline_s`: on one clock, in seconds; the whole answer is due at the deadline.
    - `segments`: the segment of each token of the prompt; runs of dense integers, sorted.
    - `is_reproducible`: bitwise the answer that it gets alone, whatever the batch.
    - `features`: what an encoder reads that reads no tokens; `token_ids` then begin the answer.
    - `speculation`: whether tokens are guessed ahead, which changes none; None leaves it to the engine.
    - `session`: whose next request will find the pages of this one.
    - `group`: a name that requests of a tenant share which read one prompt; pages are shared within it also
      where an engine shares none between requests.
    - `watch`: whose attention is told with each token.
    - `bias`: what is added to the scores of some of the prompt's tokens, for all queries; runs, sorted.
    - `page_selection`: how many pages generated tokens attend to; None: all.
    - `images`: what is read in the places that the prompt keeps for them, in order.
    - `adapter`: whose low-rank pairs are added to the model's projections, by its name.
    - `is_background`: scores tokens while nobody else is served, gives way to whoever comes, keeps no page.
    - `bias_from`: the first token whose query the bias holds for. Those before read all: it protects nothing.
    """

    request_id: str
    token_ids: tuple[int, ...]
    params: SamplingParams
    tenant: str = ""
    priority: int = 0
    deadline_s: float | None = None
    arrival_s: float = 0.0
    segments: tuple[int, ...] | None = None
    is_reproducible: bool = False
    session: Session | None = None
    speculation: bool | None = None
    group: str | None = None
    watch: WatchSpec | None = None
    bias: tuple[BiasRun, ...] = ()
    features: Features | None = None
    page_selection: PageSelection | None = None
    images: tuple[ImageInput, ...] = ()
    adapter: str | None = None
    is_background: bool = False
    bias_from: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without a model.

        Raises:
            EmptyInput: there are no tokens.
            InputError: a negative token id, segments, watched runs or biases that do not fit the tokens, a
                time that is no number, a reproducible request of a session or with speculation, selected
                pages beside what needs all of them, or a background request that does more than score tokens.
        """
        if not self.token_ids:
            raise EmptyInput(f"request {self.request_id!r} has no tokens; give at least one.")
        if min(self.token_ids) < 0:
            raise InputError(
                f"request {self.request_id!r} holds token id {min(self.token_ids)}; ids start at 0. Encode "
                "it with the model's tokenizer."
            )
        if self.segments is not None:
            self._check_segments(self.segments)
        self._check_attention()
        self._check_page_selection()
        self._check_background()
        self._check_images()
        if self.speculation and self.is_reproducible:
            raise InputError(
                f"request {self.request_id!r} is reproducible, so that each token is computed alone, and "
                "asks for speculation. Leave one of the two out."
            )
        if self.session is not None and self.is_reproducible:
            raise InputError(
                f"request {self.request_id!r} is reproducible, so that it shares no pages, and names session "
                f"{self.session.name[:60]!r}. Leave one of the two out."
            )
        for name, time_s in (("arrival_s", self.arrival_s), ("deadline_s", self.deadline_s)):
            if time_s is not None and not math.isfinite(time_s):
                raise InputError(f"{name} of request {self.request_id!r} is {time_s}; it must be finite.")

    def _check_segments(self, segments: tuple[int, ...]) -> None:
        if len(segments) != len(self.token_ids):
            raise InputError(
                f"request {self.request_id!r} has {len(self.token_ids)} tokens and {len(segments)} segments; "
                "give one segment a token."
            )
        if segments[0] < 0 or any(later < earlier for earlier, later in pairwise(segments)):
            raise InputError(
                f"segments of request {self.request_id!r} are not sorted integers from 0. Number them as "
                "they come."
            )

    def _check_page_selection(self) -> None:
        if self.page_selection is None:
            return
        others = {
            "is reproducible, which needs every page": self.is_reproducible,
            "asks for speculation, which computes several tokens in a step": self.speculation is True,
            "has its attention watched, which is told of all pages": self.watch is not None,
            "adds a bias to its attention, which no page is ranked by": bool(self.bias),
            "has an adapter, whose passes are run by modules": self.adapter is not None,
        }
        for told, is_so in others.items():
            if is_so:
                raise InputError(
                    f"request {self.request_id!r} selects pages, and {told}. Leave one of the two out."
                )

    def _check_background(self) -> None:
        if not self.is_background:
            if self.bias_from:
                raise InputError(
                    f"bias_from of request {self.request_id!r} is {self.bias_from}; a bias holds for all "
                    "queries, save in the background, where nobody is answered. Leave it out."
                )
            return
        others = {
            "chooses tokens": self.params.max_tokens > 0,
            "is reproducible": self.is_reproducible,
            "keeps a session": self.session is not None,
            "selects pages": self.page_selection is not None,
        }
        for told, is_so in others.items():
            if is_so:
                raise InputError(
                    f"request {self.request_id!r} runs in the background, and {told}. Only score tokens "
                    "there (max_tokens 0, prompt_logprobs)."
                )
        if not 0 <= self.bias_from < len(self.token_ids):
            raise InputError(
                f"bias_from of request {self.request_id!r} is {self.bias_from} of {len(self.token_ids)} "
                "tokens; name one of them."
            )

    def _check_images(self) -> None:
        num_bytes = sum(len(image.data) for image in self.images)
        if len(self.images) > MAX_IMAGES or num_bytes > MAX_IMAGE_BYTES:
            raise InputError(
                f"request {self.request_id!r} brings {len(self.images)} images of {num_bytes} bytes; the "
                f"limit is {MAX_IMAGES}, and {MAX_IMAGE_BYTES} bytes together. Send fewer."
            )

    def _check_attention(self) -> None:
        if self.watch is not None and self.watch.runs[-1][2] != len(self.token_ids):
            raise InputError(
                f"request {self.request_id!r} has {len(self.token_ids)} tokens, and its segments end at "
                f"{self.watch.runs[-1][2]}. Give each token one."
            )
        check_bias(self.bias, len(self.token_ids))
        if self.params.prompt_logprobs is not None and self.params.prompt_logprobs_start <= self._denied_end:
            raise InputError(
                f"request {self.request_id!r} denies tokens of its prompt, and asks how likely the prompt "
                "is, which would tell of them. Leave one of the two out, or ask behind the token that "
                "follows them."
            )

    @property
    def _denied_end(self) -> int:
        """The token behind the last that is denied: the first whose query knows of none; 0 where none is."""
        return max((end for _, end, nats in self.bias if nats == DENIED), default=0)

    @property
    def num_denied(self) -> int:
        """Tokens of the prompt that nobody attends to."""
        return sum(end - start for start, end, nats in self.bias if nats == DENIED)

    @property
    def visible_ids(self) -> tuple[int, ...]:
        """The prompt without what is denied: what choosing a token may look at."""
        if not self.num_denied:
            return self.token_ids
        kept, place = list[int](), 0
        for start, end in ((start, end) for start, end, nats in self.bias if nats == DENIED):
            kept += self.token_ids[place:start]
            place = end
        return (*kept, *self.token_ids[place:])

    @property
    def max_num_tokens(self) -> int:
        """Tokens that prompt and answer may have together."""
        return len(self.token_ids) + self.params.max_tokens


class TokenLogprob(NamedTuple):
    """A token and its log-probability in nats: the model's own, before penalties, bias and temperature."""

    token_id: int
    logprob: float


class FinishReason(Enum):
    """Why an answer ended: its end token, a stop token or text, `max_tokens`, or a fulfilled constraint.

    In the last two cases the last token is text.
    """

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    COMPLETE = "complete"

    @property
    def last_is_text(self) -> bool:
        """Whether the last token belongs to the answer, and did not just end it."""
        return self in (FinishReason.LENGTH, FinishReason.COMPLETE)


def finish_reason(
    params: SamplingParams,
    eos_token_ids: Collection[int],
    generated_ids: Sequence[int],
    is_complete: bool = False,
) -> FinishReason | None:
    """Whether the last token of an answer ends it; stop texts are for whoever decodes tokens.

    `is_complete` says that a constraint lets nothing follow.
    """
    last = generated_ids[-1]
    if last in params.stop_token_ids:
        return FinishReason.STOP
    if not params.ignore_eos and last in eos_token_ids:
        return FinishReason.EOS
    if is_complete:
        return FinishReason.COMPLETE
    return FinishReason.LENGTH if len(generated_ids) >= params.max_tokens else None


class RefusalReason(Enum):
    """Why a request was not begun: it can never fit in memory, or can't meet its deadline."""

    TOO_LARGE = "too_large"
    DEADLINE = "deadline"


@dataclass(frozen=True)
class Usage:
    """What a request cost; of `prompt_tokens`, `cached_tokens` were found and not computed."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class TokenEvent:
    """One more token; `logprob` is None, and `top_logprobs` are empty, where none were asked for.

    The likeliest come first.

    `cached_tokens` of the prompt were found and not computed, which whoever stops listening early knows too.
    `attended` is there where the request has this token watched.
    """

    request_id: str
    token_id: int
    logprob: float | None
    top_logprobs: tuple[TokenLogprob, ...] = ()
    cached_tokens: int = 0
    attended: AttendedTo | None = None


@dataclass(frozen=True)
class PromptLogprobs:
    """How likely the prompt's tokens from position `start` on were; the first of a prompt has none.

    `top_logprobs[i]` are the likeliest at the place of `tokens[i]`.
    """

    request_id: str
    start: int
    tokens: tuple[TokenLogprob, ...]
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...]


@dataclass(frozen=True)
class Finished:
    """The answer is complete."""

    request_id: str
    reason: FinishReason
    usage: Usage
    report: RequestReport | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Refused:
    """Nothing was begun; `predicted_wait_s` is until the first token, where it could be told."""

    request_id: str
    reason: RefusalReason
    message: str
    predicted_wait_s: float | None = None
    report: RequestReport | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Failed:
    """Something broke; tokens already told stand."""

    request_id: str
    error: CynosureError
    report: RequestReport | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Cancelled:
    """The caller went away or took it back."""

    request_id: str
    usage: Usage
    report: RequestReport | None = field(default=None, compare=False)


TerminalEvent = Finished | Refused | Failed | Cancelled
Event = TokenEvent | PromptLogprobs | TerminalEvent
