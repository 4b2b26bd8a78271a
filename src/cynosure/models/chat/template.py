"""Render a conversation as a checkpoint expects it. Knows nothing of token ids.

The template writes control tokens (`<|im_start|>`); a message must not. What came out of a caller's strings
is known by their traces, so that the tokenizer can encode control tokens in there as plain characters.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cynosure.core.errors import CheckpointCorrupt, NotFound, UnknownOption
from cynosure.models.chat.template_process import CallerRun, Rendering, TemplateLimits, TemplateProcess
from cynosure.models.chat.tool_calls import ToolFormat, format_of
from cynosure.models.gguf.advice import templates_of
from cynosure.models.gguf.header import is_gguf, read_gguf
from cynosure.models.json_file import MAX_BYTES, read_json_object

#: The names by which templates and callers know what was thought before an answer.
REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")

_RESERVED = ("messages", "tools", "documents", "add_generation_prompt")


@dataclass(frozen=True)
class RenderedPrompt:
    """A rendered conversation.

    Attributes:
        text: What the model is to read.
        literals: Sorted spans (code points) of control tokens that came out of messages; see
            `Tokenizer.encode_prompt`.
        runs: What came out of the caller's strings, sorted; the rest is the template's.
    """

    text: str
    literals: tuple[tuple[int, int], ...] = ()
    runs: tuple[CallerRun, ...] = ()


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
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._sources = dict(sources)
        self._processes = {
            name: TemplateProcess(source, limits or TemplateLimits()) for name, source in sources.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the templates."""
        return tuple(self._processes)

    def reads(self, text: str) -> bool:
        """Whether one of the templates holds a text, such as the name of a variable."""
        return any(text in source for source in self._sources.values())

    @property
    def tool_format(self) -> ToolFormat | None:
        """How the templates teach a model to call functions."""
        return format_of("\n".join(self._sources.values()))

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
            UnknownOption: A variable that would replace one that is set here.
            TemplateError: The template refuses the messages, fails, or runs over a limit.
        """
        chosen = name or ("tool_use" if tools and "tool_use" in self._processes else "default")
        if chosen not in self._processes:
            raise NotFound(
                f"the checkpoint has no chat template {chosen!r}; it has {list(self.names) or 'none'}. Name "
                "one of them, or send a prompt instead of messages."
            )
        for taken in [*_RESERVED, *self._named_tokens]:
            if taken in (variables or {}):
                raise UnknownOption(f"the variable {taken!r} is set from the request. Leave it out.")
        traced: dict[str, object] = {
            "messages": [_with_reasoning(message) for message in messages],
            "tools": None if tools is None else [dict(tool) for tool in tools],
            "documents": None if documents is None else [dict(document) for document in documents],
            **(variables or {}),
        }
        fixed = {**self._named_tokens, "add_generation_prompt": add_generation_prompt}
        rendering = self._processes[chosen].render(fixed, traced)
        literals = _literals(rendering, self._control)
        return RenderedPrompt(rendering.text, literals, rendering.runs)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            process.close()


def read_templates(folder: Path) -> dict[str, str]:
    """The chat templates in a checkpoint's folder by name; empty where it has none.

    `chat_template.jinja` and `additional_chat_templates/*.jinja` come before tokenizer_config.json. A GGUF
    file holds them itself.

    Raises:
        CheckpointCorrupt: A template that is no text.
    """
    if is_gguf(folder):
        return templates_of(read_gguf(folder))
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
    reasoning = next((message[key] for key in REASONING_KEYS if message.get(key) is not None), None)
    if reasoning is None:
        return dict(message)
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _literals(rendering: Rendering, control: re.Pattern[str]) -> tuple[tuple[int, int], ...]:
    """Where control tokens stand that the template did not write.

    It may write one around a role (`<|user|>`); any other character of a caller makes it the caller's, though
    two of his strings meet in it.
    """
    ends = [run.end for run in rendering.runs]
    literals = []
    for match in control.finditer(rendering.text):
        start, end = match.span()
        touched = []
        for run in rendering.runs[bisect_right(ends, start) :]:
            if run.start >= end:
                break
            touched.append(run)
        is_role = all(is_role_path(run.path) for run in touched)
        if touched and (not is_role or (touched[0].start <= start and end <= touched[-1].end)):
            literals.append((start, end))
    return tuple(literals)


def is_role_path(path: tuple[str | int, ...]) -> bool:
    """Whether a path leads to the name of who speaks."""
    return len(path) == 3 and path[0] == "messages" and path[2] == "role"
