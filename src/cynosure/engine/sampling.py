"""Say how a request wants its tokens chosen, and when it ends. Knows nothing of tensors."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from cynosure.core.errors import InputError
from cynosure.engine.beam_params import BeamParams
from cynosure.engine.constraints import Constraint

MAX_LOGPROBS = 20
"""How many alternatives a token may be reported with; each costs memory and wire for every token."""

#: Beyond these a logit would leave the range of float32.
MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY = 0.01, 100.0
MAX_LOGIT_BIAS = 100.0
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class SamplingParams:
    """What one request asks of the sampler; the defaults sample from the model as it is.

    - `max_tokens`: 0 chooses none: the prompt is read, and told how likely it was.
    - `min_tokens`: end and stop tokens are kept back until that many tokens are generated.
    - `temperature`: 0 takes the likeliest token; the filters below then have nothing to do.
    - `top_k`, `top_p`, `min_p`, `typical_p`: what may be drawn; the likeliest token always may, save that
      `typical_p` may leave it out where it is too likely to be typical.
    - `repetition_penalty`: over prompt and answer; `presence_penalty`, `frequency_penalty`: over the answer.
    - `logit_bias`: pairs of token id and what is added to its logit.
    - `seed`: the same seed gives the same tokens, whatever the batch; None draws anew each time.
    - `constraint`: what the answer must look like. It ends where nothing may follow, whatever `min_tokens`
      says; `ignore_eos` holds end tokens back wherever something may.
    - `beams`: search along beams instead of choosing a token at a time; for encoder-decoders. Needs
      temperature 0, and takes no constraint.
    - `logprobs`, `prompt_logprobs`: how many alternatives to report a token; 0 reports the token alone.
    - `prompt_logprobs_start`: from which token of the prompt on; what stands before may come from kept pages.
    """

    max_tokens: int
    min_tokens: int = 0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    constraint: Constraint | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    prompt_logprobs_start: int = 1
    beams: BeamParams | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a field is outside its range; the message names field, value and limit.
        """
        _whole("max_tokens", self.max_tokens, 0)
        _whole("min_tokens", self.min_tokens, 0)
        if self.min_tokens > self.max_tokens:
            raise InputError(
                f"min_tokens is {self.min_tokens}; the limit is max_tokens, {self.max_tokens}. Lower it."
            )
        _real("temperature", self.temperature, 0.0, math.inf)
        _whole("top_k", self.top_k, 1)
        for name, share in (("top_p", self.top_p), ("min_p", self.min_p), ("typical_p", self.typical_p)):
            _real(name, share, 0.0, 1.0)
        _real("repetition_penalty", self.repetition_penalty, MIN_REPETITION_PENALTY, MAX_REPETITION_PENALTY)
        _real("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _real("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _whole("seed", self.seed, 0, MAX_SEED)
        _whole("logprobs", self.logprobs, 0, MAX_LOGPROBS)
        _whole("prompt_logprobs", self.prompt_logprobs, 0, MAX_LOGPROBS)
        # The first token of a prompt has no chance of its own.
        _whole("prompt_logprobs_start", self.prompt_logprobs_start, 1)
        self._check_tokens()
        self._check_beams()

    def _check_beams(self) -> None:
        if self.beams is None:
            return
        if not self.is_greedy:
            raise InputError(
                f"temperature is {self.temperature}; a beam search draws nothing, and needs 0. Set it, or "
                "leave the beams out."
            )
        if self.constraint is not None:
            raise InputError("a beam search takes no constraint. Leave the beams or the constraint out.")

    def _check_tokens(self) -> None:
        biased = [token_id for token_id, _ in self.logit_bias]
        for name, ids in (("logit_bias", biased), ("stop_token_ids", self.stop_token_ids)):
            if ids and min(ids) < 0:
                raise InputError(f"{name} holds token id {min(ids)}; ids start at 0. Leave it out.")
        if len(set(biased)) < len(biased):
            twice = next(token_id for token_id in biased if biased.count(token_id) > 1)
            raise InputError(f"logit_bias holds token id {twice} more than once. Give each id one bias.")
        for token_id, bias in self.logit_bias:
            _real(f"logit_bias of token id {token_id}", bias, -MAX_LOGIT_BIAS, MAX_LOGIT_BIAS)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check the token ids against a model, once it is known.

        Raises:
            InputError: a biased or stop token id is not in the vocabulary.
        """
        if not self.logit_bias and not self.stop_token_ids:
            return
        biased = [token_id for token_id, _ in self.logit_bias]
        for name, ids in (("logit_bias", biased), ("stop_token_ids", self.stop_token_ids)):
            if ids and max(ids) >= vocab_size:
                raise InputError(
                    f"{name} holds token id {max(ids)}; the vocabulary is 0..{vocab_size - 1}. Leave it out."
                )

    def ends(self, eos_token_ids: Collection[int]) -> frozenset[int]:
        """The tokens that end an answer, given those of the checkpoint."""
        return frozenset(self.stop_token_ids).union(() if self.ignore_eos else eos_token_ids)

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is taken and nothing is drawn."""
        return self.temperature == 0.0

    @property
    def has_penalties(self) -> bool:
        """Whether what was said before changes what is likely next."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0


def _whole(name: str, value: int | None, low: int, high: int | None = None) -> None:
    if value is None:
        return
    if value < low:
        raise InputError(f"{name} is {value}; the limit is {low}. Raise it.")
    if high is not None and value > high:
        raise InputError(f"{name} is {value}; the limit is {high}. Lower it.")


def _real(name: str, value: float, low: float, high: float) -> None:
    if not (low <= value <= high and math.isfinite(value)):
        limits = f"at least {low:g} and finite" if high == math.inf else f"in [{low:g}, {high:g}]"
        raise InputError(f"{name} is {value}; it must be {limits}. Change it.")
