"""Shape `/v1/completions`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from cynosure.engine import constraints
from cynosure.engine.beam_params import BeamParams
from cynosure.engine.constraints import MAX_NAMES, Constraint
from cynosure.engine.sampling import MAX_LOGPROBS, SamplingParams
from cynosure.server.schemas.attention import Attention, TextAttentionParam
from cynosure.server.schemas.beams import EarlyStoppingField, LengthPenalty, NumBeams, beams_of
from cynosure.server.schemas.generation import Count, GenerationFields
from cynosure.server.schemas.grounding import Grounding, GroundingReport, QuotedTexts
from cynosure.server.schemas.sampling import TokenId
from cynosure.server.schemas.wire import Count0, Piece, Text

MAX_PROMPTS = 256
#: Prompts times sequences of each.
MAX_ALL_SEQUENCES = 256

TokenIds = Annotated[list[TokenId], Field(min_length=1)]
#: Names of Python; which are none is said by the constraint.
Names = Annotated[list[Annotated[Text, Field(min_length=1)]], Field(max_length=MAX_NAMES)]
NumLogprobs = Annotated[int, Field(ge=0, le=MAX_LOGPROBS)]


class CompletionRequest(GenerationFields):
    """Prompts to continue, each by itself.

    `suffix` has the model write what stands between prompt and suffix. With `echo` the answer begins with the
    prompt; `max_tokens` may then be 0, and `logprobs` tell how likely the prompt was.

    A beam search is asked for by `num_beams`, as in transformers, or by `use_beam_search` with `best_of`, as
    in vLLM; it gives the one best answer, and the temperature is then 0. Encoder-decoders search, decoders do
    not.

    With `names`, all names in what is written are these, or Python's own.
    """

    model: Text
    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_PROMPTS)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
    )
    max_tokens: Count0 | None = None
    best_of: Count | None = None
    num_beams: NumBeams | None = None
    use_beam_search: bool | None = None
    length_penalty: LengthPenalty | None = None
    early_stopping: EarlyStoppingField | None = None
    echo: bool | None = None
    logprobs: NumLogprobs | None = None
    prompt_logprobs: NumLogprobs | None = None
    suffix: Text | None = None
    attention: TextAttentionParam | None = None
    grounding: Grounding | None = None
    names: Names | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> CompletionRequest:
        self._check_search()
        if self.num_sequences < self.num_choices:
            raise ValueError(f"best_of is {self.best_of}, less than n, {self.n}")
        if self.stream and self.num_sequences > self.num_choices:
            raise ValueError("the best of several is known at the end; it can't be streamed")
        if self.stream and self.prompt_logprobs is not None:
            raise ValueError("prompt_logprobs are not streamed; with echo, logprobs are")
        if self.max_tokens == 0 and not self.echo and self.prompt_logprobs is None:
            raise ValueError("max_tokens is 0, and neither echo nor prompt_logprobs asks for anything")
        if self.suffix is not None and self.echo:
            raise ValueError("suffix and echo: a prompt with a gap is not what the answer goes on from")
        has_names = self.attention is not None and self.attention.segments is not None
        if has_names and (not isinstance(self.prompt, str) or self.suffix is not None):
            raise ValueError("segments of attention are places in one prompt that is a text, without suffix")
        total = len(self.prompts) * self.num_sequences
        if total > MAX_ALL_SEQUENCES:
            raise ValueError(f"{total} sequences are asked for; the limit is {MAX_ALL_SEQUENCES}")
        return self

    def _check_search(self) -> None:
        if self.use_beam_search and self.num_beams is not None:
            raise ValueError("num_beams and use_beam_search: give one of them")
        if self.use_beam_search and (self.best_of or 1) < 2:
            raise ValueError("use_beam_search needs best_of, the number of beams, to be 2 or more")
        if self.beams is None:
            return
        if self.num_choices > 1:
            raise ValueError(f"n is {self.n}; a beam search gives the one best answer")
        if self.best_of is not None and not self.use_beam_search:
            raise ValueError(
                "num_beams and best_of: several beam searches of one prompt give the same answer"
            )

    @property
    def beams(self) -> BeamParams | None:
        """How the answer is searched for; None where tokens are chosen one at a time."""
        width = self.best_of if self.use_beam_search else self.num_beams
        return beams_of(width or 1, self.length_penalty, self.early_stopping)

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, whichever way they were written."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [item for item in self.prompt if isinstance(item, int)]
        return [ids] if ids else [item for item in self.prompt if not isinstance(item, int)]

    @property
    def quoted(self) -> QuotedTexts | None:
        """The texts that the answers are to quote.

        Raises:
            InputError: none are named.
        """
        spans = (self.attention.segments if self.attention is not None else None) or []
        whole = self.prompt if isinstance(self.prompt, str) else ""
        how = 'Name one in attention.segments, "doc:1" say, or send texts.'
        return QuotedTexts.of(
            self.grounding, [(span.id, whole[span.start : span.end]) for span in spans], how
        )

    @property
    def further_constraints(self) -> list[Constraint]:
        """That the answer is made of quotes, or of names; behind which prompt, the engine is told later."""
        found = [] if self.quoted is None else [self.quoted.constraint]
        return found if self.names is None else [*found, constraints.names(self.names)]

    @property
    def num_choices(self) -> int:
        """How many answers a prompt gets."""
        return self.n or 1

    @property
    def num_sequences(self) -> int:
        """How many are drawn for that."""
        return self.num_choices if self.use_beam_search else self.best_of or self.num_choices

    @property
    def num_prompt_logprobs(self) -> int | None:
        """How many alternatives to each token of the prompt are wanted; None where nothing is."""
        wanted = [self.prompt_logprobs, self.logprobs if self.echo else None]
        return max((count for count in wanted if count is not None), default=None)

    def sampling(self, default_max_tokens: int) -> SamplingParams:
        """What the engine is asked.

        Raises:
            InputError: fields that exclude each other.
        """
        # To compare sequences, each token's own is needed.
        logprobs = self.logprobs or 0 if self.num_sequences > self.num_choices else self.logprobs
        asked = super().sampling(default_max_tokens)
        beams = self.beams
        if beams is not None and self.temperature is None:
            asked = replace(asked, temperature=0.0)
        return replace(asked, beams=beams, logprobs=logprobs, prompt_logprobs=self.num_prompt_logprobs)


class PromptTokensDetails(BaseModel):
    """How many tokens of the prompt were found in the cache and not computed."""

    cached_tokens: int = 0


class Usage(BaseModel):
    """Tokens read and chosen; the one that ended the text is counted."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = PromptTokensDetails()


class Logprobs(BaseModel):
    """Each token with how likely it was, and where its text begins; the first of a prompt has no likelihood.

    A token that is no text by itself is written `bytes:\\xe2\\x98`.
    """

    tokens: list[str] = []
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float] | None] = []
    text_offset: list[int] = []


class PromptLogprob(BaseModel):
    """How likely one token was at its place; its rank is told where it is among those asked for."""

    logprob: float
    rank: int | None
    decoded_token: str


class Choice(Piece):
    """Text that follows the prompt; of a stream, the text that is new."""

    index: int
    text: str
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length", "content_filter"] | None
    prompt_logprobs: list[dict[int, PromptLogprob] | None] | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None
    attention: Attention | None = None
    grounding: GroundingReport | None = None


class Completion(BaseModel):
    """A continuation, or a part of one; the last part of a stream may have usage and no choice."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None
