"""Render one chat template in a process of its own. Knows nothing of models: it runs as a script.

Reads JSON lines from its input and answers each with one: first the limits, then the template, then one line
of variables for each rendering. The parent ends it when it takes too long; memory, files and the output are
bounded here. Filters, globals and tags are those that templates on the hub are written against.

Strings of the caller are traced through the template, so that the answer tells where each character of the
output came from.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from operator import attrgetter
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from cynosure.models.chat.traced_text import Run, Traced, computed, concat, written

try:
    import resource
except ImportError:
    # Windows has no such limits: the parent's clock still holds.
    resource = None


_TAGS = {"generation"}

#: Keys and indices from the variables to a string.
Path = tuple[str | int, ...]


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


class _TracingCode(CodeGenerator):
    """Compiles `a ~ b` to a join that keeps traces."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.concat((")
        for item in node.nodes:
            self.visit(item, frame)
            self.write(", ")
        self.write("))")


class TracingSandbox(ImmutableSandboxedEnvironment):
    """A sandbox in which text that is computed from traced text is traced."""

    code_generator_class = _TracingCode
    intercepted_binops = frozenset({"%", "*"})

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        """Trace through filters, and through what joins and writes values."""
        super().__init__(finalize=written, **options)
        self.concat = concat
        self.filters["tojson"] = _to_json
        self.filters.update({name: _tracing(filter) for name, filter in self.filters.items()})

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """Compute `%` and `*`."""
        return computed(self.binop_table[operator], left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Call a function; those of strings keep traces."""
        if isinstance(__obj, BuiltinMethodType) and isinstance(__obj.__self__, str):
            call = functools.partial(super().call, __context)
            method = attrgetter(__obj.__name__)
            return computed(
                lambda text, *a, **k: call(method(text), *a, **k), __obj.__self__, *args, **kwargs
            )
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        """Make `format` safe, and have it keep traces."""
        safe = super().wrap_str_format(value)
        return None if safe is None else functools.partial(computed, safe)


def _tracing(filter: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(filter)
    def traced(*arguments: object, **keywords: object) -> object:
        return computed(filter, *arguments, **keywords)

    return traced


def build_environment() -> Environment:
    """The sandbox, with what chat templates may call."""
    environment = TracingSandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.globals.update(
        raise_exception=_raise_exception,
        strftime_now=_strftime_now,
        dict=TemplateDict(),
        namespace=TemplateNamespace,
    )
    return environment


def _trace(value: object, path: Path, paths: list[Path]) -> object:
    """The value with each string, keys included, traced to its path; `paths` gets them all."""
    if isinstance(value, str):
        return Traced(value, [Run(0, len(value), _placed(path, paths), 0)] if value else [])
    if isinstance(value, dict):
        # A key has no path of its own: it came from somewhere in the object.
        return {
            Traced(key, [Run(0, len(key), _placed(path, paths), None)] if key else []): _trace(
                item, (*path, key), paths
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_trace(item, (*path, index), paths) for index, item in enumerate(value)]
    return value


def _placed(path: Path, paths: list[Path]) -> int:
    paths.append(path)
    return len(paths) - 1


def _render(template: Template, line: dict[str, dict[str, object]], max_chars: int) -> dict[str, object]:
    """The output, and for each of its runs of traced characters `[start, end, path, offset]`."""
    paths: list[Path] = []
    traced = {name: _trace(value, (name,), paths) for name, value in line["traced"].items()}
    text = _output(template, {**line["fixed"], **traced}, max_chars)
    runs = text.runs if isinstance(text, Traced) else ()
    return {
        "text": text,
        "runs": [[run.start, run.end, paths[run.source], run.offset] for run in runs],
    }


def _output(template: Template, variables: dict[str, object], max_chars: int) -> str:
    chunks = []
    size = 0
    for chunk in template.generate(variables):
        size += len(chunk)
        if size > max_chars:
            raise TemplateError(f"the output is over the limit of {max_chars} characters")
        chunks.append(chunk)
    return concat(chunks)


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


def _reply(reply: Mapping[str, object]) -> None:
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
            reply: Mapping[str, object] = _render(template, json.loads(line), int(limits["max_chars"]))
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
