"""Tell the risk of each sentence of an answer. Computes no risk, and knows no protocol."""

from __future__ import annotations

from cynosure.insight import Reading
from cynosure.insight.judging.risk import RiskReader, SentenceRisk, largest, risk_model_of
from cynosure.server.answers.said_tokens import SaidTokens
from cynosure.server.schemas.attention import AttendedSentence, Attention

#: Digits behind the point: finer than a calibration is.
_DIGITS = 4


class RiskTeller:
    """Tells of answers to one prompt."""

    def __init__(self, reading: Reading) -> None:
        """Look whether the model's profile was fitted for it; else there is nothing to tell."""
        self._model = risk_model_of(reading.profile)
        self._reading = reading

    @property
    def has_model(self) -> bool:
        """Whether there is anything to tell, which tokens must be kept for."""
        return self._model is not None

    def tell(self, to: Attention, said: SaidTokens) -> None:
        """Add the risk of each sentence, and the largest that is known."""
        if self._model is None:
            return
        tokens = said.tokens(self._reading.segments)
        risks = () if tokens is None else RiskReader(self._model, self._reading).sentences(tokens, said.text)
        greatest = largest(risks)
        to.risk = None if greatest is None else round(greatest, _DIGITS)
        to.sentences = [_sentence(one) for one in risks]


def _sentence(told: SentenceRisk) -> AttendedSentence:
    sentence = AttendedSentence(
        start=told.start, end=told.end, risk=None if told.risk is None else round(told.risk, _DIGITS)
    )
    if told.reason is not None:
        sentence.risk_unknown_reason = told.reason
    return sentence
