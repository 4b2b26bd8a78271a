"""Apply output rules to tokens, so that nothing of what is redacted leaves with one. Knows no route.

A token is held until the guard knows all of its text. Where a redaction touches it, its id, probability and
alternatives would spell what the text hides, so that they are replaced: the id by one of the mark, the
probability by a number that none has. How many tokens there were stays true.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from cynosure.guard import Action, Finding, Rules, StreamFilter
from cynosure.server.services import Token

#: What OpenAI's clients read as "no probability to tell".
HIDDEN_LOGPROB = -9999.0
CONTENT_FILTER = "content_filter"


class _Held(NamedTuple):
    """A token and where its text stands; one without text shares the place of the next that has some."""

    token: Token
    start: int
    end: int
    has_text: bool


class TokenFilter:
    """Takes tokens as they are chosen, and gives those that are safe. `mark_id` gives a token for a mark."""

    def __init__(self, rules: Rules, mark_id: Callable[[str], int]) -> None:
        """Stand before the first token."""
        self._filter = StreamFilter(rules)
        self._is_strict = any(action is not Action.ALLOW for action in rules.by_kind().values())
        self._mark_id = mark_id
        self._held: deque[_Held] = deque()
        self._textless: list[Token] = []
        self._num_read = 0
        #: Findings before this one end before every token that is held.
        self._first = 0

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return self._filter.findings

    @property
    def is_blocked(self) -> bool:
        """Whether the answer has ended here: its last token was given, whoever chooses more may stop."""
        return self._filter.is_blocked

    def push(self, token: Token) -> list[Token]:
        """Read a token; return those that are settled by it, the blocked end among them."""
        assert not self.is_blocked, "nothing follows what was blocked"
        self._hold(token)
        self._filter.push(token.text)
        if token.finish_reason is not None:
            self._filter.finish()
            self._place_textless()
        if not self._is_strict:
            # Nothing is ever changed: what is found is counted, and nobody waits.
            self._place_textless()
            return self._release(self._num_read)
        if self._filter.is_blocked:
            return self._blocked(token)
        return self._release(self._num_read if token.finish_reason else self._filter.num_settled)

    def flush(self) -> list[Token]:
        """Give what is held where no end came: the text is what it is, and nothing joins it any more."""
        if self.is_blocked:
            return []
        self._filter.finish()
        self._place_textless()
        return self._blocked(Token("")) if self.is_blocked else self._release(self._num_read)

    def _hold(self, token: Token) -> None:
        if not token.text:
            self._textless.append(token)
            return
        start, self._num_read = self._num_read, self._num_read + len(token.text)
        self._place_textless(start)
        self._held.append(_Held(token, start, self._num_read, True))

    def _place_textless(self, start: int | None = None) -> None:
        """Have tokens without text share the place from `start` on: they may be bytes of it."""
        begin = self._num_read if start is None else start
        self._held += [_Held(token, begin, self._num_read, False) for token in self._textless]
        self._textless = []

    def _release(self, end: int) -> list[Token]:
        given = []
        while self._held and self._held[0].end <= end:
            given.append(self._shown(self._held.popleft()))
        return given

    def _blocked(self, last: Token) -> list[Token]:
        """What stands before the blocked finding, and the end."""
        end = self._filter.findings[-1].start
        given = []
        while self._held and self._held[0].start < end:
            given.append(replace(self._shown(self._held.popleft()), finish_reason=None))
        rest = [held.token for held in self._held] + self._textless
        prompt = next((token.prompt_logprobs for token in rest if token.prompt_logprobs), ())
        given.append(Token("", CONTENT_FILTER, last.num_cached, prompt_logprobs=prompt))
        return given

    def _shown(self, held: _Held) -> Token:
        """A token as it may leave: as it is, or with its place in the marks."""
        findings = self._filter.findings
        if not findings:
            return held.token
        while self._first < len(findings) and findings[self._first].end <= held.start:
            self._first += 1
        token, at, text, mark = held.token, held.start, [], ""
        for finding in findings[self._first :]:
            if finding.start >= held.end:
                break
            if finding.action is Action.ALLOW:
                continue
            mark = mark or finding.mark
            text.append(token.text[at - held.start : max(at, finding.start) - held.start])
            if finding.action is Action.BLOCK:
                at = held.end
                break
            if held.start <= finding.start:
                text.append(finding.mark)
            at = min(finding.end, held.end)
        if not mark:
            return token
        text.append(token.text[at - held.start :])
        return replace(
            token,
            text="".join(text) if held.has_text else "",
            token_id=None if token.token_id is None else self._mark_id(mark),
            logprob=None if token.logprob is None else HIDDEN_LOGPROB,
            top_logprobs=(),
        )
