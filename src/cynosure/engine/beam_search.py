"""Search for the likeliest answer along several beams. Knows nothing of models, pages or batches.

The algorithm, its order of operations and its stopping rules are those of transformers, whose answers it
equals: candidates are scored by the sum of their log-probabilities, after penalties, bias and bans.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cynosure.core.errors import EngineFault
from cynosure.engine.answer_rules import AnswerRules
from cynosure.engine.beam_params import BeamParams, EarlyStopping
from cynosure.engine.logprobs import likeliest
from cynosure.engine.penalties import add_bias, ban, penalise
from cynosure.engine.sampler import SampledToken
from cynosure.engine.sampling import SamplingParams


@dataclass(frozen=True)
class Beam:
    """The beginning of an answer, and the sum of its tokens' scores."""

    tokens: tuple[SampledToken, ...] = ()
    score: float = 0.0

    @property
    def token_ids(self) -> list[int]:
        """The tokens without what else is known of them."""
        return [token.token_id for token in self.tokens]


class BeamSearch:
    """The beams of one request.

    `running` are those whose next tokens are wanted, the best first: one at the start. `finished` hold an end
    token, or as many tokens as there may be; their scores account for their lengths.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        eos_token_ids: Collection[int],
        rules: AnswerRules | None = None,
    ) -> None:
        """Start with an empty answer; `prompt_ids` are what penalties see before it.

        What `rules` put first costs an answer's score nothing.
        """
        assert params.beams is not None
        self.running: list[Beam] = [Beam()]
        self.finished: list[Beam] = []
        self.is_done = False
        self._params = params
        self._beams: BeamParams = params.beams
        self._prompt_ids = prompt_ids
        self._rules = rules
        self._ends = params.ends(eos_token_ids)

    @property
    def best(self) -> Beam:
        """The best finished answer; there is one once the search is done."""
        return self.finished[0]

    def advance(self, logits: Float[Tensor, "num_running vocab"]) -> list[int]:
        """Take one step; return for each beam that now runs which one it continues.

        Raises:
            EngineFault: the model gave no usable numbers.
        """
        assert not self.is_done
        length = len(self.running[0].tokens) + 1
        ends, running, parents = [], [], []
        for place, (parent, beam) in enumerate(self._candidates(logits.float())):
            is_over = beam.tokens[-1].token_id in self._ends or length >= self._params.max_tokens
            if is_over and place < self._beams.num_beams:
                ends.append(Beam(beam.tokens, beam.score / length**self._beams.length_penalty))
            elif not is_over and len(running) < self._beams.num_beams:
                running.append(beam)
                parents.append(parent)
        best_first = sorted([*self.finished, *ends], key=lambda beam: -beam.score)
        self.finished = best_first[: self._beams.num_beams]
        self.running = running
        self.is_done = not running or self._may_stop(length)
        return [] if self.is_done else parents

    def _candidates(self, logits: Float[Tensor, "num_running vocab"]) -> list[tuple[int, Beam]]:
        """The best continuations of all beams, as many as needed for all to run on though some end."""
        highest = float(logits.amax())
        if not math.isfinite(highest):
            raise EngineFault(
                f"the model gave logits whose largest is {highest}; it must be finite. Check the weights, or "
                "run them in a wider dtype."
            )
        logprobs = logits.log_softmax(-1)
        rows = [self._scored(row, beam) for row, beam in zip(logprobs, self.running, strict=True)]
        scores = torch.stack(rows)
        num_kept = max(2, 1 + len(self._ends)) * self._beams.num_beams
        values, places = scores.flatten().topk(min(num_kept, scores.numel()))
        found = []
        for score, place in zip(values.tolist(), places.tolist(), strict=True):
            if score > -math.inf:
                parent, token_id = divmod(place, scores.shape[1])
                top = likeliest(logprobs[parent], self._params.logprobs or 0)
                token = SampledToken(token_id, float(logprobs[parent, token_id]), top)
                found.append((parent, Beam((*self.running[parent].tokens, token), score)))
        assert found, "bans leave a token that the model gave a finite number"
        return found

    def _scored(self, logprobs: Float[Tensor, " vocab"], beam: Beam) -> Float[Tensor, " vocab"]:
        params = self._params
        first_id = None if self._rules is None else self._rules.first_at(len(beam.tokens))
        if first_id is not None:
            scores = torch.full_like(logprobs, -math.inf)
            scores[first_id] = beam.score
            return scores
        if params.has_penalties:
            logprobs = penalise(logprobs, params, self._prompt_ids, beam.token_ids)
        if params.logit_bias:
            logprobs = add_bias(logprobs, params.logit_bias)
        held_back = self._ends if len(beam.tokens) < params.min_tokens else frozenset[int]()
        if self._rules is not None:
            held_back = held_back | self._rules.banned_at(len(beam.tokens))
        return ban(logprobs, None, held_back) + beam.score

    def _may_stop(self, length: int) -> bool:
        """Whether nothing that runs is expected to become better than what is finished."""
        if len(self.finished) < self._beams.num_beams:
            return False
        stopping, penalty = self._beams.early_stopping, self._beams.length_penalty
        if stopping is EarlyStopping.FULL:
            return True
        is_longest_best = stopping is EarlyStopping.NEVER and penalty > 0.0
        expected = self._params.max_tokens if is_longest_best else length
        return self.running[0].score / expected**penalty <= self.finished[-1].score
