"""Hold an answer to the form that a request asks for: a schema, or calls of functions. Knows no protocol."""

from __future__ import annotations

from dataclasses import replace

from cynosure.core.errors import InputError
from cynosure.engine import ConstraintKind, constraints
from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat.answer_grammar import AnswerGrammar, Thinking
from cynosure.models.chat.format import ChatFormat
from cynosure.models.chat.prompt import ChatPrompt
from cynosure.models.chat.tool_offer import ToolChoice, ToolOffer


def constrained(
    chat: ChatFormat, prompt: ChatPrompt, offer: ToolOffer, sampling: SamplingParams
) -> SamplingParams:
    """The sampling with all that the answer is held to; a model that reasons does so before it.

    Where functions are offered beside a form, an answer is either: calls, or a text of that form.

    Raises:
        InputError: a call and a form are both required, or a function's parameters are not usable; or quotes
            are asked for where a call or a thought may come first.
        InputTooLong: the functions' schemas are too long together.
    """
    form = sampling.constraint
    if form is not None and form.kind is ConstraintKind.VERBATIM:
        _check_quotes(chat, prompt, offer)
        return sampling
    if form is not None and offer.choice is ToolChoice.REQUIRED:
        raise InputError(
            "an answer can't be a call and follow a constraint too: tool_choice asks for one, and "
            f"the {form.kind.value} for the other. Leave one out."
        )
    if form is None and offer.is_free:
        return sampling
    for tool in offer.tools:
        if tool.parameters is not None:
            # Its depth and options are checked as those of any schema.
            constraints.json_schema(tool.parameters)
    thinking = chat.thinking_after(prompt)
    if form is not None and thinking is Thinking.NONE and not offer.callable_names:
        return sampling
    lark = AnswerGrammar(chat.tokenizer, thinking, chat.tool_format, offer, form is not None).lark
    held = constraints.grammar(lark) if form is None else replace(form, around=lark)
    return replace(sampling, constraint=held)


def _check_quotes(chat: ChatFormat, prompt: ChatPrompt, offer: ToolOffer) -> None:
    if offer.callable_names:
        raise InputError(
            "an answer that is made of quotes calls no functions: grounding asks for the one, tools for the "
            "other. Leave one out."
        )
    if chat.is_thinking_after(prompt):
        raise InputError(
            "an answer that is made of quotes has no thoughts, and this model's template has it think first. "
            "Set reasoning_effort to none where the model can, or leave grounding out."
        )
