"""Draw the pictures that the docs show of masks. Each picture's alternative text is its mask.

    python docs/draw_masks.py

A test draws them again and fails where a picture and its text differ.
"""

from __future__ import annotations

import re
from pathlib import Path

from cynosure.attention.mask_picture import example_grid, mask_png
from cynosure.attention.masks.parse import parse_mask

FOLDER = Path(__file__).parent
PAGE = FOLDER / "attention.md"
ROWS, BLOCK = 32, 8
PICTURE = re.compile(r"!\[(?P<mask>[^\]]+)\]\((?P<file>images/masks/[\w-]+\.png)\)")


def pictures() -> dict[Path, bytes]:
    """Return every picture that the page shows, drawn afresh."""
    return {
        FOLDER / found["file"]: mask_png(
            parse_mask(found["mask"].replace("\\|", "|")), example_grid(ROWS), block=BLOCK
        )
        for found in PICTURE.finditer(PAGE.read_text(encoding="utf-8"))
    }


def main() -> None:
    """Write every picture."""
    for path, image in pictures().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)


if __name__ == "__main__":
    main()
