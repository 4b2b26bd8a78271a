"""A loss is drawn as it was."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from cynosure.train.loop import Fitted
from cynosure.train.loss_plot import MAX_POINTS, means, write_losses


def test_a_curve_is_drawn_and_written(tmp_path: Path) -> None:
    write_losses(tmp_path, Fitted(tuple(4.0 - step / 500 for step in range(1000)), (), 1.0))
    rows = (tmp_path / "loss.csv").read_text().splitlines()
    assert rows[0] == "step,loss"
    assert rows[1] == "5,3.9960"
    assert rows[-1].startswith("1000,")
    root = ElementTree.fromstring((tmp_path / "loss.svg").read_text())
    (line,) = [node for node in root.iter() if node.tag.endswith("polyline")]
    heights = [float(point.split(",")[1]) for point in line.attrib["points"].split()]
    assert len(heights) == MAX_POINTS
    # What falls goes down the page.
    assert heights == sorted(heights)


def test_a_short_run_has_a_point_a_step() -> None:
    assert means([3.0, 2.0]) == [(1, 3.0), (2, 2.0)]
    assert means([]) == []
    found = means([float(step) for step in range(MAX_POINTS + 1)])
    assert (found[0], found[-1]) == ((2, 0.5), (MAX_POINTS + 1, float(MAX_POINTS)))
