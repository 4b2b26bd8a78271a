"""Write the page of what was wanted of speed and what is measured, from results/. Measures nothing.

    python docs/list_goals.py

A number that misses its goal is bold. A test writes the page again and fails where it differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cynosure.evaluate.results import RESULTS, read_result

PAGE = Path(__file__).parent / "goals.md"
BITS = ("bf16", "int8", "int4")
SHAPES = {
    "smollm2_135m": "SmolLM2-135M",
    "qwen2_5_0_5b": "Qwen2.5-0.5B",
    "llama_3_2_1b": "Llama-3.2-1B",
}
MISSING = "–"

HEAD = """# Goals of speed

What the project set out to reach on CPUs, and what is measured on the machine that results/ name. A number
that misses its goal is **bold**, what was not measured is a dash. Three numbers are bfloat16, int8 and int4.
How each row is measured, and beside whom, is in [performance.md](performance.md); what was tried where a goal
is missed, in the [log](log.md). This page is written by `make docs`.

"""


@dataclass(frozen=True)
class Goal:
    """The least, or the most, that a figure of results/cpu_speed.json should be, by code; `None`: no goal."""

    words: str
    row: str
    wanted: tuple[float | None, float | None, float | None]
    figure: str = "ratio"
    #: Other goals of one shape.
    other: Mapping[str, tuple[float, float, float]] | None = None
    #: Shapes that the goal is not for.
    without: tuple[str, ...] = ()

    def of(self, shape: str) -> tuple[float | None, ...]:
        """What is wanted of a shape."""
        if shape in self.without:
            return (None, None, None)
        return (self.other or {}).get(shape, self.wanted)


GOALS = (
    Goal("one sequence behind 512 tokens, times the best peer", "decode_x1_at_512", (1.25, 1.1, 1.1),
         other={"smollm2_135m": (1.8, 1.8, 1.8)}),
    Goal("the same, share of what memory could deliver", "decode_x1_at_512", (0.85, 0.85, 0.85),
         "memory_limit_share", without=("smollm2_135m",)),
    Goal("one sequence behind 4,096 tokens, times the best peer", "decode_x1_at_4096", (None, 1.5, 1.7)),
    Goal("one sequence through HTTP, times in process", "server_x1_at_512", (0.95, 0.95, 0.95)),
    Goal("16 sequences through the server, times the best peer in process", "server_x16", (3.0, 2.0, 1.6)),
    Goal("32 sequences through the server, times the best peer in process", "server_x32", (3.0, 2.0, 1.6)),
    Goal("a prompt of 512 tokens, times the best peer", "prefill_512", (1.3, 2.0, None)),
    Goal("a prompt of 4,096 tokens, times the best peer", "prefill_4096", (1.3, 1.6, None)),
)  # fmt: skip


def shown(value: object, wanted: float | None, *, is_most: bool = False) -> str:
    """A number, bold where it misses what is wanted."""
    if not isinstance(value, float | int):
        return MISSING
    text = f"{value:.2f}"
    if wanted is None or (value <= wanted if is_most else value >= wanted):
        return text
    return f"**{text}**"


def goals_of(wanted: tuple[float | None, ...]) -> str:
    """Goals in words."""
    return ", ".join(MISSING if one is None else f"{one:g}" for one in wanted)


def inside(metrics: Mapping[str, object]) -> Iterator[str]:
    """Rows of the table by models."""
    yield f"| what | goal | {' | '.join(SHAPES.values())} |"
    yield f"| --- | --- | {' | '.join('---' for _ in SHAPES)} |"
    for goal in GOALS:
        rows = metrics.get(goal.row, {})
        assert isinstance(rows, Mapping)
        cells = []
        for shape in SHAPES:
            values = [rows.get(f"{shape}_{bits}", {}).get(goal.figure) for bits in BITS]
            cells.append(", ".join(map(shown, values, goal.of(shape))))
        others = (goal.other or {}).items()
        wanted = "; ".join([goals_of(goal.wanted), *(f"{SHAPES[at]}: {goals_of(own)}" for at, own in others)])
        yield f"| {goal.words} | {wanted} | {' | '.join(cells)} |"


def at(metrics: object, *path: str) -> object:
    """What a path leads to; `None` where nothing is."""
    for name in path:
        metrics = metrics.get(name) if isinstance(metrics, Mapping) else None
    return metrics


def single(folder: Path) -> Iterator[str]:
    """Rows of the table of single numbers."""
    speed, far = read_result("cpu_speed", folder).metrics, read_result("long_context", folder).metrics
    texts, loading = read_result("encoders", folder).metrics, read_result("loading", folder).metrics
    lookup = at(speed, "prompt_lookup_qwen2_5_0_5b_int8")
    chosen, codes = at(far, "step", "64_times"), at(speed, "long_context", "qwen2_5_0_5b_int8", "ratio")
    more = (
        (
            "an answer that quotes its prompt, by prompt lookup, times without",
            1.5,
            at(lookup, "quote", "ratio"),
        ),
        (
            "an answer that edits its prompt, by prompt lookup, times without",
            1.5,
            at(lookup, "edit", "ratio"),
        ),
        ("decoding behind 32,000 tokens, pages in int8, times in bfloat16", 1.6, codes),
        ("a step behind 131,072 tokens with 64 pages chosen, times over all", 4.0, chosen),
        ("texts embedded, bfloat16, times the best peer", 2.0, at(texts, "embedding", "bf16", "ratio")),
        ("texts embedded, int8, times the best peer", 2.0, at(texts, "embedding", "int8", "ratio")),
    )
    yield "| what | goal | measured |"
    yield "| --- | ---: | ---: |"
    for words, wanted, value in more:
        yield f"| {words} | {wanted:g} | {shown(value, wanted)} |"
    rows = at(loading, "rows")
    assert isinstance(rows, Mapping)
    seconds = ", ".join(
        shown(at(rows, f"qwen2_5_0_5b_{bits}", "second_s"), 1.0, is_most=True) for bits in BITS
    )
    peaks = ", ".join(
        shown(at(rows, f"qwen2_5_0_5b_{bits}", "first_memory_ratio"), 1.15, is_most=True) for bits in BITS
    )
    yield f"| Qwen2.5-0.5B loaded a second time, seconds at most | 1 | {seconds} |"
    yield f"| memory at its peak over weights and cache, at most | 1.15 | {peaks} |"


def page(folder: Path = RESULTS) -> str:
    """The page as results/ have it."""
    metrics = read_result("cpu_speed", folder).metrics
    return HEAD + "\n".join(inside(metrics)) + "\n\n" + "\n".join(single(folder)) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
