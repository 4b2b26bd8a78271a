"""Search in real Chromium: every passage with its score, from one store, of one kind."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.browser.webdriver import ENTER, ESCAPE, Browser
from tests.server.libraries import library_served

pytestmark = pytest.mark.browser

MERGE = "merge sorted iterables"


def test_passages_come_in_the_order_of_their_scores(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#search")
    browser.wait(lambda: browser.run("return document.activeElement.id") == "query")
    browser.type("#query", MERGE + ENTER)
    browser.wait(lambda: browser.is_shown("#view-search .card mark"))
    assert browser.texts("#view-search .object")[0] == "heapq.merge"
    scores = [float(said.split()[-1]) for said in browser.texts("#view-search .score")]
    assert len(scores) == 20
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < 0.5, "passages that are no answer are shown too"
    marks = browser.texts("#view-search li:first-child mark")
    quoted = browser.texts("#view-search .quote")[0]
    assert all(mark in quoted for mark in marks)
    assert browser.run("return location.hash") == "#search?q=merge+sorted+iterables"


def test_a_passage_opens_its_source(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#search?q={MERGE.replace(' ', '+')}")
    browser.wait(lambda: browser.is_shown("#view-search .card mark"))
    quoted = browser.run("return document.querySelectorAll('#view-search .quote')[1].textContent")
    browser.click("#view-search li:nth-child(2) .cite")
    browser.wait(lambda: browser.is_shown("#source"))
    assert browser.run("return document.querySelector('#source-text mark').textContent") == quoted
    browser.press(ESCAPE)
    browser.wait(lambda: not browser.is_shown("#source"))


def test_one_kind_and_one_store_can_be_chosen(browser: Browser, url: str) -> None:
    """By real keys: a full history forgets first what no gesture of the reader went on from."""
    browser.open(f"{url}/#search?q=sort")
    browser.wait(lambda: len(browser.texts("#view-search .object")) == 20)
    browser.type("#kinds", "method")
    browser.wait(lambda: set(browser.texts("#view-search .kind")) == {"method"})
    assert "of 20" in browser.texts("#view-search .status")[0]
    assert browser.run("return location.hash") == "#search?q=sort&kind=method"
    browser.back()
    browser.wait(lambda: len(browser.texts("#view-search .object")) == 20)
    browser.type("#view-search .stores", "Fake")
    browser.wait(lambda: browser.texts("#view-search .object") == ["heapq.merge", "sorted", "list.sort"])
    assert browser.run("return location.hash") == "#search?q=sort&store=fake-docs"
    browser.back()
    browser.wait(lambda: len(browser.texts("#view-search .object")) == 20)


def test_what_the_server_refuses_is_said(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#search?q=sort&store=absent")
    browser.wait(lambda: browser.is_shown("#view-search .failure"))
    assert "no vector store is called 'absent'" in browser.texts("#view-search .failure p")[0]
    browser.log()  # Chromium notes the 404


def test_uploaded_files_are_searched_and_opened(browser: Browser, tmp_path: Path) -> None:
    """Their passages have no place of their own: it is looked for in the file's text."""
    text = "# Ovens 🙂\n\nThe oven is hot.\n\n# Boats\n\nA boat sails by the star.\n"
    with library_served(tmp_path) as address, httpx.Client(base_url=address) as client:
        upload = {"file": ("notes.md", text.encode())}
        file = client.post("/v1/files", files=upload, data={"purpose": "assistants"}).json()
        store = client.post("/v1/vector_stores", json={"name": "Notes", "file_ids": [file["id"]]}).json()
        path = f"/v1/vector_stores/{store['id']}"
        browser.wait(lambda: client.get(path).json()["status"] == "completed")
        browser.open(f"{address}/#search?q=boat+sails&store={store['id']}")
        browser.wait(lambda: browser.is_shown("#view-search .card"))
        assert browser.run("return document.querySelector('#view-search .stores').value") == store["id"]
        assert browser.texts("#view-search .object")[0] == "notes.md"
        quoted = str(browser.run("return document.querySelector('#view-search .quote').textContent"))
        assert "boat" in quoted
        browser.click("#view-search .cite")
        browser.wait(lambda: browser.is_shown("#source"))
        assert browser.run("return document.getElementById('source-text').textContent") == text
        assert browser.run("return document.querySelector('#source-text mark').textContent") == quoted
        start = text.index(quoted)
        assert browser.texts("#source-place") == [f"notes.md, characters {start}–{start + len(quoted)}"]
        asked = browser.run(
            "return [...document.querySelector('#view-ask .stores').options].map(o => o.value)"
        )
        assert asked == ["fake-docs"]
