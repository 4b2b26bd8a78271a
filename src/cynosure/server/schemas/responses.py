"""Shape `/v1/responses`, as OpenAI's clients send and read it. Computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from cynosure.core.errors import InputError
from cynosure.engine import constraints
from cynosure.engine.constraints import Constraint
from cynosure.engine.sampling import MAX_LOGPROBS, SamplingParams
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.models.chat.tool_offer import Tool, ToolChoice, ToolOffer
from cynosure.server.schemas.attention import Attention, AttentionParam
from cynosure.server.schemas.chat import MAX_TOOLS, ChatLogprob, FunctionName
from cynosure.server.schemas.constraints import JsonObjectFormat, TextFormat, the_one
from cynosure.server.schemas.end_user import EndUserFields
from cynosure.server.schemas.file_search import (
    FileCitation,
    FileSearchTool,
    NamedFileSearch,
    OutputFileSearch,
)
from cynosure.server.schemas.grounding import Grounding, GroundingReport, QuotedTexts
from cynosure.server.schemas.response_input import InputItem, InputItems, MessageItem, Status, asked_turns
from cynosure.server.schemas.stopped_call import StoppedCall
from cynosure.server.schemas.treatment import TreatmentFields
from cynosure.server.schemas.wire import Count1, Metadata, Never, Text, WireRequest

LOGPROBS = "message.output_text.logprobs"
Includable = Literal["message.output_text.logprobs", "file_search_call.results"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]


class FlatSchemaFormat(WireRequest):
    """JSON that a schema accepts; it is followed to the letter whether `strict` or not."""

    type: Literal["json_schema"]
    name: Annotated[Text, Field(max_length=64)]
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: Text | None = None
    strict: bool | None = None

    @property
    def constraint(self) -> Constraint:
        """What the engine is asked."""
        return constraints.json_schema(self.schema_)


class TextConfig(WireRequest):
    """What the answer looks like."""

    format: (
        Annotated[TextFormat | JsonObjectFormat | FlatSchemaFormat, Field(discriminator="type")] | None
    ) = None
    verbosity: None = None


class FunctionTool(WireRequest):
    """A function that is offered; arguments of a `strict` one follow its parameters to the letter."""

    type: Literal["function"]
    name: FunctionName
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def tool(self) -> Tool:
        """As templates read it."""
        function = self.model_dump(include={"name", "description", "parameters"}, exclude_none=True)
        shown = {"type": "function", "function": function}
        return Tool(self.name, shown, self.parameters, is_strict=self.strict is True)


class NamedFunctionTool(WireRequest):
    """The function that must be called."""

    type: Literal["function"]
    name: FunctionName


OfferedTool = Annotated[FunctionTool | FileSearchTool, Field(discriminator="type")]
NamedTool = Annotated[NamedFunctionTool | NamedFileSearch, Field(discriminator="type")]


class ReasoningConfig(WireRequest):
    """How much the model thinks, where its template can say so; there are no summaries."""

    effort: ReasoningEffort | None = None
    summary: None = None
    generate_summary: None = None


class ResponseStreamOptions(WireRequest):
    """What a stream adds."""

    include_obfuscation: Never | None = None


class ResponsesRequest(TreatmentFields, EndUserFields):
    """What to read, and how to answer. Fields with one permitted value are known and not served otherwise."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"required": ["stream_options"], "properties": {"stream_options": {"type": "object"}}},
            "then": {"required": ["stream"], "properties": {"stream": {"const": True}}},
        }
    )

    model: Text
    input: Text | InputItems
    instructions: Text | None = None
    previous_response_id: Text | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Count1 | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    text: TextConfig | None = None
    tools: Annotated[list[OfferedTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningConfig | None = None
    metadata: Metadata | None = None
    include: Annotated[list[Includable], Field(max_length=8)] | None = None
    truncation: Literal["disabled"] | None = None
    background: Never | None = None
    service_tier: Literal["auto", "default"] | None = None
    max_tool_calls: None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    conversation: None = None
    prompt: None = None
    attention: AttentionParam | None = None
    grounding: Grounding | None = None

    @model_validator(mode="after")
    def _fields_fit_together(self) -> ResponsesRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options needs stream to be true")
        if self.top_logprobs and not self.tells_logprobs:
            raise ValueError("top_logprobs needs message.output_text.logprobs in include")
        if sum(isinstance(tool, FileSearchTool) for tool in self.tools or []) > 1:
            raise ValueError("tools: one file_search names all stores; two are not served")
        return self

    @property
    def cites(self) -> bool:
        """Whether it is asked what sentences cite."""
        return self.attention is not None and self.attention.citations is not None

    @property
    def tells_logprobs(self) -> bool:
        """Whether tokens come with how likely they were."""
        return LOGPROBS in (self.include or [])

    @property
    def tells_results(self) -> bool:
        """Whether a search comes with what it found."""
        return "file_search_call.results" in (self.include or [])

    @property
    def search(self) -> FileSearchTool | None:
        """The search that is made before the model answers; None where none is.

        Raises:
            InputError: one is asked for that is not offered.
        """
        tools = [tool for tool in self.tools or [] if isinstance(tool, FileSearchTool)]
        if isinstance(self.tool_choice, NamedFileSearch) and not tools:
            raise InputError("tool_choice names file_search, which is not offered. Add it to tools.")
        is_wanted = self.tool_choice != "none" and not isinstance(self.tool_choice, NamedFunctionTool)
        return tools[0] if tools and is_wanted else None

    @property
    def items(self) -> list[InputItem]:
        """What is new, as items."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return self.input

    @property
    def turns(self) -> list[Message]:
        """What is new, as turns with where each text stands in the request."""
        if isinstance(self.input, str):
            return [Message("user", "input", (CallerText(self.input, "input"),))]
        return asked_turns(self.input, "input")

    @property
    def instruction_turns(self) -> list[Message]:
        """What stands before everything, and is not carried over to the next response."""
        if self.instructions is None:
            return []
        return [Message("system", "instructions", (CallerText(self.instructions, "instructions"),))]

    @property
    def effort(self) -> ReasoningEffort | None:
        """How much the model is to think."""
        return None if self.reasoning is None else self.reasoning.effort

    @property
    def offer(self) -> ToolOffer:
        """The functions that are offered, and how free the model is to call them.

        Raises:
            InputError: a call is asked for of a function that is not offered.
        """
        tools = [tool.tool for tool in self.tools or [] if isinstance(tool, FunctionTool)]
        choice, may_call_many = self.tool_choice or "auto", self.parallel_tool_calls is not False
        if isinstance(choice, NamedFileSearch):
            choice = "none"
        elif choice == "required" and self.search is not None:
            # The search is the call that is required.
            choice = "auto"
        if isinstance(choice, NamedFunctionTool):
            return ToolOffer.of(tools, named=choice.name, may_call_many=may_call_many)
        return ToolOffer.of(tools, choice=ToolChoice(choice), may_call_many=may_call_many)

    def quoted(self, passages: Sequence[tuple[str, str]]) -> QuotedTexts | None:
        """The texts that the answer is to quote: given ones, or passages that were found, by their names.

        Raises:
            InputError: there are none.
        """
        return QuotedTexts.of(self.grounding, passages, "Send texts, or search files that hold some.")

    def sampling(self, default_max_tokens: int, passages: Sequence[tuple[str, str]] = ()) -> SamplingParams:
        """What the engine is asked.

        Raises:
            InputError: the schema of the answer is not usable, or it is to follow one and to quote.
        """
        given = self.model_dump(include={"temperature", "top_p"}, exclude_none=True)
        form = None if self.text is None or self.text.format is None else self.text.format.constraint
        quoted = self.quoted(passages)
        quotes = None if quoted is None else quoted.constraint
        return SamplingParams(
            max_tokens=default_max_tokens if self.max_output_tokens is None else self.max_output_tokens,
            constraint=the_one([held for held in (form, quotes) if held is not None]),
            logprobs=(self.top_logprobs or 0) if self.tells_logprobs else None,
            **given,
        )


class SaidText(BaseModel):
    """What the model says."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[FileCitation] = []
    logprobs: list[ChatLogprob] = []


class ThoughtText(BaseModel):
    """What the model thought."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class OutputMessage(BaseModel):
    """A message of the model."""

    id: str
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"
    status: Status
    content: list[SaidText]


class OutputReasoning(BaseModel):
    """The model's thoughts, in full; there is no summary."""

    id: str
    type: Literal["reasoning"] = "reasoning"
    status: Status
    summary: list[None] = []
    content: list[ThoughtText]
    encrypted_content: None = None


class OutputCall(BaseModel):
    """A call that the model makes."""

    id: str
    type: Literal["function_call"] = "function_call"
    status: Status
    call_id: str
    name: str
    arguments: str


OutputItem = OutputMessage | OutputReasoning | OutputCall | OutputFileSearch


class InputTokensDetails(BaseModel):
    """How many tokens of what was read were found in the cache."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputTokensDetails(BaseModel):
    """How many of the chosen tokens were thoughts."""

    reasoning_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens read and chosen."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(BaseModel):
    """Why an answer ended before its end."""

    reason: Literal["max_output_tokens", "content_filter"]


class ResponseError(BaseModel):
    """Why there is no whole answer."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class ReasoningSettings(BaseModel):
    """What was asked of how the model thinks."""

    effort: ReasoningEffort | None = None
    summary: None = None


class ResponseBody(BaseModel):
    """An answer, finished or under way, with what was asked."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: Literal["in_progress", "completed", "incomplete", "failed"] = "in_progress"
    background: Literal[False] = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    metadata: dict[str, str] = {}
    model: str
    output: list[OutputItem] = []
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    reasoning: ReasoningSettings = ReasoningSettings()
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: dict[str, Any]
    tool_choice: Literal["auto", "none", "required"] | dict[str, str]
    tools: list[dict[str, Any]]
    top_logprobs: int = 0
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    attention: Attention | None = None
    stopped_call: StoppedCall | None = None
    grounding: GroundingReport | None = None


class DeletedResponse(BaseModel):
    """A response that is kept no more."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True
