"""Sample tokens one after the other: the plain loop that an engine must equal. Knows nothing of text.

One forward pass over all prompts, then one a token over those that have not ended. No scheduling, no sharing
of prefixes, no speculation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import accumulate
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.cache import ContiguousCache
from cynosure.core.errors import EmptyInput, InputError, InputTooLong, UnsupportedArchitecture
from cynosure.models.adapters.adapter import Adapter
from cynosure.models.adapters.applying import Adapting
from cynosure.models.batch import Batch
from cynosure.models.decoder import Decoder
from cynosure.models.image_input import ImageInput
from cynosure.models.image_prompt import ImagePrompt, PlacedRows, with_images
from cynosure.models.image_reader import ImageReader, prompt_of
from cynosure.models.load import LanguageModel

_Placed: TypeAlias = Callable[[int, int], PlacedRows | None]


class FinishReason(Enum):
    """Why a sequence ended: its end token, one of the stop sequences, or `max_new_tokens`."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"


@dataclass(frozen=True)
class SamplingOptions:
    """How to choose tokens, and when to end.

    - `temperature`: 0 takes the likeliest token, else logits are divided by it before sampling.
    - `eos_token_ids`: tokens that end a sequence; `None` takes the checkpoint's, `()` has none end it.
    - `stop`: runs of token ids that end a sequence.
    - `seed`: prompt `i` of a batch draws as it would alone with `seed + i`; `None` draws anew each time.
    """

    max_new_tokens: int = 128
    temperature: float = 0.0
    eos_token_ids: tuple[int, ...] | None = None
    stop: tuple[tuple[int, ...], ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a count below 1, a temperature below 0 or not finite, or an empty stop sequence.
        """
        if self.max_new_tokens < 1:
            raise InputError(f"max_new_tokens is {self.max_new_tokens}; it must be at least 1. Raise it.")
        if not 0.0 <= self.temperature < float("inf"):
            raise InputError(
                f"temperature is {self.temperature}; it must be finite and at least 0. Change it."
            )
        if not all(self.stop):
            raise InputError("a stop sequence is empty; it needs at least one token. Leave it out.")


GREEDY = SamplingOptions()


@dataclass(frozen=True)
class Step:
    """One token of one sequence; `logprob` is the model's own, in nats, before any temperature."""

    sequence: int
    token_id: int
    logprob: float
    finish_reason: FinishReason | None = None


@dataclass(frozen=True)
class Generation:
    """All tokens of one sequence, the one that ended it included."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions = GREEDY,
    images: Sequence[Sequence[ImageInput]] = (),
    adapters: Sequence[Adapter | None] = (),
) -> list[Generation]:
    """Return what follows each prompt; arguments and errors are those of `stream`."""
    steps: list[list[Step]] = [[] for _ in prompts]
    for step in stream(model, prompts, options, images, adapters):
        steps[step.sequence].append(step)
    return [_generation(taken) for taken in steps]


def stream(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions = GREEDY,
    images: Sequence[Sequence[ImageInput]] = (),
    adapters: Sequence[Adapter | None] = (),
) -> Iterator[Step]:
    """Yield tokens as they are chosen, those of all prompts in turn; one that ended drops out.

    The prompts are checked before the iterator is returned. Where the model reads `images`, each prompt has
    its own, in the order of their places; none at all is none for each. So it is with `adapters`, one
    a prompt.

    Raises:
        EmptyInput: there is no prompt, or one without tokens.
        InputError: a token id is not in the vocabulary, or images do not fit the model or their places;
            or there are more or fewer adapters than prompts.
        InputTooLong: a prompt and its new tokens would pass the longest sequence that the model takes.
        UnsupportedArchitecture: the model does not continue text.
    """
    graph = _decoder_of(model)
    image_token_id = model.graph.image_token_id if isinstance(model.graph, ImageReader) else None
    check_prompts(graph, prompts, options.max_new_tokens, image_token_id)
    eos = options.eos_token_ids
    ends = frozenset(model.generation_defaults.eos_token_ids if eos is None else eos)
    placed = _placed(model, prompts, images)
    if adapters and len(adapters) != len(prompts):
        raise InputError(f"{len(prompts)} prompts have {len(adapters)} adapters; give each one, or None.")
    adapted = adapters or [None] * len(prompts)
    return _steps(graph, prompts, options, ends, model.backend, placed, adapted)


def check_prompts(
    graph: Decoder, prompts: Sequence[Sequence[int]], max_new_tokens: int, image_token_id: int | None = None
) -> None:
    """Raise what `stream` raises for prompts that can't be continued."""
    if not prompts:
        raise EmptyInput("there is no prompt; give at least one.")
    limit, vocab_size = graph.spec.max_model_len, graph.spec.vocab_size
    for index, prompt in enumerate(prompts):
        if not len(prompt):
            raise EmptyInput(f"prompt {index} has no tokens; give at least one.")
        # An image's token may lie behind those that an answer can hold.
        largest = max((token_id for token_id in prompt if token_id != image_token_id), default=0)
        if min(prompt) < 0 or largest >= vocab_size:
            wrong = min(prompt) if min(prompt) < 0 else largest
            raise InputError(
                f"prompt {index} holds token id {wrong}; the vocabulary is 0..{vocab_size - 1}. Encode it "
                "with this model's tokenizer."
            )
        if limit is not None and len(prompt) + max_new_tokens > limit:
            raise InputTooLong(
                f"prompt {index} has {len(prompt)} tokens and may get {max_new_tokens} more; the limit "
                f"is {limit} in all. Shorten it, or lower max_new_tokens."
            )


def _steps(
    graph: Decoder,
    prompts: Sequence[Sequence[int]],
    options: SamplingOptions,
    ends: frozenset[int],
    backend: str,
    placed: Sequence[_Placed],
    adapters: Sequence[Adapter | None],
) -> Iterator[Step]:
    longest = max(map(len, prompts)) + options.max_new_tokens
    cache = graph.new_cache(len(prompts), longest)
    adapting = Adapting(graph)
    dice = [_generator(options.seed, index) for index in range(len(prompts))]
    taken: list[list[int]] = [[] for _ in prompts]
    running = list(range(len(prompts)))
    tokens = [list(prompt) for prompt in prompts]
    while running:
        beside = [
            placed[sequence](past, past + len(new))
            for sequence, past, new in zip(running, cache.lengths, tokens, strict=True)
        ]
        with adapting.rows([adapters[sequence] for sequence in running], list(map(len, tokens))):
            rows = _next_logits(graph, tokens, cache, backend, beside)
        kept = []
        for row, sequence in enumerate(running):
            token_id = _choose(rows[row], options.temperature, dice[sequence])
            taken[sequence].append(token_id)
            reason = _finish_reason(taken[sequence], options, ends)
            yield Step(sequence, token_id, float(rows[row].log_softmax(-1)[token_id]), reason)
            if reason is None:
                kept.append(row)
        if len(kept) < len(running):
            cache.keep(kept)
            running = [running[row] for row in kept]
        tokens = [taken[sequence][-1:] for sequence in running]


@torch.inference_mode()
def _next_logits(
    graph: Decoder,
    tokens: Sequence[Sequence[int]],
    cache: ContiguousCache,
    backend: str,
    beside: Sequence[PlacedRows | None],
) -> Float[Tensor, "num_seqs vocab"]:
    batch = with_images(Batch.pack(tokens, past_lens=cache.lengths, max_len=cache.max_len), beside)
    hidden = graph(batch, cache, backend=backend).hidden
    return graph.logits(hidden[batch.last_rows]).float()


def _choose(logits: Float[Tensor, " vocab"], temperature: float, dice: torch.Generator) -> int:
    if temperature == 0.0:
        return int(logits.argmax())
    # The largest is taken off first, so that a low temperature can't overflow.
    reached = ((logits - logits.max()) / temperature).softmax(-1).cumsum(-1, dtype=torch.float64)
    # One number decides, by the inverse of the distribution function: an engine can draw the same.
    thrown = torch.rand((), generator=dice, dtype=torch.float64)
    place = int(torch.searchsorted(reached, thrown * reached[-1], right=True))
    return min(place, len(logits) - 1)


def _generator(seed: int | None, index: int) -> torch.Generator:
    dice = torch.Generator()
    if seed is None:
        dice.seed()
    else:
        dice.manual_seed(seed + index)
    return dice


def _finish_reason(
    taken: Sequence[int], options: SamplingOptions, ends: frozenset[int]
) -> FinishReason | None:
    if taken[-1] in ends:
        return FinishReason.EOS
    if any(tuple(taken[-len(stop) :]) == stop for stop in options.stop):
        return FinishReason.STOP
    return FinishReason.LENGTH if len(taken) == options.max_new_tokens else None


def _generation(steps: Sequence[Step]) -> Generation:
    reason = steps[-1].finish_reason
    assert reason is not None
    return Generation(tuple(step.token_id for step in steps), tuple(step.logprob for step in steps), reason)


def _placed(
    model: LanguageModel, prompts: Sequence[Sequence[int]], images: Sequence[Sequence[ImageInput]]
) -> list[_Placed]:
    """What the tokens of each prompt read beside their ids, from one to another; encodes all images."""
    given = list(images) or [()] * len(prompts)
    if len(given) != len(prompts):
        raise InputError(f"images are given for {len(given)} prompts, and there are {len(prompts)}.")
    reader = model.graph
    if not isinstance(reader, ImageReader):
        if any(given):
            raise InputError(f"images are given; {model.architecture} reads none. Leave them out.")
        return [_nothing] * len(prompts)
    placed = [prompt_of(reader, prompt, own) for prompt, own in zip(prompts, given, strict=True)]
    return _read(reader, placed, model.backend)


def _nothing(start: int, stop: int) -> None:
    """Tokens alone."""


def _read(reader: ImageReader, prompts: Sequence[ImagePrompt], backend: str) -> list[_Placed]:
    """Encode the images of all prompts, each into one page."""
    counts = [[reader.num_kept(image) for image in prompt.images] for prompt in prompts]
    firsts = [0, *accumulate(map(len, counts))]
    memory = reader.new_memory(max(1, firsts[-1]), max((max(own, default=1) for own in counts), default=1))
    for first, prompt in zip(firsts, prompts, strict=False):
        for number, image in enumerate(prompt.images, start=first):
            memory.write(image, (number,), backend)

    def placed(place: int, start: int, stop: int) -> PlacedRows | None:
        first, own = firsts[place], counts[place]
        return memory.placed(prompts[place], start, stop, lambda number: ((first + number,), own[number]))

    return [partial(placed, place) for place in range(len(prompts))]


def _decoder_of(model: LanguageModel) -> Decoder:
    if isinstance(model.graph, ImageReader):
        return model.graph.text
    if not isinstance(model.graph, Decoder):
        raise UnsupportedArchitecture(
            f"{model.architecture} does not continue text: it is of kind {model.kind.value}. Load a decoder."
        )
    return model.graph
