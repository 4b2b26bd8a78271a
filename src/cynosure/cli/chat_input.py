"""Read what a person types: one line, several, or a command. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

FENCE = '"""'
CONTINUED = "\\"

PROMPT, MORE = "> ", ". "


class Command(Enum):
    """What a person may ask of the program instead of the model."""

    QUIT = "/quit"
    CLEAR = "/clear"
    UNDO = "/undo"
    RETRY = "/retry"
    SYSTEM = "/system"
    SAVE = "/save"
    HELP = "/help"


HELP = f"""\
{Command.QUIT.value}          end (or Ctrl-D)
{Command.CLEAR.value}         forget the conversation
{Command.UNDO.value}          forget the last question and its answer
{Command.RETRY.value}         ask the last question again
{Command.SYSTEM.value} TEXT   say how to answer, from now on; without a text, say nothing
{Command.SAVE.value} FILE     write the conversation: as Markdown, or as messages where FILE ends with .json
{Command.HELP.value}          this

A line that ends with {CONTINUED} goes on in the next; {FENCE} opens and closes a text of many lines.
Ctrl-C stops an answer."""


@dataclass(frozen=True)
class Typed:
    """What was typed: a text for the model, or a command with its text."""

    text: str
    command: Command | None = None


def read_typed(read_line: Callable[[str], str]) -> Typed:
    """Read one input; `read_line` gets what to show before the line.

    Raises:
        EOFError: Nothing comes any more.
        ValueError: A command that does not exist; the message says which do.
    """
    line = read_line(PROMPT)
    if line.lstrip().startswith(FENCE):
        return Typed(_fenced(line.lstrip().removeprefix(FENCE), read_line))
    lines = [line]
    while lines[-1].endswith(CONTINUED):
        lines[-1] = lines[-1].removesuffix(CONTINUED)
        lines.append(read_line(MORE))
    text = "\n".join(lines).strip()
    word, _, rest = text.partition(" ")
    if not word.startswith("/") or "/" in word[1:]:
        return Typed(text)
    known = {command.value: command for command in Command} | {"/exit": Command.QUIT}
    if word not in known:
        raise ValueError(f"{word} is no command; these are: {', '.join(known)}.")
    return Typed(rest.strip(), known[word])


def _fenced(first: str, read_line: Callable[[str], str]) -> str:
    lines = [first]
    while not lines[-1].rstrip().endswith(FENCE):
        lines.append(read_line(MORE))
    lines[-1] = lines[-1].rstrip().removesuffix(FENCE)
    return "\n".join(lines).strip("\n")
