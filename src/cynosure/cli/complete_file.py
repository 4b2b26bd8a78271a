"""Fill in at a place of a file, and print what would stand there. Knows nothing of prompts."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from cynosure.cli.editor.extent import Extent
from cynosure.cli.editor.filling import Filler, Filling, Question
from cynosure.cli.editor.known_names import PYTHON_SUFFIXES, known_names
from cynosure.cli.editor.local_filler import LocalFiller, model_source
from cynosure.cli.editor.model_arguments import remote_filler
from cynosure.cli.editor.module_names import ModuleNames
from cynosure.cli.editor.place import Place
from cynosure.cli.editor.source_lines import SourceLines
from cynosure.cli.local_arguments import load_named
from cynosure.core.errors import InputError


def fill_in_file(arguments: argparse.Namespace, place: Place) -> int:
    """Print the proposal alone, or all about it as JSON.

    Raises:
        InputError: the place is not usable, or there is none such.
        CynosureError: no model can fill in.
    """
    if arguments.max_tokens is not None and arguments.max_tokens < 1:
        raise InputError(f"--max-tokens is {arguments.max_tokens}; the limit is 1. Raise it.")
    gap = place.gap()
    known, begun = None, time.perf_counter()
    if place.file.suffix in PYTHON_SUFFIXES and not arguments.any_names:
        known = known_names(gap, place.file.absolute(), ModuleNames())
    names_ms = 1e3 * (time.perf_counter() - begun)
    question = Question(
        gap,
        Extent.BLOCK if arguments.block else Extent.LINE,
        None if known is None else known.names,
        arguments.max_tokens,
    )
    filler = _filler(arguments)
    try:
        filling = asyncio.run(filler.fill(question))
    finally:
        filler.close()
    if arguments.json:
        told = _told(place, question, filler.name, filling)
        told["names"] = None if known is None else {"known": len(known.names), "left_out": known.num_left_out}
        told["timings_ms"] = {
            "names": round(names_ms, 1),
            "first_token": round(filling.first_ms, 1),
            "total": round(filling.total_ms, 1),
        }
        print(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        sys.stdout.write(f"{filling.text}\n")
    return 0


def _filler(arguments: argparse.Namespace) -> Filler:
    if arguments.url is not None:
        return remote_filler(arguments)
    name, source = model_source(arguments.model)
    return LocalFiller(load_named(source, arguments), name)


def _told(place: Place, question: Question, model: str, filling: Filling) -> dict[str, object]:
    """What was asked and what is proposed; offsets count code points of the file's text."""
    start, end = filling.window
    line, column = SourceLines(question.gap.text).place_of(question.gap.offset)
    return {
        "file": str(place.file),
        "line": line + 1,
        "column": column + 1,
        "offset": question.gap.offset,
        "model": model,
        "author": "model",
        "extent": question.extent.value,
        "text": filling.text,
        "end": filling.end,
        "num_prompt_tokens": filling.num_prompt_tokens,
        "num_tokens": filling.num_tokens,
        "window": {"start": start, "end": end, "of": len(question.gap.text)},
    }
