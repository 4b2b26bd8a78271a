"""Ask a server for completions as so many clients would, and note when tokens came. Knows no engine.

Any server that answers OpenAI's `/v1/completions` with server-sent events will do. Prompts are random words,
so that no two begin alike; how many tokens they are is the server's count.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cynosure.core.errors import EnvironmentFault, InputError
from cynosure.evaluate.event_stream import DONE, EventStream, post
from cynosure.evaluate.timing import Summary, Timing, summarise

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
#: Enough to tell how many tokens a word is.
_NUM_TRIED_WORDS = 12


@dataclass(frozen=True)
class LoadSettings:
    """What is asked of whom.

    - `url`: up to, and without, `/v1`; `headers`: such as a key's.
    - `input_len`, `output_len`: tokens of a prompt, about, and of an answer, exactly, save where the server
      knows no `ignore_eos`.
    - `num_prompts`: of one load.
    """

    url: str
    model: str
    headers: Mapping[str, str]
    input_len: int = 256
    output_len: int = 64
    num_prompts: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a count below 1, or an address that is not plain HTTP.
        """
        for name in ("input_len", "output_len", "num_prompts"):
            if vars(self)[name] < 1:
                raise InputError(f"{name} is {vars(self)[name]}; the limit is 1. Raise it.")
        if not self.url.startswith("http://"):
            raise InputError(f"the address is {self.url!r}; this client speaks plain HTTP. Write http://...")

    def body(self, prompt: str, **fields: object) -> dict[str, object]:
        """A request."""
        asked = {"model": self.model, "prompt": prompt, "max_tokens": self.output_len, "temperature": 0}
        return {**asked, "ignore_eos": True, **fields}


@dataclass(frozen=True)
class _Failure:
    why: str


class HttpLoad:
    """One server under loads of one kind."""

    def __init__(self, settings: LoadSettings, tokens_per_word: float) -> None:
        """`ready` finds out how many tokens a word is."""
        self._settings = settings
        self._dice = random.Random(settings.seed)
        self._num_words = max(1, round(settings.input_len / tokens_per_word))

    @classmethod
    async def ready(cls, settings: LoadSettings) -> HttpLoad:
        """Ask once, so that the model is there and the length of words is known.

        Raises:
            EnvironmentFault: the server is not there, or refuses; says what it said.
        """
        words = _words(random.Random(settings.seed - 1), _NUM_TRIED_WORDS)
        url = f"{settings.url}/v1/completions"
        try:
            status, _, told = await post(url, settings.body(words, max_tokens=1), settings.headers)
        except OSError as fault:
            raise EnvironmentFault(f"{url} does not answer ({fault}). Start the server.") from fault
        if status != 200:
            raise EnvironmentFault(f"{url} answered {status}: {_reason(told)}. Correct what it names.")
        num_tokens = told.get("usage", {}).get("prompt_tokens", 0)
        return cls(settings, max(1, num_tokens) / _NUM_TRIED_WORDS)

    async def with_clients(self, num_clients: int) -> Summary:
        """So many at one time, each asking again when it was answered."""
        prompts = self._prompts()

        async def client() -> list[Timing | _Failure]:
            return [await self._ask(prompts.pop()) for _ in iter(lambda: bool(prompts), False)]

        answers = await asyncio.gather(*(client() for _ in range(num_clients)))
        return _summary([one for several in answers for one in several])

    async def at_rate(self, requests_per_s: float) -> Summary:
        """So many a second, at random moments (Poisson), however long answers take."""
        waiting: list[asyncio.Task[Timing | _Failure]] = []
        due = time.perf_counter()
        for prompt in self._prompts():
            due += self._dice.expovariate(requests_per_s)
            await asyncio.sleep(due - time.perf_counter())
            # What is late because this client is, counts from when it was due.
            waiting.append(asyncio.create_task(self._ask(prompt, due)))
        return _summary(await asyncio.gather(*waiting))

    def _prompts(self) -> list[str]:
        return [_words(self._dice, self._num_words) for _ in range(self._settings.num_prompts)]

    async def _ask(self, prompt: str, begun_s: float | None = None) -> Timing | _Failure:
        settings = self._settings
        asked = settings.body(prompt, stream=True, stream_options={"include_usage": True})
        begun = time.perf_counter() if begun_s is None else begun_s
        timing = Timing(begun, 0.0, 0.0, 0, 0)
        try:
            stream = await EventStream.open(f"{settings.url}/v1/completions", asked, settings.headers)
            if stream.status != 200:
                return _Failure(f"{stream.status}: {(await stream.read())[:200].decode(errors='replace')}")
            async for event in stream.events():
                if event.data == DONE:
                    return timing if timing.num_tokens else _Failure("the stream had no token, or no usage")
                told = event.json
                if "error" in told:
                    return _Failure(_reason(told))
                if told.get("choices"):
                    timing = replace(timing, first_s=timing.first_s or event.at_s, last_s=event.at_s)
                if told.get("usage"):
                    usage = told["usage"]
                    timing = replace(
                        timing,
                        num_prompt_tokens=usage["prompt_tokens"],
                        num_tokens=usage["completion_tokens"],
                    )
        except OSError as fault:
            return _Failure(f"{type(fault).__name__}: {fault}")
        return _Failure("the stream ended before it was done")


def _summary(answers: Sequence[Timing | _Failure]) -> Summary:
    timings = [one for one in answers if isinstance(one, Timing)]
    failures = Counter(one.why for one in answers if isinstance(one, _Failure))
    if not timings:
        raise EnvironmentFault(f"no request was answered. Most often: {failures.most_common(1)[0][0]}")
    # Who asks again, or comes later, is read after others were answered.
    return replace(summarise(timings, failures.total()), prefill_tokens_per_s=None)


def _words(dice: random.Random, count: int) -> str:
    return " ".join("".join(dice.choices(_LETTERS, k=dice.randint(2, 9))) for _ in range(count))


def _reason(told: Mapping[str, object]) -> str:
    error = told.get("error", told)
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300].rstrip(".")
