"""Say how one model converses: its template, its calls of functions, its reasoning. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cynosure.core.errors import UnknownOption
from cynosure.models.chat import reasoning
from cynosure.models.chat.answer import AnswerReader
from cynosure.models.chat.answer_grammar import Thinking
from cynosure.models.chat.earlier import Earlier
from cynosure.models.chat.prompt import ChatPrompt, Message, build_chat_prompt
from cynosure.models.chat.reasoning import ReasoningSplit
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.chat.tool_calls import MARKERS, ToolCallReader, ToolFormat
from cynosure.models.chat.tool_offer import Tool as Tool
from cynosure.models.text.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class ChatFormat:
    """How a model converses.

    Attributes:
        template: What renders a conversation.
        tokenizer: What encodes it.
        tool_format: How the model calls functions; None where it does not, or nobody here knows how.
        has_reasoning: Whether the model thinks between tags before it answers.
        build: What makes a prompt of messages; who must see every text first puts itself there.
        earlier: What was generated before, whose tokens are kept.
    """

    template: ChatTemplate
    tokenizer: Tokenizer
    tool_format: ToolFormat | None
    has_reasoning: bool
    build: Callable[..., ChatPrompt] = build_chat_prompt
    earlier: Earlier | None = None

    @classmethod
    def of(
        cls, template: ChatTemplate | None, tokenizer: Tokenizer, tool_format: ToolFormat | None = None
    ) -> ChatFormat | None:
        """Read from the template what a model does; None where there is none.

        Args:
            template: The checkpoint's.
            tokenizer: The checkpoint's.
            tool_format: How the model calls functions, where the template would not tell.

        Raises:
            UnknownOption: A format for a model whose template reads no tools.
        """
        if tool_format is not None and (template is None or not template.reads("tools")):
            raise UnknownOption(
                f"the form of calls {tool_format.value!r} was asked for, and the checkpoint's chat template "
                "reads no tools. Leave it out."
            )
        if template is None:
            return None
        has_reasoning = template.reads(reasoning.OPEN) or tokenizer.token_to_id(reasoning.OPEN) is not None
        chosen = tool_format or template.tool_format
        return cls(template, tokenizer, chosen if template.reads("tools") else None, has_reasoning)

    @property
    def shown_tokens(self) -> tuple[str, ...]:
        """Tokens that answers are read by, so that they are text though they control."""
        tags = (reasoning.OPEN, reasoning.CLOSE) if self.has_reasoning else ()
        return tags if self.tool_format is None else (*tags, MARKERS[self.tool_format])

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        *,
        add_generation_prompt: bool = True,
        variables: Mapping[str, object] | None = None,
        from_text: bool = False,
    ) -> ChatPrompt:
        """The conversation in tokens; `from_text` alone, whatever was generated before.

        Raises:
            UnknownOption: The template reads no tools, or not one of the variables.
            TemplateError: The template refuses the messages, fails, or runs over a limit.
            InputError: A text is not valid Unicode.
        """
        if tools and self.tool_format is None:
            raise UnknownOption(
                "tools are not served: this model's chat template reads none, or teaches a form of calls "
                "that is not known here. Leave them out, or take another model."
            )
        for name in variables or {}:
            if not self.template.reads(name):
                raise UnknownOption(f"this model's chat template reads no {name[:100]!r}. Leave it out.")
        return self.build(
            self.template,
            self.tokenizer,
            messages,
            tools=[tool.schema for tool in tools] or None,
            add_generation_prompt=add_generation_prompt,
            variables=variables,
            earlier=None if from_text else self.earlier,
        )

    def is_thinking_after(self, prompt: ChatPrompt) -> bool:
        """Whether a prompt has opened a span of reasoning."""
        # Only the template opens one; a caller who ends with the tag has written a text.
        return (
            self.has_reasoning
            and prompt.text.rstrip().endswith(reasoning.OPEN)
            and prompt.token_segments[-1] == 0
        )

    def thinking_after(self, prompt: ChatPrompt) -> Thinking:
        """Whether the answer to a prompt begins with reasoning."""
        if self.is_thinking_after(prompt):
            return Thinking.OPEN
        # A template that closes a span has switched reasoning off.
        is_over = prompt.text.rstrip().endswith(reasoning.CLOSE) and prompt.token_segments[-1] == 0
        return Thinking.POSSIBLE if self.has_reasoning and not is_over else Thinking.NONE

    def reader(self, prompt: ChatPrompt, names: Collection[str] = ()) -> AnswerReader:
        """What reads the answer to a prompt, in which the functions of these names may be called."""
        calls = None
        if names and self.tool_format is not None:
            calls = ToolCallReader(self.tool_format, names)
        split = ReasoningSplit(self.is_thinking_after(prompt)) if self.has_reasoning else None
        return AnswerReader(split, calls)
