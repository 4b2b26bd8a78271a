"""Draw how a training's loss fell, as SVG, and write it as CSV. Knows nothing of what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cynosure.train.loop import Fitted

#: So many means of equal stretches stand for all steps: a file that can be read, and a line that can be seen.
MAX_POINTS = 200

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 280, 56, 16, 32, 40


def write_losses(folder: Path, fitted: Fitted, told: str = "loss") -> None:
    """Write `loss.csv` and `loss.svg`; `told` names what is drawn."""
    points = means(fitted.losses)
    rows = [f"{step},{loss:.4f}" for step, loss in points]
    (folder / "loss.csv").write_text("\n".join(["step,loss", *rows, ""]), encoding="utf-8")
    (folder / "loss.svg").write_text(picture(points, told), encoding="utf-8")


def means(losses: Sequence[float]) -> list[tuple[int, float]]:
    """Return the last step and the mean loss of at most `MAX_POINTS` stretches."""
    size = max(1, -(-len(losses) // MAX_POINTS))
    stretches = (losses[start : start + size] for start in range(0, len(losses), size))
    ends = range(size, len(losses) + size, size)
    return [
        (min(end, len(losses)), sum(stretch) / len(stretch))
        for end, stretch in zip(ends, stretches, strict=False)
    ]


def picture(points: Sequence[tuple[int, float]], told: str) -> str:
    """Return the curve as SVG, its axes from the least to the greatest loss and from 0 to the last step."""
    last = max((step for step, _ in points), default=1)
    low, high = min((loss for _, loss in points), default=0.0), max((loss for _, loss in points), default=1.0)
    span = high - low or 1.0

    def place(step: float, loss: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * step / last
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / span

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18">{told}, mean of up to {MAX_POINTS} equal stretches of steps</text>',
    ]
    for index in range(5):
        loss, step = low + span * index / 4, last * index / 4
        (x, _), (_, y) = place(step, low), place(0, loss)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e0e0e0"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{loss:.2f}</text>')
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 16}" text-anchor="middle">{step:.0f}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#3b4cc0" stroke-width="1.5"/>')
    return "\n".join([*parts, "</svg>", ""])
