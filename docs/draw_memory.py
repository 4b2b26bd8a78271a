"""Draw how the memory of a sequence grows with its context, from `results/memory_by_context.json`.

    python docs/draw_memory.py

A test draws it again and fails where the picture and the result differ.
"""

from __future__ import annotations

from pathlib import Path

from cynosure.evaluate.results import read_result

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "memory_by_context.svg"
#: What each policy is called, and the colour of its line.
LINES = {
    "full": ("all layers keep all", "#3b4cc0"),
    "cross": ("cross-attention to an input", "#000000"),
    "mix": ("every second layer has a window", "#b40426"),
    "latent": ("latent rows (MLA)", "#e08214"),
    "full_int8": ("all layers keep all, in int8", "#6f92f3"),
    "mix_int8": ("every second has a window, in int8", "#f08a6c"),
    "window": ("all layers have a window", "#1b7837"),
    "hybrid": ("a state in five of six layers", "#8073ac"),
    "state": ("a state in every layer", "#542788"),
}
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 250, 24, 44
LINE_HEIGHT = 16


def picture() -> str:
    """Return the picture as SVG."""
    metrics = read_result("memory_by_context", ROOT / "results").metrics
    first, sizes = metrics["first_length"], metrics["bytes"]
    assert isinstance(first, int)
    assert isinstance(sizes, dict)
    most = max(size for one in sizes.values() for size in one.values())
    step = 512 * 1024
    top = -(-most // step) * step

    def place(factor: float, size: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * factor / 4,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * size / top,
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for size in range(0, top + 1, step):
        (x0, y), (x1, _) = place(0, size), place(4, size)
        parts.append(f'<path d="M{x0:.1f} {y:.1f}H{x1:.1f}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{x0 - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{size // 1024}</text>')
    for factor in (1, 2, 4):
        x, y = place(factor, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle">{factor * first}</text>')
    x, y = place(2, 0)
    parts.append(f'<text x="{x:.1f}" y="{y + 34:.1f}" text-anchor="middle">tokens of the prompt</text>')
    parts.append(f'<text x="8" y="{TOP - 8}">KiB that one sequence holds, at most</text>')
    lowest = TOP - LINE_HEIGHT
    # A policy is drawn once it was measured.
    for name in sorted((name for name in LINES if name in sizes), key=lambda name: -sizes[name]["n4"]):
        words, colour = LINES[name]
        points = [place(factor, sizes[name][f"n{factor}"]) for factor in (1, 2, 4)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        # Dashed where it may lie on another line.
        dashes = ' stroke-dasharray="4 6"' if name == "cross" else ""
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        x, y = points[-1]
        # One below the other, where lines end at one height.
        lowest = max(y + 4, lowest + LINE_HEIGHT)
        parts.append(f'<text x="{x + 10:.1f}" y="{lowest:.1f}" fill="{colour}">{words}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Write the picture."""
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
