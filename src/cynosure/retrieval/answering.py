"""Answer questions with quotes, or say that nothing answers. Knows nothing of where answers are shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter

from cynosure.retrieval.answer import QuotedAnswer, attended_in_quote, quote
from cynosure.retrieval.answer_gate import GATE, Gate, Signs, rarity_of, signs_of
from cynosure.retrieval.answer_parts import Parts, quote_parts
from cynosure.retrieval.protocols import Embedder, Evidence, Ranker
from cynosure.retrieval.rank import LINE
from cynosure.retrieval.search import DocsSearch, Found

#: Whether anything answers is decided by so many objects, however many are to be quoted.
NUM_READ = 5


@dataclass(frozen=True)
class Answered:
    """An answer, what it was found by, and by which signs it was decided; `None` without a ranker."""

    quoted: QuotedAnswer
    found: Found
    signs: Signs | None
    timings_ms: dict[str, float]


class Answering:
    """Answers over one index: by the search's score alone, or by what a ranker says of each sentence."""

    def __init__(
        self, search: DocsSearch, embedder: Embedder, ranker: Ranker | None = None, gate: Gate = GATE
    ) -> None:
        """Take a search that has the same ranker; nothing is read here."""
        self._search = search
        self._embedder = embedder
        self._ranker = ranker
        self._gate = gate
        self._parts = Parts(search.store.contents) if ranker is not None else None

    def answer(self, question: str, max_results: int, evidence: Evidence | None = None) -> Answered:
        """Quote what answers, at most one slice an object, or nothing.

        Args:
            question: In anybody's words.
            max_results: How many objects are quoted at most.
            evidence: Tells what was attended to in a quote; `None` leaves the spans empty.

        Raises:
            EmptyInput, InputTooLong, InputError: As `DocsSearch.search` does.
        """
        is_ranked = self._ranker is not None
        found = self._search.search(question, max(max_results, NUM_READ) if is_ranked else max_results)
        begun = perf_counter()
        # An index may hold nothing, and then there is nothing to read.
        if self._ranker is None or self._parts is None or not found.hits:
            quoted = quote(question, found, evidence)
            return Answered(quoted, found, None, found.timings_ms | {"evidence": _since(begun)})
        passages, answers = quote_parts(question, found.hits, self._parts, self._ranker, self._embedder)
        rarity = rarity_of(question, self._search.store)
        signs = signs_of(found.hits[:NUM_READ], max(answers[:NUM_READ]), rarity)
        chance = self._gate.chance(signs)
        taken = found.timings_ms | {"quote": _since(begun)}
        if chance < LINE:
            reason = f"the chance that what was found answers is {chance:.2f}; below {LINE} it is no answer"
            return Answered(QuotedAnswer(question, (), False, reason, LINE, chance), found, signs, taken)
        begun = perf_counter()
        quotes = passages[:max_results]
        if evidence is not None:
            quotes = [replace(one, attended=attended_in_quote(one.hit, evidence)) for one in quotes]
        quoted = QuotedAnswer(question, tuple(quotes), True, "", LINE, chance)
        return Answered(quoted, found, signs, taken | {"evidence": _since(begun)})


def _since(begun: float) -> float:
    return 1e3 * (perf_counter() - begun)
