"""Draw the pictures that the docs show of the page: each view, as a running server fills it.

    cynosure serve & python docs/draw_page.py http://127.0.0.1:8000

Needs Chromium and its driver (`make test-browser` installs them), the documentation of Python, and a decoder
that fills gaps and converses, as the one of the package does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH, SCALE = 1000, 1.5

# The driver of the tests draws, too.
sys.path.insert(0, str(ROOT))

from cynosure.server.records.oversight import Oversight  # noqa: E402
from tests.browser.webdriver import TAB, Browser, chromium  # noqa: E402
from tests.server.fakes import services, serving  # noqa: E402
from tests.server.told_traces import keeper  # noqa: E402


def ask(browser: Browser, url: str) -> None:
    """A question with its quotes."""
    browser.open(f"{url}/#ask?q=how+do+I+merge+sorted+iterables")
    browser.wait(lambda: browser.is_shown("#view-ask .card"), 60)


def search(browser: Browser, url: str) -> None:
    """Passages with their scores and words."""
    browser.open(f"{url}/#search?q=a+temporary+folder+that+cleans+up+after+itself")
    browser.wait(lambda: browser.is_shown("#view-search .card mark"), 60)


def code(browser: Browser, url: str) -> None:
    """A suggestion at the cursor."""
    browser.open(f"{url}/#code")
    browser.wait(lambda: browser.texts("#view-code .models option"), 60)
    browser.press(TAB)
    browser.wait(lambda: browser.texts("#view-code .status")[0].startswith("Suggested"), 60)


def inspect(browser: Browser, url: str) -> None:
    """Two answers and their shares."""
    browser.open(f"{url}/#inspect")
    browser.wait(lambda: browser.texts(".setting option"), 60)
    browser.click("#inspect-form .main-button")
    browser.wait(lambda: browser.texts("#view-inspect .status")[0].startswith("Both"), 60)
    browser.run("document.querySelector('.settings').scrollIntoView()")


def traces(browser: Browser, url: str) -> None:
    """All answers, as a server of made-up ones tells them."""
    browser.open(f"{url}/#traces")
    browser.wait(lambda: browser.texts("#view-traces .request-table tbody tr"), 60)


def trace(browser: Browser, url: str) -> None:
    """One of them, token by token."""
    browser.open(f"{url}/#traces?id=req-parcel&token=12")
    browser.wait(lambda: browser.is_shown("#view-traces .heat"), 60)
    browser.run("document.querySelector('#view-traces .trace').scrollIntoView()")


def trace_compared(browser: Browser, url: str) -> None:
    """Two of them, side by side."""
    browser.open(f"{url}/#traces?id=req-parcel&with=req-other")
    browser.wait(lambda: len(browser.texts("#view-traces .sides .trace")) == 2, 60)
    browser.run("document.querySelector('#view-traces .compared').scrollIntoView()")


#: The views with the height of their pictures.
VIEWS: dict[str, tuple[Callable[[Browser, str], None], int]] = {
    "ask": (ask, 880),
    "search": (search, 880),
    "code": (code, 820),
    "inspect": (inspect, 800),
}
#: Those of traces: their answers are made up, so that all that can be told of them is told.
TRACES: dict[str, tuple[Callable[[Browser, str], None], int]] = {
    "traces": (traces, 1180),
    "trace": (trace, 1190),
    "trace_compared": (trace_compared, 860),
}


def picture(
    browser: Browser, url: str, views: Mapping[str, tuple[Callable[[Browser, str], None], int]]
) -> None:
    """Draw views, each at its height."""
    for name, (draw, height) in views.items():
        browser.open("about:blank")
        browser.resize(WIDTH, height, SCALE)
        draw(browser, url)
        if name != "code":
            browser.run("document.activeElement.blur()")
        browser.run("return new Promise(done => requestAnimationFrame(() => setTimeout(done, 200)))")
        browser.screenshot(IMAGES / f"{name}.png")


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", nargs="?", help="where the server listens; without it only traces are drawn")
    url = (parser.parse_args().url or "").rstrip("/")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        if url:
            picture(browser, url, VIEWS)
        with serving(lambda _: services(), oversight=Oversight(traces=keeper())) as told:
            picture(browser, told, TRACES)


if __name__ == "__main__":
    main()
