"""Render a conversation as a checkpoint expects it. Knows nothing of token ids.

The template writes control tokens (`<|im_start|>`); a message must not. Control tokens inside of messages are
marked before rendering and found again after it, so that the tokenizer can encode them as plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import CheckpointCorrupt, NotFound, TemplateError
from cynosure.models.json_file import MAX_BYTES, read_json_object
from cynosure.models.template_process import TemplateLimits, TemplateProcess

#: Unicode's noncharacters: no text holds them, but a caller may send them.
_MARKS = tuple(map(chr, range(0xFDD0, 0xFDF0)))

_REASONING = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True)
class RenderedPrompt:
    """A rendered conversation.

    Attributes:
        text: What the model is to read.
        literals: Sorted spans (code points) of control tokens that came out of messages; see
            `Tokenizer.encode_prompt`. An empty span is a place where the text must be cut.
    """

    text: str
    literals: tuple[tuple[int, int], ...] = ()


class ChatTemplate:
    """The templates of one checkpoint, each run in a process of its own.

    Args:
        sources: Templates by name; `default` and `tool_use` are the usual ones.
        named_tokens: `bos_token` and its like, as the templates see them.
        control_tokens: Texts that only the template may write.
        limits: What one rendering may use.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        named_tokens: Mapping[str, str] | None = None,
        control_tokens: Collection[str] = (),
        limits: TemplateLimits | None = None,
    ) -> None:
        """Keep the templates; nothing is compiled yet."""
        self._named_tokens = dict(named_tokens or {})
        longest_first = sorted(control_tokens, key=len, reverse=True)
        self._control = "|".join(map(re.escape, longest_first)) or "(?!)"
        self._sources = dict(sources)
        self._processes = {
            name: TemplateProcess(source, limits or TemplateLimits()) for name, source in sources.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the templates."""
        return tuple(self._processes)

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        tools: Sequence[Mapping[str, object]] | None = None,
        documents: Sequence[Mapping[str, object]] | None = None,
        add_generation_prompt: bool = False,
        name: str | None = None,
        variables: Mapping[str, object] | None = None,
    ) -> RenderedPrompt:
        """Render a conversation.

        Args:
            messages: `role`, `content` and what else the template reads, as JSON values.
            tools: JSON schemas of functions.
            documents: What some templates quote from.
            add_generation_prompt: Whether to open the assistant's turn at the end.
            name: Which template; without it `tool_use` where there are tools and such a one, else `default`.
            variables: Further variables, such as `enable_thinking`.

        Raises:
            NotFound: No template of that name.
            TemplateError: The template refuses the messages, fails, or runs over a limit.
        """
        chosen = name or ("tool_use" if tools and "tool_use" in self._processes else "default")
        if chosen not in self._processes:
            raise NotFound(
                f"the checkpoint has no chat template {chosen!r}; it has {list(self.names) or 'none'}. Name "
                "one of them, or send a prompt instead of messages."
            )
        values = {
            "messages": [_with_reasoning(message) for message in messages],
            "tools": None if tools is None else [dict(tool) for tool in tools],
            "documents": None if documents is None else [dict(document) for document in documents],
            "add_generation_prompt": add_generation_prompt,
            **(variables or {}),
        }
        start, end = _free_marks(values, self._sources[chosen])
        control = re.compile(self._control)
        try:
            marked = {key: _marked(value, control, f"{start}\\g<0>{end}") for key, value in values.items()}
        except RecursionError as error:
            raise TemplateError("the messages are nested too deeply. Flatten them.") from error
        text = self._processes[chosen].render({**self._named_tokens, **marked})
        return _unmarked(text, self._control, start, end)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.close()


def read_templates(folder: Path) -> dict[str, str]:
    """The chat templates in a checkpoint's folder by name; empty where it has none.

    `chat_template.jinja` and `additional_chat_templates/*.jinja` come before tokenizer_config.json.

    Raises:
        CheckpointCorrupt: A template that is no text.
    """
    found: dict[str, str] = {}
    config_path = folder / "tokenizer_config.json"
    held = read_json_object(config_path).get("chat_template") if config_path.is_file() else None
    for entry in held if isinstance(held, list) else [{"name": "default", "template": held}]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise CheckpointCorrupt(f"{config_path} holds a chat_template without a name. Fetch it again.")
        if isinstance(entry.get("template"), str):
            found[entry["name"]] = entry["template"]
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[path.stem] = _read_text(path)
    if (folder / "chat_template.jinja").is_file():
        found["default"] = _read_text(folder / "chat_template.jinja")
    return found


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CheckpointCorrupt(f"{path} is over {MAX_BYTES} bytes. Fetch it again.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointCorrupt(f"{path} can't be read as text: {error}. Fetch it again.") from error


def _with_reasoning(message: Mapping[str, object]) -> dict[str, object]:
    """The message with its reasoning under each name that templates read it by."""
    reasoning = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    if reasoning is None:
        return dict(message)
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _free_marks(values: Mapping[str, object], source: str) -> tuple[str, str]:
    """Two characters that neither the values nor the template hold."""
    seen = {*source}
    stack: list[object] = [dict(values)]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            seen.update(value)
        elif isinstance(value, dict):
            stack += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            stack += value
    free = [mark for mark in _MARKS if mark not in seen]
    if len(free) < 2:
        raise TemplateError("the messages hold every noncharacter from U+FDD0 to U+FDEF. Remove them.")
    return free[0], free[1]


def _marked(value: object, control: re.Pattern[str], wrapped: str) -> object:
    """The value with each control token inside of its strings and keys wrapped in marks."""
    if isinstance(value, str):
        return control.sub(wrapped, value)
    if isinstance(value, dict):
        return {
            control.sub(wrapped, key) if isinstance(key, str) else key: _marked(item, control, wrapped)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_marked(item, control, wrapped) for item in value]
    return value


def _unmarked(text: str, control: str, start: str, end: str) -> RenderedPrompt:
    """Take the marks out again, and say where they were.

    A template may cut a marked token; a mark that lost its partner stays as an empty span, so that what
    stands left and right of it can't form a token. JSON written in ASCII holds the marks as escapes.
    """
    opening, closing = (f"(?:{mark}|{re.escape(f'{chr(92)}u{ord(mark):04x}')})" for mark in (start, end))
    parts: list[str] = []
    literals: list[tuple[int, int]] = []
    position = length = 0
    for match in re.finditer(f"{opening}({control}){closing}|{opening}|{closing}", text):
        before = text[position : match.start()]
        inner = match.group(1) or ""
        parts += [before, inner]
        length += len(before)
        literals.append((length, length + len(inner)))
        length += len(inner)
        position = match.end()
    return RenderedPrompt("".join([*parts, text[position:]]), tuple(literals))
