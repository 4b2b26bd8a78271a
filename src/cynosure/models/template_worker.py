"""Render one chat template in a process of its own. Knows nothing of Cynosure: it runs as a script.

Reads JSON lines from its input and answers each with one: first the limits, then the template, then one line
of variables for each rendering. The parent ends it when it takes too long; memory, files and the output are
bounded here. Filters, globals and tags are those that templates on the hub are written against.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import NoReturn

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

try:
    import resource
except ImportError:
    # Windows has no such limits: the parent's clock still holds.
    resource = None


_TAGS = {"generation"}


class GenerationTag(Extension):
    """Accepts `{% generation %}`, which marks what training counts, and renders its body."""

    tags = _TAGS

    def parse(self, parser: Parser) -> nodes.Node:
        """The body as a scope."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class TemplateDict:
    """`dict` without the type's attributes."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        """A new dict."""
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Iterable[object], value: object = None) -> dict[object, object]:
        """A new dict with one value."""
        return dict.fromkeys(keys, value)


class TemplateNamespace(Namespace):
    """`namespace` without attributes that begin with an underscore."""

    def __init__(*args: object, **kwargs: object) -> None:
        """Check the names; `namespace(self=1)` works, hence the bare signature."""
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _check_name(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: object) -> None:
        """Set one attribute."""
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace holds no name that starts with an underscore: {name!r}")


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def build_environment() -> Environment:
    """The sandbox, with what chat templates may call."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=_strftime_now,
        dict=TemplateDict(),
        namespace=TemplateNamespace,
    )
    return environment


def _render(template: Template, variables: dict[str, object], max_chars: int) -> str:
    chunks = []
    size = 0
    for chunk in template.generate(variables):
        size += len(chunk)
        if size > max_chars:
            raise TemplateError(f"the output is over the limit of {max_chars} characters")
        chunks.append(chunk)
    return "".join(chunks)


def _limit(max_bytes: int) -> None:
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _set_alarm(seconds: float) -> None:
    """End this process even if its parent is gone."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _reply(reply: dict[str, str]) -> None:
    sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
    sys.stdout.buffer.flush()


def _failure(error: Exception) -> dict[str, str]:
    return {"error": f"{type(error).__name__}: {error}"[:500]}


def _serve(source: str, limits: dict[str, float]) -> None:
    """Compile the template, then render it with each line of variables."""
    grace = 2 * limits["max_seconds"] + 1
    _set_alarm(grace)
    try:
        template = build_environment().from_string(source)
    except Exception as error:
        _reply(_failure(error))
        return
    _set_alarm(0)
    _reply({"text": ""})
    for line in sys.stdin.buffer:
        _set_alarm(grace)
        try:
            reply = {"text": _render(template, json.loads(line), int(limits["max_chars"]))}
        except Exception as error:
            reply = _failure(error)
        _set_alarm(0)
        _reply(reply)


def main() -> None:
    """Serve until the input ends."""
    limits = json.loads(sys.stdin.buffer.readline())
    _limit(limits["max_bytes"])
    _reply({"text": ""})
    _serve(json.loads(sys.stdin.buffer.readline())["template"], limits)


if __name__ == "__main__":
    main()
