"""Draw the pictures that the docs show of the page: each view, as a running server fills it.

    cynosure serve & python docs/draw_page.py http://127.0.0.1:8000

Needs Chromium and its driver (`make test-browser` installs them), the documentation of Python, and a decoder
that fills gaps and converses, as the one of the package does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
WIDTH, SCALE = 1000, 1.5

# The driver of the tests draws, too.
sys.path.insert(0, str(ROOT))

from tests.browser.webdriver import TAB, Browser, chromium  # noqa: E402


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


#: The views with the height of their pictures.
VIEWS = {"ask": (ask, 880), "search": (search, 880), "code": (code, 820), "inspect": (inspect, 800)}


def main() -> None:
    """Write every picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="where the server listens")
    url = parser.parse_args().url.rstrip("/")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        for name, (draw, height) in VIEWS.items():
            browser.open("about:blank")
            browser.resize(WIDTH, height, SCALE)
            draw(browser, url)
            if name != "code":
                browser.run("document.activeElement.blur()")
            browser.screenshot(IMAGES / f"{name}.png")


if __name__ == "__main__":
    main()
