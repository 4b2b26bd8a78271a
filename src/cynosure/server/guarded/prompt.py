"""Show the guard every text of a conversation before it is rendered. Knows no protocol and no tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from cynosure.guard import Places
from cynosure.models.chat.earlier import Earlier
from cynosure.models.chat.prompt import CallerText, ChatPrompt, Message
from cynosure.models.chat.template import ChatTemplate
from cynosure.models.text.tokenizer import Tokenizer
from cynosure.server.guarded.screening import Screening

TOOLS, VARIABLES = "tools", "chat_template_kwargs"


class GuardedPrompts:
    """Builds prompts of what the policy lets through, and remembers which it built."""

    def __init__(
        self, screening: Screening, known: set[tuple[int, ...]], build: Callable[..., ChatPrompt]
    ) -> None:
        """Add the token ids of each prompt that `build` makes to `known`."""
        self._screening = screening
        self._build = build
        self._known = known

    def build(
        self,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = True,
        variables: Mapping[str, object] | None = None,
        earlier: Earlier | None = None,
    ) -> ChatPrompt:
        """As `build_chat_prompt`; segments keep the caller's strings, and offsets count in those.

        Raises:
            ContentPolicyViolation: a text holds what is blocked.
        """
        changed: dict[str, tuple[str, Places]] = {}
        prompt = self._build(
            template,
            tokenizer,
            [self._message(message, changed) for message in messages],
            tools=self._screening.structure(tools, TOOLS),
            add_generation_prompt=add_generation_prompt,
            variables=self._screening.structure(variables, VARIABLES),
            earlier=earlier,
        )
        self._known.add(prompt.token_ids)
        return _with_originals(prompt, changed) if changed else prompt

    def _message(self, message: Message, changed: dict[str, tuple[str, Places]]) -> Message:
        def shown(text: CallerText) -> CallerText:
            decision = self._screening.input(text.text, text.path)
            if decision.text != text.text:
                changed[text.path] = text.text, Places(decision.findings)
            return replace(text, text=decision.text)

        thought, name, call_id = message.reasoning, message.name, message.tool_call_id
        return replace(
            message,
            texts=tuple(map(shown, message.texts)),
            reasoning=None if thought is None else shown(thought),
            tool_calls=self._screening.structure(message.tool_calls, f"{message.path}.tool_calls"),
            name=self._screening.structure(name, f"{message.path}.name"),
            tool_call_id=self._screening.structure(call_id, f"{message.path}.tool_call_id"),
        )


def _with_originals(prompt: ChatPrompt, changed: Mapping[str, tuple[str, Places]]) -> ChatPrompt:
    """Have segments and offsets speak of what the caller wrote."""
    segments = tuple(
        replace(segment, text=changed[segment.path][0])
        if segment.text is not None and segment.path in changed
        else segment
        for segment in prompt.segments
    )
    offsets = [
        changed[path][1].original(span) if span is not None and path in changed else span
        for span, path in zip(
            prompt.token_offsets, (segments[owner].path for owner in prompt.token_segments), strict=True
        )
    ]
    return replace(prompt, segments=segments, token_offsets=tuple(offsets))
