"""Make small conversations from templates: quotes, calls of functions, logs and tables. Trains nothing.

They teach the form of an answer (a quote with its number, a call in Hermes's form, a cell of a table). What
they ask is made up or taken from the corpus, so that no question of an evaluation is among them.
"""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment

#: How a conversation is written; goes into the checkpoint, where the server reads it.
TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages and messages[0].role == "system" %}{{ messages[0].content }}
{% endif %}Functions:
{% for tool in tools %}{{ tool.function.name }}: {{ tool.function.description }} \
{{ tool.function.parameters.properties | tojson }}
{% endfor %}Call one with <tool_call>{"name": ..., "arguments": {...}}</tool_call><|im_end|>
{% elif messages and messages[0].role == "system" %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages if message.role != "system" %}<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- for call in message.tool_calls or [] %}<tool_call>{"name": {{ call.function.name | tojson }}, \
"arguments": {{ call.function.arguments | tojson }}}</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

NOTHING = "The documents do not say."
MAX_DOCSTRING = 600

Message = Mapping[str, object]


@dataclass(frozen=True)
class Task:
    """A conversation that ends with the answer to be learned, and the functions that it offers."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, object], ...] = ()


@dataclass(frozen=True)
class Documented:
    """A function or class, and how its docstring begins."""

    name: str
    summary: str
    docstring: str


class Renderer:
    """Writes tasks as the checkpoint's template does."""

    def __init__(self) -> None:
        """Compile the template."""
        environment = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)
        environment.filters["tojson"] = _to_json
        self._template = environment.from_string(TEMPLATE)

    def text(self, task: Task) -> str:
        """The whole conversation, its answer included."""
        return self._template.render(messages=task.messages, tools=task.tools, add_generation_prompt=False)


def tasks(documented: Sequence[Documented], seed: int) -> Iterator[Task]:
    """Yield tasks without end, of all kinds in turn; grounded ones only where there is enough to quote."""
    dice = random.Random(seed)
    while True:
        if len(documented) >= 3:
            yield _grounded(documented, dice)
            yield _grounded(documented, dice)
        yield _tool_call(dice)
        yield _table(dice)
        yield _log(dice)


def documented_in(text: str) -> list[Documented]:
    """The functions and classes of a source that say what they do; none where it does not parse."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith(("_", "test")):
            continue
        docstring = ast.get_docstring(node) or ""
        summary = " ".join(docstring.split("\n\n")[0].split("\n"))
        is_sentence = summary.endswith(".") and 20 <= len(summary) <= 160 and summary in docstring
        if is_sentence and len(docstring) <= MAX_DOCSTRING:
            found.append(Documented(node.name, summary, docstring))
    return found


def _grounded(documented: Sequence[Documented], dice: random.Random) -> Task:
    """A question about one of three documents, or about none of them; the answer is a quote."""
    *shown, other = dice.sample(documented, 4) if len(documented) > 3 else [*documented, documented[0]]
    asked, answer = other, NOTHING
    if dice.random() < 0.75 or any(other.name == one.name for one in shown):
        place = dice.randrange(len(shown))
        asked, answer = shown[place], f'"{shown[place].summary}" [{place + 1}]'
    lines = [f"[{number}] {one.name}: {one.docstring}" for number, one in enumerate(shown, 1)]
    question = dice.choice(
        ("What does {} do?", "What is {} for?", "Say what {} does.", "How is {} described?")
    ).format(asked.name)
    return _talk("\n".join([*lines, question]), answer)


@dataclass(frozen=True)
class _Function:
    """A function that may be called, and how people ask for it; the slots are its arguments."""

    name: str
    description: str
    asked: tuple[str, ...]
    slots: tuple[str, ...]


_FUNCTIONS = (
    _Function("read_file", "Read a file.", ("Show me {path}", "What is in {path}?", "Open {path}"),
              ("path",)),
    _Function("list_files", "List a folder.", ("Which files are in {folder}?", "List {folder}"), ("folder",)),
    _Function("get_weather", "Weather of a city.", ("How is the weather in {city}?", "Is it cold in {city}?"),
              ("city",)),
    _Function("run_tests", "Run the tests of a module.", ("Run the tests of {module}", "Does {module} pass?"),
              ("module",)),
    _Function("search_docs", "Search the documentation.", ("Find docs about {topic}", "Look up {topic}"),
              ("topic",)),
    _Function("set_timer", "Start a timer.", ("Wake me in {minutes} minutes", "Timer for {minutes} minutes"),
              ("minutes",)),
    _Function("send_mail", "Send a mail.", ("Mail {person} about {topic}", "Write to {person} on {topic}"),
              ("person", "topic")),
    _Function("convert", "Convert money.", ("How much is {amount} {source} in {target}?",),
              ("amount", "source", "target")),
)  # fmt: skip
_VALUES: Mapping[str, tuple[str, ...]] = {
    "path": ("setup.py", "src/main.py", "README.md", "logs/app.log", "data/users.csv", "docs/index.md"),
    "folder": ("src", "tests", "docs/images", "build", "/tmp", "data"),
    "city": ("Berlin", "Oslo", "Lima", "Kyoto", "Nairobi", "Porto", "Quebec", "Hanoi"),
    "module": ("parser", "auth", "billing", "models", "cache", "router"),
    "topic": ("sorting", "open files", "dates", "threads", "decorators", "regular expressions", "sockets"),
    "person": ("Ada", "Grace", "Linus", "Barbara", "Guido", "Margaret"),
    "source": ("EUR", "USD", "GBP"),
    "target": ("JPY", "CHF", "SEK"),
}
_NUMBERS = frozenset(("minutes", "amount"))


def _tool_call(dice: random.Random) -> Task:
    """A wish, three functions, and the call that grants it."""
    offered = dice.sample(_FUNCTIONS, 3)
    wanted = dice.choice(offered)
    arguments: dict[str, object] = {
        slot: dice.randrange(2, 90) if slot in _NUMBERS else dice.choice(_VALUES[slot])
        for slot in wanted.slots
    }
    asked = dice.choice(wanted.asked).format(**arguments)
    call = {"type": "function", "function": {"name": wanted.name, "arguments": arguments}}
    answer = {"role": "assistant", "content": "", "tool_calls": (call,)}
    return Task(({"role": "user", "content": asked}, answer), tuple(_schema(one) for one in offered))


def _schema(function: _Function) -> dict[str, object]:
    kinds = {slot: {"type": "integer" if slot in _NUMBERS else "string"} for slot in function.slots}
    parameters = {"type": "object", "properties": kinds, "required": list(function.slots)}
    described = {"name": function.name, "description": function.description, "parameters": parameters}
    return {"type": "function", "function": described}


_SERVICES = ("auth", "billing", "cache", "mailer", "router", "search", "worker", "gateway")
_COLUMNS = ("requests", "errors", "latency", "memory", "users")


def _table(dice: random.Random) -> Task:
    """A table of comma-separated values, and a question about a cell or a column."""
    names, columns = dice.sample(_SERVICES, dice.randrange(3, 7)), dice.sample(_COLUMNS, 2)
    rows = [[name, *(dice.randrange(1, 1000) for _ in columns)] for name in names]
    lines = [",".join(("service", *columns)), *(",".join(map(str, row)) for row in rows)]
    column = dice.randrange(len(columns))
    row = dice.choice(rows)
    extreme = max(rows, key=lambda one: one[1 + column])
    question, answer = dice.choice(
        (
            (f"What is the {columns[column]} of {row[0]}?", str(row[1 + column])),
            (f"Which service has the most {columns[column]}?", str(extreme[0])),
            ("How many services are there?", str(len(rows))),
        )
    )
    return _talk("\n".join([*lines, question]), answer)


_EVENTS = ("started", "connection lost", "timeout after 30 s", "retry", "disk full", "stopped", "reloaded")
_LEVELS = ("INFO", "WARNING", "ERROR")


def _log(dice: random.Random) -> Task:
    """Lines of a log, and a question about one of them or about how many there are."""
    hour, lines = dice.randrange(24), []
    for number in range(dice.randrange(3, 8)):
        time = f"{hour:02}:{7 * number:02}:{dice.randrange(60):02}"
        lines.append((time, dice.choice(_LEVELS), dice.choice(_SERVICES), dice.choice(_EVENTS)))
    chosen = dice.choice(lines)
    level = dice.choice(_LEVELS)
    question, answer = dice.choice(
        (
            (f"How many lines are {level}?", str(sum(line[1] == level for line in lines))),
            (f"What happened at {chosen[0]}?", f"{chosen[2]}: {chosen[3]}"),
            (f"Which service wrote at {chosen[0]}?", chosen[2]),
        )
    )
    return _talk("\n".join([*(" ".join(line) for line in lines), question]), answer)


def _talk(asked: str, answer: str) -> Task:
    return Task(({"role": "user", "content": asked}, {"role": "assistant", "content": answer}))


def _to_json(value: object) -> str:
    """JSON as chat templates write it: readable, and not made safe for HTML."""
    return json.dumps(value, ensure_ascii=False)
