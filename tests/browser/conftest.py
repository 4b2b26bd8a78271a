"""Start one browser for all tests of the page. Knows nothing of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.served_page import page_services
from tests.browser.webdriver import Browser, chromium
from tests.server.fakes import serving


@pytest.fixture(scope="session")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """The window, empty; a test that leaves an error on the console fails."""
    window.open("about:blank")
    window.resize(1100, 1000)
    window.log()
    yield window
    assert window.log() == []


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of all that the views need."""
    folder = tmp_path_factory.mktemp("served")
    with serving(lambda _: page_services(folder), wait_s=150) as address:
        yield address
