"""Time how the page draws what answers attended to, in headless Chromium.

    python evals/page.py [--write]

A server keeps the traces of made-up answers. The page draws one of 1,056 tokens, whole: text, ribbon, parts
and heads. Then a ribbon of 100,000 tokens, 16 parts and 3 rows more is drawn, and gone along in 120 steps of
half a thousand tokens each. Times are the page's own (`performance.now`); the processor draws, without a GPU.
Needs Chromium and its driver (`make test-browser` installs them).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

# The driver of the tests drives here, too.
sys.path.insert(0, str(Path(__file__).parents[1]))

from cynosure.evaluate.results import write_result
from cynosure.server.records.oversight import Oversight
from tests.browser.page_timing import draw_trace, scroll_ribbon
from tests.browser.webdriver import chromium
from tests.server.fakes import services, serving
from tests.server.told_traces import keeper


def measured() -> dict[str, object]:
    """Every number."""
    with (
        serving(lambda _: services(), oversight=Oversight(traces=keeper())) as url,
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile)) as browser,
    ):
        browser.resize(1100, 1000, 1)
        browser.open(f"{url}/#traces?id=req-long")
        browser.wait(lambda: browser.is_shown(".heat"))
        drawn, scrolled = draw_trace(browser, "req-long"), scroll_ribbon(browser)
    return {
        "num_tokens": drawn.num_tokens,
        "draw_ms_1000": round(drawn.draw_ms, 2),
        "worst_draw_ms_1000": round(drawn.worst_ms, 2),
        "dom_nodes_1000": drawn.num_nodes,
        "ribbon_first_ms_100k": round(scrolled.first_ms, 2),
        "ribbon_draw_ms_100k": round(scrolled.draw_ms, 2),
        "ribbon_worst_draw_ms_100k": round(scrolled.worst_draw_ms, 2),
        "ribbon_frame_ms_100k": round(scrolled.frame_ms, 2),
        "dom_nodes_100k": scrolled.num_nodes,
    }


def main() -> None:
    """Print the numbers, and write them where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write results/insight_page.json")
    arguments = parser.parse_args()
    metrics = measured()
    for name, value in metrics.items():
        print(f"{name:28} {value}")
    if arguments.write:
        print(write_result("insight_page", metrics, "python evals/page.py --write"))


if __name__ == "__main__":
    main()
