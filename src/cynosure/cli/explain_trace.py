"""Draw on a terminal what an answer attended to, as its trace tells it. Knows nothing of servers.

The terminal's own colours are used, and every part has a letter too, so that nobody needs to see colours.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cynosure.core.errors import InputError

Json = dict[str, Any]

_COLOURS = ("blue", "yellow", "green", "magenta", "cyan", "red")
_ANSWER = "bright_black"
_OTHERS = (
    ("generated_mass", "the answer itself"),
    ("template_mass", "the template"),
    ("sink_mass", "a sink"),
)
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
_BAR = 24
_MAX_PARTS, _MAX_QUOTE = 40, 160
#: A model's control characters are shown as pictures: a terminal would obey them.
_VISIBLE = {code: 0x2400 + code for code in range(0x20) if chr(code) != "\n"} | {0x7F: 0x2421}
_VISIBLE |= dict.fromkeys(range(0x80, 0xA0), "\N{REPLACEMENT CHARACTER}")


@dataclass(frozen=True)
class Part:
    """A part of the prompt, the answer itself, the template or a sink; only the first has a `letter`."""

    label: str
    letter: str
    colour: str
    text: str | None


class AnswerColumns:
    """The numbers of one answer: for each watched token, one for each part."""

    def __init__(self, answer: Json, group: str) -> None:
        """Read them.

        Raises:
            InputError: the answer has no such group.
        """
        self.answer = answer
        groups = answer["groups"]
        if group not in groups:
            raise InputError(f"--group is {group!r}; the groups are {', '.join(groups)}. Choose one of them.")
        told = groups[group]
        columns = [*told["mass"], *(told[name] for name, _ in _OTHERS)]
        self.rows: list[tuple[float, ...]] = list(zip(*columns, strict=True))
        self.parts = (*map(_part, range(len(told["mass"])), answer["segments"]), *_other_parts())
        self.num_parts = len(told["mass"])

    @cached_property
    def mean(self) -> tuple[float, ...]:
        """The average over all watched tokens."""
        return self.mean_of(self.rows)

    def mean_of(self, rows: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
        """The average over some."""
        return tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))

    def most(self, row: tuple[float, ...]) -> int:
        """Which part, or the answer itself, has most of it: heads look at the others with nothing to tell."""
        return max(range(self.num_parts + 1), key=row.__getitem__)

    def between(self, start: int, end: int) -> list[tuple[float, ...]]:
        """Numbers of the tokens that begin in `start:end`, code points of the answer, or just before it."""
        starts = self.answer["starts"]
        ends = [*starts[1:], len(self.text)]
        at = zip(self.answer["watched"], self.rows, strict=True)
        return [row for token, row in at if starts[token] < end and ends[token] > start]

    @cached_property
    def text(self) -> str:
        """The answer, or nothing where it is not kept."""
        return "".join(self.answer["texts"] or ())

    def token(self, index: int) -> str:
        """What a token says, or a dot."""
        texts = self.answer["texts"]
        return "•" if texts is None else texts[index].translate(_VISIBLE)


class TraceDrawing:
    """Prints requests and their answers."""

    def __init__(self, console: Console, group: str, *, with_tokens: bool) -> None:
        """Print nothing yet."""
        self._console = console
        self._group = group
        self._with_tokens = with_tokens

    def draw_request(self, went: Json) -> None:
        """How it went, in two lines."""
        times, tokens = went["times"], went["tokens"]
        spent = "" if times["total_s"] is None else f" in {times['total_s']:.3f} s"
        first = (
            ""
            if times["first_token_s"] is None
            else f", the first token after {times['first_token_s']:.3f} s"
        )
        self._say(f"[bold]{escape(went['id'])}[/]: {went['state']}{spent}{first}")
        self._say(
            f"{tokens['prompt']} prompt tokens, {tokens['cached']} of them found in the cache, "
            f"{tokens['completion']} chosen"
        )
        found = went["guard"]["counts"]
        if found:
            told = "; ".join(
                f"{one['direction']} {one['kind']} {one['action']} {one['count']}" for one in found
            )
            self._say(f"found by the guard: {escape(told)}")

    def draw_answer(self, answer: Json) -> None:
        """Text, shares, sentences; and the tokens where they are asked for."""
        head = f"answer {answer['index']} of {answer['model']}, level {answer['level']}"
        self._console.print()
        self._say(f"[bold]{escape(head)}[/], {answer['finish'] or 'not read to its end'}")
        if not answer["groups"] or not answer["watched"]:
            self._bare(answer)
            return
        columns = AnswerColumns(answer, self._group)
        self._console.print(Padding(_coloured(columns), (1, 2)))
        self._shares(columns)
        self._sentences(columns)
        if self._with_tokens:
            self._tokens(columns)
        self._numbers(answer)

    def _say(self, markup: str) -> None:
        self._console.print(markup, soft_wrap=True)

    def _bare(self, answer: Json) -> None:
        told = ", ".join(f"{role} {mass:.1%}" for role, mass in answer["mass"].items())
        self._say(escape(f"attended to: {told}" if told else "no token of it was watched"))
        self._numbers(answer)

    def _shares(self, columns: AnswerColumns) -> None:
        heads = "all watched heads" if self._group == "all" else f"the heads of the group {self._group}"
        self._say(f"On average over {escape(heads)}, its tokens attended to")
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        full = 1.0 if self._group == "all" else max(1e-9, *map(abs, columns.mean))
        shown = sorted(range(len(columns.mean)), key=lambda at: -columns.mean[at])[:_MAX_PARTS]
        for at in sorted(shown):
            part, value = columns.parts[at], columns.mean[at]
            bar = Text("█" * round(_BAR * max(0.0, value) / full), part.colour)
            table.add_row(
                Text(part.letter, f"bold {part.colour}"), Text(part.label), bar, self._number(value)
            )
        self._console.print(Padding(table, (0, 2)))
        if len(shown) < len(columns.mean):
            self._say(f"  and {len(columns.mean) - len(shown)} parts that got less")

    def _number(self, value: float) -> str:
        return f"{value:.1%}" if self._group == "all" else f"{value:+.3f}"

    def _sentences(self, columns: AnswerColumns) -> None:
        sentences = columns.answer["extra"].get("sentences") or []
        citations = columns.answer["extra"].get("citations") or []
        if sentences:
            self._console.print()
        for number, one in enumerate(sentences, start=1):
            said = columns.text[one["start"] : one["end"]].translate(_VISIBLE) or f"sentence {number}"
            risk = "risk unknown" if one["risk"] is None else f"risk {one['risk']:.0%}"
            line = Text(f"{number}. ") + Text(said) + Text(f"  {risk}", _risk_style(one["risk"]))
            self._console.print(line, soft_wrap=True)
            if one["reason"]:
                self._console.print(Text(f"   {one['reason']}", "dim"), soft_wrap=True)
            rows = columns.between(one["start"], one["end"])
            if rows:
                mean = columns.mean_of(rows)
                part = columns.parts[columns.most(mean)]
                share = self._number(mean[columns.most(mean)])
                self._console.print(Text(f"   attended to {part.label} most ({share})", part.colour))
            for cited in (one_cited for one_cited in citations if one_cited["start"] == one["start"]):
                part = columns.parts[cited["segment"]]
                quote = "" if part.text is None else f": “{_cut(part.text)}”"
                line = f"   cites {part.label}, score {cited['score']:.0%}{quote}"
                self._console.print(Text(line, part.colour), soft_wrap=True)

    def _tokens(self, columns: AnswerColumns) -> None:
        table = Table("token", "text", "attended to most", "", "sink", "entropy", box=None, pad_edge=False)
        bits = columns.answer["token_entropy_bits"]
        for index, row, entropy in zip(columns.answer["watched"], columns.rows, bits, strict=True):
            part = columns.parts[columns.most(row)]
            table.add_row(
                str(index),
                Text(columns.token(index)),
                Text(f"{part.letter} {part.label}".strip(), part.colour),
                self._number(row[columns.most(row)]),
                self._number(row[-1]),
                f"{entropy:.2f}",
            )
        self._console.print(table)

    def _numbers(self, answer: Json) -> None:
        coverage = answer["coverage"]
        told = [
            f"watched: {coverage['heads']:.0%} of the heads, {coverage['layers']:.0%} of the layers, "
            f"{coverage['tokens']:.0%} of the tokens; {coverage['reason']}"
        ]
        for name, words in (("risk", "largest known risk"), ("focus", "focus on trusted instructions")):
            value = answer["extra"].get(name)
            if isinstance(value, float | int):
                told.append(f"{words} {value:.0%}")
        self._console.print(Text("; ".join(told), "dim"), soft_wrap=True)


def _part(at: int, segment: Json) -> Part:
    label = str(segment["name"] or segment["id"])
    letter = _LETTERS[at] if at < len(_LETTERS) else str(at)
    return Part(label, letter, _COLOURS[at % len(_COLOURS)], segment["text"])


def _other_parts() -> list[Part]:
    return [Part(label, "", _ANSWER, None) for _, label in _OTHERS]


def _coloured(columns: AnswerColumns) -> Text:
    """The answer, tokens in the colours of what they attended to most; a letter stands where that changes."""
    best = {
        token: columns.most(row) for token, row in zip(columns.answer["watched"], columns.rows, strict=True)
    }
    text, before = Text(), -1
    for token in range(columns.answer["tokens"]["completion"]):
        at = best.get(token)
        if at is None:
            text.append(columns.token(token))
            continue
        part = columns.parts[at]
        if at != before and part.letter:
            text.append(f"[{part.letter}]", f"bold {part.colour}")
        text.append(columns.token(token), f"{part.colour} underline" if part.letter else part.colour)
        before = at
    return text


def _risk_style(risk: float | None) -> str:
    if risk is None:
        return "dim"
    return "bold red" if risk >= 0.5 else "yellow" if risk >= 0.2 else "green"


def _cut(text: str) -> str:
    flat = " ".join(text.translate(_VISIBLE).split())
    return flat if len(flat) <= _MAX_QUOTE else f"{flat[:_MAX_QUOTE]}…"
