"""Check that masks are read from text, and that nothing else is. Knows nothing of grids."""

from __future__ import annotations

import pytest

from cynosure.attention.masks import Blocks, Causal, Document, Full, Global, Mask, Random, Window, parse_mask
from cynosure.attention.masks.parse import KINDS, MAX_CHARACTERS
from cynosure.core.errors import InputError, InputTooLong, UnknownOption


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("Causal() & (Window(8) | Global(2))", Causal() & (Window(8) | Global(2))),
        ("  Causal & ~Document ", Causal() & ~Document()),
        ("Causal | Window(8) & Global(2)", Causal() | (Window(8) & Global(2))),
        ("Blocks(4)", Blocks(4, 1)),
        ("Random(4, num_blocks=2, seed=0, is_causal=False)", Random(4, 2, 0, is_causal=False)),
    ],
)
def test_an_expression_is_read(text: str, mask: Mask) -> None:
    assert parse_mask(text) == mask


def test_every_kind_is_known() -> None:
    arguments = {"Window": "(2)", "Chunk": "(2)", "Global": "(2)", "Dilated": "(2, 2)", "Blocks": "(2)"}
    arguments |= {"LastBlock": "(2)", "UpTo": "(2)"}
    for name, kind in KINDS.items():
        text = name + {**arguments, "Random": "(2, 2, 2)"}.get(name, "")
        assert type(parse_mask(text)) is kind
    assert len(KINDS) == 14


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read"),
        ("Causal(", "can't be read"),
        ("\0", "can't be read"),
        ("(" * 300, "can't be read"),
        ("Causal; Full", "can't be read"),
        ("Causal() + Full()", r"'Causal\(\) \+ Full\(\)', which is no mask"),
        ("1" + "+1" * 240, "which is no mask"),
        ("Causal and Full", "which is no mask"),
        ("().__class__.__bases__", "which is no mask"),
        ("Causal().allowed(1)", "which is no mask"),
        ("[Causal for _ in 'ab']", "which is no mask"),
        ("3", "'3', which is no mask"),
        ("~" * 200 + "Full", "nested deeper than 100"),
        ("Window", "missing a required argument: 'size'. Write Window.size."),
        ("Window(1, 2)", "too many positional arguments"),
        ("Window(length=3)", "Write Window.size."),
        ("Window(size=3, size=4)", "Window gets a parameter twice"),
        ("Window(**{'size': 3})", "the parameter .* must be a whole number"),
        ("Window(*[3])", "must be a whole number"),
        ("Window(1.5)", "'1.5'; it must be a whole number"),
        ("Window('8')", "must be a whole number"),
        ("Window(print(1))", "must be a whole number"),
        ("Window(-4)", r"size -4; it must be a whole number from 1 to 2\*\*60"),
        ("Window(10**99)", "must be a whole number"),
        ("Window(True)", "size True; it must be a whole number"),
        ("Random(1, 1, 1, 2)", "is_causal 2; it must be True or False"),
    ],
)
def test_bad_text_is_refused_with_a_remedy(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_mask(text)


def test_an_unknown_mask_is_told_what_there_is() -> None:
    with pytest.raises(UnknownOption, match=r"names '__import__'; there are Full, Causal, .*, Pad"):
        parse_mask("__import__(1)")
    with pytest.raises(UnknownOption, match="names 'Widow'"):
        parse_mask("Causal & Widow(3)")


def test_long_text_is_refused_before_it_is_read() -> None:
    assert parse_mask("Full" + " " * (MAX_CHARACTERS - 4)) == Full()
    with pytest.raises(InputTooLong, match="501 characters; the limit is 500"):
        parse_mask("Full" + " " * (MAX_CHARACTERS - 3))
