"""A fit of focus finds the heads that tell, on a made-up model whose heads are ruled by what it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from jaxtyping import Float32

from cynosure.core.errors import InputError
from cynosure.evaluate.discrimination import auroc
from cynosure.insight import PromptPart, PromptSegments
from cynosure.insight.judging.focus import FocusModel
from cynosure.insight.judging.focus_fit import FALSE_STOPS, MAX_HEADS, FocusSample, fit_focus, sample_of
from cynosure.insight.probing import DeniedRun, Head, ProbedModel

TELLING = (1, 2)
PARTS = [PromptPart("system", "system", "system"), PromptPart("doc:0", "doc:0", "document")]
#: Sink, two of the system's, three of the document's, and the template's last.
SEGMENTS = PromptSegments.of(PARTS, [None, 0, 0, 1, 1, 1, None], [None] * 7)
PROMPT = tuple(range(7))


@dataclass(frozen=True)
class RuledModel:
    """Where the answer's first token is odd, one head looks at the document; all others look anywhere."""

    num_heads: tuple[int, ...] = (12, 12)
    full_layers: tuple[int, ...] = (0, 1)

    def shares(
        self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]
    ) -> Float32[np.ndarray, "rows heads segments"]:
        assert list(segments) == [0, 2, 2, 3, 3, 3, 1, *[4] * (len(token_ids) - 7)]
        assert list(rows) == list(range(6, len(token_ids) - 1))
        dice = np.random.default_rng(token_ids[7:])
        shares = dice.dirichlet(np.ones(5), (len(rows), sum(self.num_heads))).astype(np.float32)
        telling = 0.1 * shares[:, 12 + TELLING[1]]
        telling[:, 3 if token_ids[7] % 2 else 2] += 0.9
        shares[:, 12 + TELLING[1]] = telling
        return shares

    def log_probs(
        self,
        token_ids: Sequence[int],
        first: int,
        *,
        without: Sequence[Head] = (),
        denied: Sequence[DeniedRun] = (),
    ) -> Float32[np.ndarray, " tokens"]:
        raise NotImplementedError


def samples(count: int, seed: int = 0) -> list[FocusSample]:
    dice = np.random.default_rng(seed)
    answers = [tuple(dice.integers(0, 1000, 3).tolist()) for _ in range(count)]
    return [
        sample_of(RuledModel(), SEGMENTS, PROMPT, answer, is_safe=answer[0] % 2 == 0) for answer in answers
    ]


def scores(model: FocusModel, seen: Sequence[FocusSample]) -> list[float]:
    places = [layer * 12 + head for layer, head in model.heads]
    return [model.focus_of(float(one.difference[places] @ np.array(model.weights))) for one in seen]


def test_the_made_up_model_is_one() -> None:
    assert isinstance(RuledModel(), ProbedModel)


def test_a_sample_is_trusted_less_untrusted() -> None:
    class Even(RuledModel):
        def shares(
            self, token_ids: Sequence[int], rows: Sequence[int], segments: Sequence[int]
        ) -> Float32[np.ndarray, "rows heads segments"]:
            one = np.array([0.1, 0.2, 0.4, 0.25, 0.05], np.float32)
            return np.tile(one, (len(rows), 24, 1))

    seen = sample_of(Even(), SEGMENTS, PROMPT, (1, 2), is_safe=True)
    assert seen.difference == pytest.approx([0.15] * 24, abs=1e-6)


def test_it_finds_the_head_that_tells_and_holds_on_new_answers() -> None:
    model = fit_focus((12, 12), samples(300), {"data": "made up"})
    assert len(model.heads) == MAX_HEADS
    strongest = max(zip(model.weights, model.heads, strict=True))
    assert strongest[1] == TELLING
    assert model.fitted_on["data"] == "made up"
    assert model.fitted_on["answers"] == 300
    new = samples(300, seed=1)
    focus, is_safe = scores(model, new), [one.is_safe for one in new]
    assert auroc(focus, is_safe) > 0.99
    stopped = [value < model.threshold for value, safe in zip(focus, is_safe, strict=True) if safe]
    assert np.mean(stopped) < 5 * FALSE_STOPS
    # The control: labels that mean nothing teach nothing that holds.
    dice = np.random.default_rng(2)
    shuffled = [replace(one, is_safe=bool(dice.random() < 0.5)) for one in samples(300)]
    assert 0.2 < auroc(scores(fit_focus((12, 12), shuffled), new), is_safe) < 0.8


def test_answers_of_one_kind_alone_teach_nothing() -> None:
    alike = [replace(one, is_safe=True) for one in samples(20)]
    with pytest.raises(InputError, match="of 20 answers 20 are safe"):
        fit_focus((12, 12), alike)
