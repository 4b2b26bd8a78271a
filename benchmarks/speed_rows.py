"""Keep the rows of results/cpu_speed.json, which several commands measure in turn. Measures nothing.

A row stands under what was measured and for which model: `decode_x1_at_512`, then `qwen2_5_0_5b_int8`. Who
measures a row anew leaves the others as they are, unless they are of another machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cynosure.evaluate.results import RESULTS, describe_machine, read_result, write_result

NAME = "cpu_speed"
COMMAND = "make bench"

#: One measured line: figures and words by their name.
Row = dict[str, object]
#: What was measured, then for which model.
Rows = dict[str, dict[str, Row]]


def key_of(shape: str, bits: str = "") -> str:
    """What a model's rows are called: no dot, so that pages can address them."""
    return f"{shape}_{bits}".strip("_").replace(".", "_").replace("-", "_")


def compared(ours: float, best_peer: float, peer: str, **more: object) -> Row:
    """The row of a comparison, in which more is better."""
    return {"ours": ours, "best_peer": best_peer, "peer": peer, "ratio": ours / best_peer, **more}


def known(folder: Path = RESULTS) -> dict[str, object]:
    """What was measured on this machine before."""
    if not (folder / f"{NAME}.json").is_file():
        return {}
    found = read_result(NAME, folder)
    here = describe_machine()
    if any(found.machine.get(part) != here[part] for part in ("cpu", "cores")):
        print("the rows that are there are of another machine, and go")
        return {}
    return dict(found.metrics)


def merged(before: Mapping[str, object], rows: Rows, setting: Mapping[str, object]) -> dict[str, object]:
    """Rows and setting, the new in the place of the old."""
    together = dict(before)
    for what, by_model in {**rows, **({"setting": dict(setting)} if setting else {})}.items():
        old = together.get(what, {})
        assert isinstance(old, Mapping)
        together[what] = {**old, **by_model}
    return together


def write_rows(rows: Rows, setting: Mapping[str, object], folder: Path = RESULTS) -> Path:
    """Write them beside those that are known."""
    return write_result(NAME, merged(known(folder), rows, setting), COMMAND, folder)


def lines_of(rows: Rows) -> list[str]:
    """Rows as they are printed."""
    return [
        f"{what}  {model:<20}  " + "  ".join(f"{name} {_shown(value)}" for name, value in row.items())
        for what, by_model in rows.items()
        for model, row in by_model.items()
    ]


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
