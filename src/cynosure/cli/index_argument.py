"""Declare where the index of the documentation lies, and what it is made of. Opens nothing.

Apart from what opens it, which imports torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_index_argument(parser: argparse._ActionsContainer) -> None:
    """Declare where the index lies, and what it is made of beside docstrings."""
    parser.add_argument("--index-dir", type=Path, metavar="FOLDER", help="where the index lies")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="FOLDER",
        help="the HTML folder of Python's reference documentation (where it is installed)",
    )
