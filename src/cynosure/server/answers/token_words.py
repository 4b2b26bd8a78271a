"""Write tokens and their likelihoods as OpenAI's and vLLM's clients read them. Knows nothing of sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cynosure.engine.request import TokenLogprob
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.schemas.chat import ChatLogprob, TopLogprob
from cynosure.server.schemas.completions import Logprobs, PromptLogprob
from cynosure.server.services import ScoredToken, Token

#: What clients read as "never": JSON has no infinity.
NEVER = -9999.0


def word_of(tokenizer: Tokenizer, token_id: int) -> str:
    """The text of a token; `bytes:` and its bytes where it is none by itself."""
    found = tokenizer.token_bytes(token_id)
    try:
        return found.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in found)


def finite(logprob: float) -> float:
    """A likelihood that JSON can hold."""
    return max(logprob, NEVER)


class LogprobRows:
    """Collects the rows of `logprobs` in a completion.

    Args:
        tokenizer: The model's.
        num_top: How many alternatives were asked for.
    """

    def __init__(self, tokenizer: Tokenizer, num_top: int) -> None:
        """Start without a token."""
        self._tokenizer = tokenizer
        self._num_top = num_top
        self.rows = Logprobs()

    def add_first(self, token_id: int, offset: int) -> None:
        """The first token of a prompt: nothing says how likely it was."""
        self.rows.tokens.append(word_of(self._tokenizer, token_id))
        self.rows.token_logprobs.append(None)
        self.rows.top_logprobs.append(None)
        self.rows.text_offset.append(offset)

    def add(self, token: TokenLogprob, top: Sequence[TokenLogprob], offset: int) -> None:
        """A token, and where its text begins."""
        word, logprob = word_of(self._tokenizer, token.token_id), finite(token.logprob)
        tops: dict[str, float] = {}
        for other in top[: self._num_top]:
            # Two tokens may be one text: the likelier counts.
            tops.setdefault(word_of(self._tokenizer, other.token_id), finite(other.logprob))
        tops.setdefault(word, logprob)
        self.rows.tokens.append(word)
        self.rows.token_logprobs.append(logprob)
        self.rows.top_logprobs.append(tops)
        self.rows.text_offset.append(offset)


def prompt_rows(
    tokenizer: Tokenizer, scored: Iterable[ScoredToken], num_top: int
) -> list[dict[int, PromptLogprob] | None]:
    """`prompt_logprobs`: for each token but the first, it and the likeliest at its place, by id."""
    rows: list[dict[int, PromptLogprob] | None] = [None]
    for token, top in scored:
        found: dict[int, PromptLogprob] = {}
        for rank, other in enumerate(top[:num_top], 1):
            word = word_of(tokenizer, other.token_id)
            found[other.token_id] = PromptLogprob(
                logprob=finite(other.logprob), rank=rank, decoded_token=word
            )
        if token.token_id not in found:
            word = word_of(tokenizer, token.token_id)
            found[token.token_id] = PromptLogprob(
                logprob=finite(token.logprob), rank=None, decoded_token=word
            )
        rows.append(found)
    return rows


def chat_row(tokenizer: Tokenizer, token: Token) -> ChatLogprob:
    """One token of an answer with its alternatives."""
    assert token.token_id is not None, "a token was chosen"
    assert token.logprob is not None, "log-probabilities were asked for"
    tops = [_top(tokenizer, other) for other in token.top_logprobs]
    this = _top(tokenizer, TokenLogprob(token.token_id, token.logprob))
    return ChatLogprob(token=this.token, logprob=this.logprob, bytes=this.bytes, top_logprobs=tops)


def _top(tokenizer: Tokenizer, token: TokenLogprob) -> TopLogprob:
    return TopLogprob(
        token=word_of(tokenizer, token.token_id),
        logprob=finite(token.logprob),
        bytes=list(tokenizer.token_bytes(token.token_id)),
    )
