"""Read a mask from text. Knows nothing of grids, and runs no code: it walks the syntax tree."""

from __future__ import annotations

import ast
import inspect

from cynosure.attention.masks.algebra import Mask
from cynosure.attention.masks.extent import LastBlock, UpTo
from cynosure.attention.masks.labelled import Document, Pad, Prefix
from cynosure.attention.masks.positional import Blocks, Causal, Chunk, Dilated, Full, Global, Window
from cynosure.attention.masks.random_blocks import Random
from cynosure.attention.masks.tree import Tree
from cynosure.core.errors import AttentionError, InputError, InputTooLong, UnknownOption

MAX_CHARACTERS = 500
MAX_DEPTH = 100

KINDS: dict[str, type[Mask]] = {
    kind.__name__: kind
    for kind in (
        Full, Causal, Window, Chunk, Global, Dilated, Blocks, Random, Prefix, Document, Tree, Pad,
        LastBlock, UpTo,
    )
}  # fmt: skip


def parse_mask(text: str) -> Mask:
    """Return the mask that `text` writes with constructors, `&`, `|`, `~` and parentheses.

    A mask without parameters may drop its parentheses: `Causal & Window(8)`. What a mask prints as, it is
    read as.

    Raises:
        InputError: `text` is not such an expression, names an unknown mask or has a wrong parameter.
    """
    if len(text) > MAX_CHARACTERS:
        raise InputTooLong(f"the mask has {len(text)} characters; the limit is {MAX_CHARACTERS}. Shorten it.")
    text = text.strip()
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"mask {text!r} can't be read: {error}. {_remedy()}") from error
    try:
        return _mask(tree.body, text, 0)
    except AttentionError as error:
        raise InputError(f"in mask {text!r}: {error}") from error


def _mask(node: ast.expr, text: str, depth: int) -> Mask:
    if depth > MAX_DEPTH:
        raise InputError(f"mask {text!r} is nested deeper than {MAX_DEPTH}. Write it flatter.")
    match node:
        case ast.BinOp(left=left, op=ast.BitAnd(), right=right):
            return _mask(left, text, depth + 1) & _mask(right, text, depth + 1)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _mask(left, text, depth + 1) | _mask(right, text, depth + 1)
        case ast.UnaryOp(op=ast.Invert(), operand=operand):
            return ~_mask(operand, text, depth + 1)
        case ast.Name(id=name):
            return _made(name, [], {}, text)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            named = {keyword.arg: _value(keyword.value, text) for keyword in keywords}
            if len(named) < len(keywords):
                raise InputError(f"in mask {text!r}, {name} gets a parameter twice. Drop one of them.")
            return _made(name, [_value(arg, text) for arg in args], named, text)
        case _:
            part = ast.get_source_segment(text, node)
            raise InputError(f"mask {text!r} holds {part!r}, which is no mask. {_remedy()}")


def _made(name: str, args: list[int], named: dict[str | None, int], text: str) -> Mask:
    if name not in KINDS:
        raise UnknownOption(
            f"mask {text!r} names {name!r}; there are {', '.join(KINDS)}. Choose one of these."
        )
    signature = inspect.signature(KINDS[name])
    try:
        bound = signature.bind(*args, **{str(key): value for key, value in named.items()})
    except TypeError as error:
        fields = ", ".join(signature.parameters)
        raise InputError(f"in mask {text!r}, {name}: {error}. Write {name}({fields}).") from error
    for field, value in bound.arguments.items():
        if isinstance(value, bool) != field.startswith("is_"):
            kind = "True or False" if field.startswith("is_") else "a whole number"
            raise InputError(f"in mask {text!r}, {name} gets {field} {value}; it must be {kind}. Change it.")
    return KINDS[name](*bound.args, **bound.kwargs)


def _value(node: ast.expr, text: str) -> int:
    match node:
        case ast.Constant(value=int(value)):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))):
            return -value
        case _:
            part = ast.get_source_segment(text, node)
            raise InputError(
                f"mask {text!r} has the parameter {part!r}; it must be a whole number or True or False."
            )


def _remedy() -> str:
    return "Write masks with & | ~ and parentheses, such as 'Causal() & (Window(8) | Global(2))'."
