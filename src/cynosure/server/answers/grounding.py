"""Tell of an answer which quotes it is made of, and who chose its words. Knows no route and no tokens."""

from __future__ import annotations

from cynosure.engine.grammar.quotes import quotes_in
from cynosure.server.schemas.grounding import GroundedSpan, GroundingReport, QuotedTexts


class GroundingTeller:
    """Hears one answer as it comes, and tells at its end which stretches are quotes, and of what."""

    def __init__(self, quoted: QuotedTexts, num_echoed: int = 0) -> None:
        """Start before the first character; offsets count from so many characters on."""
        self._quoted = quoted
        self._num_echoed = num_echoed
        self._heard: list[str] = []

    @property
    def names(self) -> tuple[str, ...]:
        """What the texts are called, where they are parts of the prompt."""
        return self._quoted.names

    def hear(self, text: str) -> None:
        """Take what is said next."""
        self._heard.append(text)

    @property
    def report(self) -> GroundingReport:
        """What was quoted so far."""
        quoted, shift = self._quoted, self._num_echoed
        found = quotes_in("".join(self._heard), quoted.texts, min_chars=quoted.min_chars)
        spans = [
            GroundedSpan(
                start=shift + quote.start,
                end=shift + quote.end,
                text=quote.text,
                segment=quoted.names[quote.text] if quoted.names else None,
                text_start=quote.source_start,
                text_end=quote.source_end,
            )
            for quote in found
        ]
        return GroundingReport(spans=spans)
