"""Draw an answer on the terminal as it comes. Knows nothing of models.

Paragraphs that are complete are printed for good, and only the last one is drawn again: a long answer scrolls
as it should.
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.text import Text

from cynosure.models.chat.answer import Part, Said, Thought

_FENCE = "```"
_BREAK = "\n\n"
_THOUGHT = "dim italic"
#: A model's control characters are shown as pictures: a terminal would obey them.
_VISIBLE = (
    {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
    | {0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}")
)


class AnswerView:
    """One answer: thought in dim letters, what is said as Markdown; plain text where there is no terminal."""

    def __init__(self, console: Console) -> None:
        """Draw nothing yet."""
        self._console = console
        self._thought = ""
        self._said = ""
        self._live = Live(console=console, refresh_per_second=12, transient=True, auto_refresh=False)

    def __enter__(self) -> AnswerView:
        """Begin to draw."""
        if self._console.is_terminal:
            self._live.start()
            # Reading a long prompt takes its time; this goes with the first token.
            self._live.update(Text("…", "dim"), refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print what is left for good, however the answer ended."""
        self._live.stop()
        if self._console.is_terminal:
            self._print_thought()
            self._print_said(len(self._said))
        else:
            self._console.out("", highlight=False)

    def add(self, part: Part) -> None:
        """Show the next part."""
        if not isinstance(part, Thought | Said):
            return
        if not self._console.is_terminal:
            if isinstance(part, Said):
                self._console.out(part.text, end="", highlight=False)
            return
        text = part.text.translate(_VISIBLE)
        if isinstance(part, Thought):
            self._thought += text
            self._print_thought(keep_last_line=True)
        else:
            self._print_thought()
            self._said += text
            self._print_said(_complete(self._said))
        self._live.update(self._open(), refresh=True)

    def _open(self) -> RenderableType:
        """What may still change."""
        return Group(*([Text(self._thought, _THOUGHT)] if self._thought else []), Markdown(self._said))

    def _print_thought(self, keep_last_line: bool = False) -> None:
        end = self._thought.rfind("\n") + 1 if keep_last_line else len(self._thought)
        if end:
            self._live.update(Text())
            self._console.print(Text(self._thought[:end].rstrip("\n"), _THOUGHT))
            self._thought = self._thought[end:]

    def _print_said(self, length: int) -> None:
        done, self._said = self._said[:length], self._said[length:]
        if done.strip():
            self._live.update(Markdown(self._said))
            self._console.print(Markdown(done))
            if length and self._said.strip():
                self._console.print()


def _complete(text: str) -> int:
    """How long the paragraphs are that nothing can change any more; a block of code is one."""
    position = text.rfind(_BREAK)
    while position >= 0 and text[:position].count(_FENCE) % 2:
        position = text.rfind(_BREAK, 0, position)
    return position + len(_BREAK) if position >= 0 else 0
