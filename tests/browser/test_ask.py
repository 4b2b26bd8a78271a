"""Ask in real Chromium, over the real server, embedder and search: quotes, their sources, or nothing."""

from __future__ import annotations

import heapq
import inspect
import re
from dataclasses import replace

import pytest

from cynosure.server.services import Answer, Attended, Highlight, Quote
from tests.browser.webdriver import ENTER, ESCAPE, Browser
from tests.server.fakes import FakeStore, services, serving

pytestmark = pytest.mark.browser

MERGE = "how do I merge sorted iterables"
SOURDOUGH = "which sourdough flour rises best"
ASKED = f"#ask?q={MERGE.replace(' ', '+')}"


def _ask(browser: Browser, question: str) -> None:
    browser.run("document.getElementById('question').value = ''")
    browser.type("#question", question + ENTER)


def _first(browser: Browser) -> str:
    return next(iter(browser.texts("#view-ask .object")), "")


def test_a_question_gets_cards_that_quote_verbatim(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.wait(lambda: browser.is_shown("#question") and not browser.is_shown("#loading"))
    _ask(browser, MERGE)
    browser.wait(lambda: browser.is_shown("#view-ask .card"))
    assert _first(browser) == "heapq.merge"
    assert browser.texts("#view-ask .kind")[0] == "function"
    assert browser.texts("#view-ask .signature")[0] == str(inspect.signature(heapq.merge))
    said = browser.texts("#view-ask .cite")[0]
    place = re.fullmatch(r"heapq\.merge, characters (\d+)–(\d+) of its docstring", said)
    assert place is not None
    doc = heapq.merge.__doc__
    assert doc is not None
    quoted = browser.run("return document.querySelector('#view-ask .quote').textContent")
    assert quoted == doc[int(place[1]) : int(place[2])]
    marks = browser.texts("#view-ask li:first-child mark")
    assert marks
    assert all(mark in doc for mark in marks)
    weights = browser.run(
        "return [...document.querySelectorAll('.card mark')].map(m => +m.style.getPropertyValue('--weight'))"
    )
    assert isinstance(weights, list)
    assert max(weights) == 1
    assert min(weights) >= 0.2
    assert "attended to" in browser.texts("#view-ask .legend")[0]
    assert browser.texts("#view-ask .author")[0] == "quoted by the retriever"
    assert re.fullmatch(r"\d+ quotes? in \d+\.\d\d s", browser.texts("#view-ask .status")[0])
    assert browser.run("return location.hash") == ASKED


def test_a_citation_opens_its_source_with_the_quote_marked(browser: Browser, url: str) -> None:
    browser.open(f"{url}/{ASKED}")
    browser.wait(lambda: browser.is_shown("#view-ask .card"))
    quoted = browser.run("return document.querySelector('#view-ask .quote').textContent")
    browser.click("#view-ask .cite")
    browser.wait(lambda: browser.is_shown("#source"))
    assert browser.texts("#source-title") == ["heapq.merge"]
    assert browser.run("return document.getElementById('source-text').textContent") == heapq.merge.__doc__
    assert browser.run("return document.querySelector('#source-text mark').textContent") == quoted
    assert browser.run("return location.hash") == f"{ASKED}&source=1"
    assert browser.run("return document.activeElement.id") == "source-close"
    browser.press(ESCAPE)
    browser.wait(lambda: not browser.is_shown("#source"))
    browser.wait(lambda: browser.run("return location.hash") == ASKED)
    assert browser.run("return document.activeElement.className") == "cite"
    browser.forward()
    browser.wait(lambda: browser.is_shown("#source"))
    browser.back()
    browser.wait(lambda: not browser.is_shown("#source"))
    assert browser.is_shown("#view-ask .card")


def test_a_source_can_be_linked_to(browser: Browser, url: str) -> None:
    browser.open(f"{url}/{ASKED}&source=2")
    browser.wait(lambda: browser.is_shown("#source"))
    assert browser.texts("#source-title") == [browser.texts("#view-ask .object")[1]]
    browser.click("#source-close")
    browser.wait(lambda: not browser.is_shown("#source"))
    browser.wait(lambda: browser.run("return location.hash") == ASKED)


def test_a_question_that_nothing_fits_is_told_so(browser: Browser, url: str) -> None:
    browser.open(url)
    _ask(browser, SOURDOUGH)
    browser.wait(lambda: browser.is_shown("#view-ask .nothing"))
    assert browser.texts("#view-ask .nothing h2") == ["The documents do not say"]
    assert not browser.is_shown("#view-ask .found")
    assert re.search(r"0\.\d+", browser.texts("#view-ask .reason")[0])
    _ask(browser, MERGE)
    browser.wait(lambda: browser.is_shown("#view-ask .card"))
    assert not browser.is_shown("#view-ask .nothing")


def test_an_answer_can_be_linked_to_and_gone_back_to(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?q={MERGE.replace(' ', '+')}")  # as links were before there were several views
    browser.wait(lambda: browser.is_shown("#view-ask .card"))
    assert browser.run("return document.getElementById('question').value") == MERGE
    browser.click("#view-ask .examples button:nth-of-type(3)")
    browser.wait(lambda: _first(browser) != "heapq.merge")
    assert "frequent" in str(browser.run("return location.hash"))
    browser.back()
    browser.wait(lambda: _first(browser) == "heapq.merge")
    assert browser.run("return document.getElementById('question').value") == MERGE


def test_another_store_can_be_asked(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#ask?q=sort")
    browser.wait(lambda: browser.is_shown("#view-ask .stores"))
    browser.run("document.querySelector('#view-ask .stores').value = 'fake-docs'")
    _ask(browser, "sort")
    browser.wait(lambda: browser.texts("#view-ask .object") == ["heapq.merge", "sorted", "list.sort"])
    assert browser.run("return location.hash") == "#ask?q=sort&store=fake-docs"


class _Hostile(FakeStore):
    """Quotes markup, and characters that JavaScript counts as two."""

    async def ask(self, question: str, max_results: int) -> Answer:
        text = "🙂🙂 <img src=x onerror=alert(1)> 𝒜𝒷 end"
        start = text.index("𝒜𝒷")
        words = (Attended(start, start + 2, 1.0),)
        quote = Quote(text, "<b>a</b>", "<i>", "(<u>)", 3, 40, 0.9, 0.9, words)
        answering = Highlight(start + 1, start + 6)
        return Answer(True, "", (replace(quote, highlight=answering),), 0.9, 0.5)


def test_data_is_shown_as_text_and_offsets_count_characters(browser: Browser) -> None:
    made = replace(services(), stores={"fake-docs": _Hostile()})
    with serving(lambda _: made) as address:
        browser.open(f"{address}/#ask?q=x")
        browser.wait(lambda: browser.is_shown(".card"))
        assert "".join(browser.texts(".card mark")) == "𝒜𝒷"
        assert browser.texts(".card .answering") == ["𝒷 end"]
        assert browser.texts(".quote") == ["🙂🙂 <img src=x onerror=alert(1)> 𝒜𝒷 end"]
        assert browser.texts(".object") == ["<b>a</b>"]
        found = browser.run("return document.querySelectorAll('.card :is(img, b, i, u)').length")
        assert found == 0
