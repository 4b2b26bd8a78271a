"""Conversations are what the house's template writes and its readers read."""

from __future__ import annotations

import json
import re
from itertools import islice

import pytest

from cynosure.models.chat.template import ChatTemplate
from cynosure.models.chat.tool_calls import ToolCall, ToolCallReader, ToolFormat
from cynosure.train.generated_tasks import (
    NOTHING,
    TEMPLATE,
    Documented,
    Renderer,
    Task,
    documented_in,
    tasks,
)

DOCUMENTED = [
    Documented(f"name{n}", f"Return the {n}th of all things.", f"Return the {n}th of all things.\n\nMore.")
    for n in range(6)
]


@pytest.fixture(scope="module")
def made() -> list[Task]:
    return list(islice(tasks(DOCUMENTED, 0), 400))


def answer_of(task: Task) -> str:
    return str(task.messages[-1]["content"])


def asked_of(task: Task) -> str:
    return str(task.messages[0]["content"])


def test_the_house_s_template_writes_the_same(made: list[Task]) -> None:
    template, renderer = ChatTemplate({"default": TEMPLATE}), Renderer()
    try:
        for task in made[:12]:
            rendered = template.render(task.messages, tools=task.tools or None)
            assert rendered.text == renderer.text(task)
            opened = template.render(task.messages[:-1], tools=task.tools or None, add_generation_prompt=True)
            assert rendered.text.startswith(opened.text)
            assert opened.text.endswith("<|im_start|>assistant\n")
        system = template.render(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
        )
        assert system.text == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        assert template.tool_format is ToolFormat.HERMES
    finally:
        template.close()


def test_calls_are_read_as_calls_of_offered_functions(made: list[Task]) -> None:
    calls = [task for task in made if task.tools]
    assert calls
    for task in calls[:40]:
        schemas = {tool["function"]["name"]: tool["function"] for tool in task.tools}  # type: ignore[index]
        text = Renderer().text(task).split("<|im_start|>assistant\n")[1].removesuffix("<|im_end|>\n")
        reader = ToolCallReader(ToolFormat.HERMES, schemas)
        (call,) = [*reader.push(text), *reader.finish()]
        assert isinstance(call, ToolCall)
        arguments = json.loads(call.arguments)
        assert set(arguments) == set(schemas[call.name]["parameters"]["required"])
        assert all(str(value) in asked_of(task) for value in arguments.values())


def test_quotes_are_verbatim_or_nothing_is_said(made: list[Task]) -> None:
    grounded = [task for task in made if asked_of(task).startswith("[1]")]
    silent = [task for task in grounded if answer_of(task) == NOTHING]
    assert 0.1 < len(silent) / len(grounded) < 0.4
    for task in grounded:
        asked = asked_of(task)
        name = re.findall(r"name\d", asked.splitlines()[-1])[0]
        if task in silent:
            assert f"] {name}:" not in asked
            continue
        quote, number = re.fullmatch(r'"(.+)" \[(\d)\]', answer_of(task)).groups()  # type: ignore[union-attr]
        assert f"[{number}] {name}: {quote}" in asked


def test_tables_and_logs_are_answered_right(made: list[Task]) -> None:
    asked = [(asked_of(task).splitlines(), answer_of(task)) for task in made]
    counted = [(lines, answer) for lines, answer in asked if lines[-1].startswith("How many lines are")]
    assert counted
    for lines, answer in counted:
        level = lines[-1].removesuffix("?").split()[-1]
        assert answer == str(sum(f" {level} " in line for line in lines[:-1]))
    most = [(lines, answer) for lines, answer in asked if "has the most" in lines[-1]]
    assert most
    for lines, answer in most:
        column = lines[0].split(",").index(lines[-1].removesuffix("?").split()[-1])
        rows = [line.split(",") for line in lines[1:-1]]
        assert answer == max(rows, key=lambda row: int(row[column]))[0]


def test_the_seed_decides(made: list[Task]) -> None:
    assert made == list(islice(tasks(DOCUMENTED, 0), 400))
    assert made != list(islice(tasks(DOCUMENTED, 1), 400))
    assert not any(asked_of(task).startswith("[1]") for task in islice(tasks(DOCUMENTED[:2], 0), 30))


def test_docstrings_that_say_what_something_does() -> None:
    source = '''
class Shelf:
    """A place where books stand in rows."""

def count(shelf):
    """Return how many books there are,
    the lent ones too.

    More of it.
    """

def put(book):
    """Put a book back on its shelf.

    It must be clean.
    """

def _hidden(): """Return what nobody should see here."""
def bare(): ...
'''
    assert [(one.name, one.summary) for one in documented_in(source)] == [
        ("Shelf", "A place where books stand in rows."),
        ("put", "Put a book back on its shelf."),
    ]
    assert documented_in("def broken(:") == []
