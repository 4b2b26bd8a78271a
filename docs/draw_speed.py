"""Draw how many times as fast as the best peer our engine is, from `results/cpu_speed.json`.

    python docs/draw_speed.py

One line a row of the tables, one dot a model and code. A test draws it again and fails where the picture and
the result differ; where nothing was measured yet, there is no picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from cynosure.evaluate.results import read_result

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "results" / "cpu_speed.json"
PICTURE = ROOT / "docs" / "images" / "cpu_speed.svg"

#: Rows in the order in which they are drawn, and what they are called.
ROWS = {
    "prefill_512": "prefill of 512 tokens",
    "prefill_4096": "prefill of 4,096 tokens",
    "decode_x1_at_512": "one sequence, behind 512 tokens",
    "decode_x1_at_4096": "one sequence, behind 4,096 tokens",
    "decode_x16": "16 sequences",
    "decode_x32": "32 sequences",
    "server_x16": "16 sequences, ours through HTTP",
    "server_x32": "32 sequences, ours through HTTP",
    "neighbour_x1_at_512": "one sequence, a core taken",
    "neighbour_x16": "16 sequences, a core taken",
}
COLOURS = {"bf16": "#3b4cc0", "int8": "#1b7837", "int4": "#e08214"}
#: Larger dots for larger models.
RADII = {"smollm2_135m": (3, "135M"), "qwen2_5_0_5b": (5, "0.5B"), "llama_3_2_1b": (7, "1B")}
WIDTH, LEFT, RIGHT, TOP, LINE, BOTTOM = 720, 240, 24, 48, 28, 36
#: Twice as fast is one step; both ends of the axis, in steps.
FIRST_STEP, LAST_STEP = -2, 4


def place_of(ratio: float) -> float:
    """Where a ratio stands, from left to right; what is off the axis stands at its end."""
    step = min(max(math.log2(ratio), FIRST_STEP), LAST_STEP)
    return LEFT + (WIDTH - LEFT - RIGHT) * (step - FIRST_STEP) / (LAST_STEP - FIRST_STEP)


def axis(bottom: float) -> Iterator[str]:
    """A line for each doubling; the one of the best peer is strong."""
    for step in range(FIRST_STEP, LAST_STEP + 1):
        x, colour = place_of(2.0**step), "#000000" if step == 0 else "#e0e0e0"
        yield f'<path d="M{x:.1f} {TOP - 8}V{bottom:.1f}" stroke="{colour}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16:.1f}" text-anchor="middle">{2.0**step:g}</text>'
    x = place_of(1.0)
    yield f'<text x="{x:.1f}" y="{bottom + 32:.1f}" text-anchor="middle">times the best peer</text>'


def legend() -> Iterator[str]:
    """What colours and sizes say."""
    x = LEFT
    for name, colour in COLOURS.items():
        yield f'<circle cx="{x}" cy="16" r="5" fill="{colour}"/><text x="{x + 10}" y="20">{name}</text>'
        x += 64
    for radius, name in RADII.values():
        yield f'<circle cx="{x}" cy="16" r="{radius}" fill="#808080"/><text x="{x + 12}" y="20">{name}</text>'
        x += 64


def picture(metrics: dict[str, object]) -> str:
    """Return the picture as SVG."""
    measured = [what for what in ROWS if what in metrics]
    height = TOP + LINE * len(measured) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *legend(),
        *axis(TOP + LINE * len(measured)),
    ]
    for line, what in enumerate(measured):
        y = TOP + LINE * (line + 0.5)
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{ROWS[what]}</text>')
        by_model = metrics[what]
        assert isinstance(by_model, dict)
        for key, row in by_model.items():
            model, _, bits = key.rpartition("_")
            if model in RADII and bits in COLOURS:
                shape = f'cx="{place_of(row["ratio"]):.1f}" cy="{y:.1f}" r="{RADII[model][0]}"'
                parts.append(f'<circle {shape} fill="{COLOURS[bits]}" fill-opacity="0.7"/>')
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write the picture, where there is something to draw."""
    if RESULT.is_file():
        PICTURE.write_text(picture(read_result("cpu_speed", RESULT.parent).metrics), encoding="utf-8")


if __name__ == "__main__":
    main()
