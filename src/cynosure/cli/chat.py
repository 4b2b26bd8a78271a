"""Converse with a model on the terminal. Knows nothing of HTTP, nor of how a token is chosen."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.markup import escape

from cynosure.cli.chat_input import HELP, Command, Typed, read_typed
from cynosure.cli.chat_save import save_conversation
from cynosure.cli.chat_view import AnswerView
from cynosure.cli.local_arguments import add_local_arguments, load_named
from cynosure.core.errors import CynosureError, InputError, InputTooLong
from cynosure.engine.sampling import SamplingParams
from cynosure.models.chat.answer import Said
from cynosure.models.chat.prompt import CallerText, Message
from cynosure.server.answers.chat_turn import begin_turn, build_prompt, chat_of, room_after
from cynosure.server.answers.generated_ids import GeneratedIds
from cynosure.server.answers.keeping import KeepingCompleter
from cynosure.server.services import CompletionModel, Generation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model and how to sample."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "source", nargs="?", metavar="FOLDER", help="a checkpoint's folder, a GGUF file, or a hub id"
    )
    which.add_argument("--model", metavar="FOLDER", help="the same")
    parser.add_argument("--system", default="", metavar="TEXT", help="how to answer")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="at most so many an answer")
    parser.add_argument(
        "--temperature", type=float, default=0.7, metavar="T", help="0 takes the likeliest (0.7)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="share of what is drawn from (1)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="draw the same tokens again")
    add_local_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Converse until /quit, or until nothing comes any more."""
    # With it, lines can be edited and come back; not every system has it.
    with suppress(ImportError):
        importlib.import_module("readline")
    # Refused before the weights are loaded.
    if arguments.max_tokens is not None and arguments.max_tokens < 1:
        raise InputError(f"--max-tokens is {arguments.max_tokens}; the limit is 1. Raise it.")
    sampling = SamplingParams(
        max_tokens=1 if arguments.max_tokens is None else arguments.max_tokens,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    console = Console(highlight=False)
    with console.status("Loading ..."):
        source = arguments.source or arguments.model
        model = load_named(source, arguments)
    try:
        chat_of(model)
        chat = Chat(
            KeepingCompleter(model, GeneratedIds().of("", model.name)),
            sampling,
            arguments.max_tokens,
            console,
            arguments.system,
        )
        converse(chat, input if sys.stdin.isatty() else _piped)
    finally:
        model.close()
    return 0


@dataclass
class Chat:
    """A conversation so far, and what it is held with."""

    model: CompletionModel
    sampling: SamplingParams
    max_tokens: int | None
    console: Console
    system: str = ""
    turns: list[tuple[str, str]] = field(default_factory=list)

    @property
    def said(self) -> list[tuple[str, str]]:
        """Who said what so far."""
        said = [("system", self.system)] if self.system else []
        for asked, answered in self.turns:
            said += [("user", asked), ("assistant", answered)]
        return said

    def messages(self, question: str) -> list[Message]:
        """The conversation as templates read it."""
        return [
            Message(role, f"messages[{at}]", (CallerText(text, f"messages[{at}].content"),))
            for at, (role, text) in enumerate([*self.said, ("user", question)])
        ]

    async def ask(self, question: str, heard: list[str]) -> None:
        """Draw the answer to a question; `heard` gets what was said, also where it is stopped."""
        begun = perf_counter()
        first_s = 0.0
        prompt = await build_prompt(self.model, self.messages(question))
        limit = room_after(self.model, prompt) if self.max_tokens is None else self.max_tokens
        asked = Generation(prompt.token_ids, replace(self.sampling, max_tokens=limit))
        turn = await begin_turn(self.model, prompt, (), (), asked)
        with AnswerView(self.console) as view:
            async for part in turn.parts():
                first_s = first_s or perf_counter() - begun
                view.add(part)
                if isinstance(part, Said):
                    heard.append(part.text)
        taken = perf_counter() - begun
        pace = turn.num_tokens / taken if taken else 0.0
        cut = ", cut off by the limit" if turn.finish == "length" else ""
        if self.console.is_terminal:
            told = f"{turn.num_tokens} tokens, {pace:.1f} a second, the first after {first_s:.2f} s{cut}"
            self.console.print(f"[dim]{told}[/]\n")


def converse(chat: Chat, read_line: Callable[[str], str]) -> None:
    """Take turns until the person ends it."""
    console = chat.console
    if console.is_terminal:
        console.print(
            f"[bold]{escape(chat.model.name)}[/]  [dim]/help tells what can be typed; /quit ends[/]\n"
        )
    with asyncio.Runner() as runner:
        while True:
            try:
                typed = read_typed(read_line)
            except EOFError:
                # The shell's own prompt begins a line.
                console.print(end="\n" if console.is_terminal else "")
                return
            except KeyboardInterrupt:
                console.print("[dim]/quit ends[/]")
                continue
            except ValueError as failure:
                console.print(f"[red]{escape(str(failure))}[/]")
                continue
            if typed.command is Command.QUIT:
                return
            question = typed.text if typed.command is None else ""
            if typed.command is Command.RETRY and chat.turns:
                question = chat.turns.pop()[0]
            elif typed.command is not None:
                _obey(chat, typed)
            if question:
                _answer(chat, question, runner)


def _answer(chat: Chat, question: str, runner: asyncio.Runner) -> None:
    heard: list[str] = []
    try:
        runner.run(chat.ask(question, heard))
    except KeyboardInterrupt:
        chat.console.print("[dim]stopped[/]\n")
    except InputTooLong as failure:
        chat.console.print(f"[red]{escape(str(failure))}[/] [dim]/clear begins anew.[/]")
        return
    except CynosureError as failure:
        chat.console.print(f"[red]{escape(str(failure))}[/]")
        return
    # A question that was stopped before a word came is as good as unasked.
    if heard:
        chat.turns.append((question, "".join(heard)))


def _obey(chat: Chat, typed: Typed) -> None:
    console = chat.console
    if typed.command is Command.HELP:
        console.print(escape(HELP))
    elif typed.command is Command.CLEAR:
        chat.turns.clear()
        console.print("[dim]The conversation is forgotten.[/]")
    elif typed.command is Command.UNDO:
        forgotten = chat.turns.pop()[0] if chat.turns else ""
        console.print(f"[dim]Forgotten: {escape(forgotten)}[/]" if forgotten else "[dim]Nothing was said.[/]")
    elif typed.command is Command.RETRY:
        console.print("[dim]Nothing was asked.[/]")
    elif typed.command is Command.SAVE:
        _save(chat, Path(typed.text).expanduser())
    elif typed.command is Command.SYSTEM:
        chat.system = typed.text
        console.print("[dim]From now on.[/]")


def _save(chat: Chat, path: Path) -> None:
    try:
        save_conversation(path, chat.said)
    except CynosureError as failure:
        chat.console.print(f"[red]{escape(str(failure))}[/]")
    else:
        chat.console.print(f"[dim]Written to {escape(str(path))}.[/]")


def _piped(_: str) -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
