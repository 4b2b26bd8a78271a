"""The page in real Chromium, over the real server, embedder and search."""

from __future__ import annotations

import heapq
import inspect
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cynosure.cli.assembly import ServeOptions, assemble
from cynosure.cli.home import data_home
from cynosure.cli.python_docs import PythonDocs, ThreadedDocs
from cynosure.models.minilm import load_minilm
from cynosure.retrieval import DocsSearch, build_index, open_index, read_python_docs
from cynosure.server.runtime import Report
from cynosure.server.services import Answer, Attended, Quote, Services
from tests.browser.webdriver import ENTER, Browser
from tests.server.fakes import CREATED, FakeStore, services, serving
from tests.server.keyrings import ANNA, guarded

pytestmark = pytest.mark.browser

#: Set to write the screenshot of the documentation, over the whole index instead of a small one.
SCREENSHOT = "CYNOSURE_SCREENSHOT"
SHOWN = Path(__file__).parents[2] / "docs" / "images" / "ask.png"
SOME_MODULES = {"heapq", "functools", "shlex", "itertools", "bisect", "textwrap", "json", "csv", "builtins"}

MERGE = "how do I merge sorted iterables"
SOURDOUGH = "which sourdough flour rises best"


def _small_docs(folder: Path) -> Services:
    """The real thing over the documentation of a few modules, which takes seconds to index."""
    documentation = read_python_docs()
    some = tuple(entry for entry in documentation.entries if entry.module in SOME_MODULES)
    embedder = load_minilm()
    path = folder / "small.sqlite"
    build_index(path, replace(documentation, entries=some), embedder)
    docs = PythonDocs(DocsSearch(open_index(path, documentation.source, embedder), embedder), embedder)
    return Services({}, {docs.name: ThreadedDocs(docs)}, {}, CREATED)


@pytest.fixture(scope="module")
def url(index_folder: Path) -> Iterator[str]:
    def load(report: Report) -> Services:
        if SCREENSHOT in os.environ:
            return assemble(ServeOptions(data_home(os.environ) / "index"), report)
        return _small_docs(index_folder)

    with serving(load, wait_s=150) as address:
        yield address


def _ask(browser: Browser, question: str) -> None:
    browser.run("document.getElementById('question').value = ''")
    browser.type("#question", question + ENTER)


def test_a_question_gets_cards_that_quote_verbatim(browser: Browser, url: str) -> None:
    browser.open(url)
    browser.wait(lambda: browser.is_shown("#question") and not browser.is_shown("#loading"))
    _ask(browser, MERGE)
    browser.wait(lambda: browser.is_shown(".card"))
    assert browser.texts(".object")[0] == "heapq.merge"
    assert browser.texts(".kind")[0] == "function"
    assert browser.texts(".signature")[0] == str(inspect.signature(heapq.merge))
    place = re.fullmatch(
        r"heapq\.merge, characters (\d+)–(\d+) of its docstring", browser.texts(".citation")[0]
    )
    assert place is not None
    doc = heapq.merge.__doc__
    assert doc is not None
    quoted = browser.run("return document.querySelector('.quote').textContent")
    assert quoted == doc[int(place[1]) : int(place[2])]
    marks = browser.texts("li:first-child mark")
    assert marks
    assert all(mark in doc for mark in marks)
    weights = browser.run(
        "return [...document.querySelectorAll('.card mark')].map(m => +m.style.getPropertyValue('--weight'))"
    )
    assert isinstance(weights, list)
    assert max(weights) == 1
    assert min(weights) >= 0.2
    assert "attended to" in browser.texts("#legend")[0]
    assert re.fullmatch(r"\d+ passages? in \d+\.\d\d s", browser.texts("#status")[0])
    assert browser.run("return location.search") == f"?q={MERGE.replace(' ', '%20')}"
    if SCREENSHOT in os.environ:
        SHOWN.parent.mkdir(exist_ok=True)
        browser.run("document.activeElement.blur()")
        browser.screenshot(SHOWN)


def test_a_question_that_nothing_fits_is_told_so(browser: Browser, url: str) -> None:
    browser.open(url)
    _ask(browser, SOURDOUGH)
    browser.wait(lambda: browser.is_shown("#nothing"))
    assert not browser.is_shown("#answer")
    assert re.search(r"scores 0\.\d+; below 0\.5", browser.texts("#reason")[0])
    _ask(browser, MERGE)
    browser.wait(lambda: browser.is_shown(".card"))
    assert not browser.is_shown("#nothing")


def test_an_answer_can_be_linked_to_and_gone_back_to(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?q={MERGE.replace(' ', '+')}")
    browser.wait(lambda: browser.is_shown(".card"))
    assert browser.run("return document.getElementById('question').value") == MERGE
    browser.click("#examples button:nth-of-type(3)")
    browser.wait(lambda: browser.texts(".object")[:1] not in ([], ["heapq.merge"]))
    browser.run("history.back()")
    browser.wait(lambda: browser.texts(".object")[:1] == ["heapq.merge"])
    assert browser.run("return document.getElementById('question').value") == MERGE


def test_it_can_be_used_by_keyboard_and_by_ear(browser: Browser, url: str) -> None:
    browser.open(url)
    assert browser.run("return document.activeElement.id") == "question"
    browser.run("document.activeElement.blur()")
    browser.press("/")
    assert browser.run("return document.activeElement.id") == "question"
    nameless = browser.run(
        "return [...document.querySelectorAll('input, button, progress')]"
        ".filter(e => !(e.labels?.length || e.textContent.trim())).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert browser.run("return document.getElementById('status').getAttribute('aria-live')") == "polite"
    assert browser.run("return document.documentElement.lang") == "en"
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map(e => e.tagName)")
    assert isinstance(levels, list)
    assert levels.count("H1") == 1


def test_everything_comes_from_this_server(browser: Browser, url: str) -> None:
    browser.open(f"{url}/?q=merge")
    browser.wait(lambda: browser.is_shown("#answer") or browser.is_shown("#nothing"))
    loaded = browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert isinstance(loaded, list)
    assert len(loaded) >= 6
    assert [name for name in loaded if not name.startswith(f"{url}/")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_runs_over_the_edge(browser: Browser, url: str, scheme: str, width: int) -> None:
    browser.prefer(scheme)
    browser.resize(width, 900)
    browser.open(f"{url}/?q={MERGE.replace(' ', '+')}")
    browser.wait(lambda: browser.is_shown(".card"))
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 23, 28)"}[scheme]
    browser.prefer("light")


class _Hostile(FakeStore):
    """Quotes markup, and characters that JavaScript counts as two."""

    async def ask(self, question: str, max_results: int) -> Answer:
        text = "🙂🙂 <img src=x onerror=alert(1)> 𝒜𝒷 end"
        start = text.index("𝒜𝒷")
        quote = Quote(text, "<b>a</b>", "<i>", "(<u>)", 3, 40, 0.9, 0.9, (Attended(start, start + 2, 1.0),))
        return Answer(True, "", (quote,), 0.9, 0.5)


def test_data_is_shown_as_text_and_offsets_count_characters(browser: Browser) -> None:
    made = replace(services(), stores={"fake-docs": _Hostile()})
    with serving(lambda _: made) as address:
        browser.open(f"{address}/?q=x")
        browser.wait(lambda: browser.is_shown(".card"))
        assert browser.texts("mark") == ["𝒜𝒷"]
        assert browser.texts(".quote") == ["🙂🙂 <img src=x onerror=alert(1)> 𝒜𝒷 end"]
        assert browser.texts(".object") == ["<b>a</b>"]
        assert (
            browser.run("return document.querySelectorAll('.card img, .card b, .card i, .card u').length")
            == 0
        )


def test_the_policy_stops_what_is_not_ours_and_the_log_would_show_it(browser: Browser) -> None:
    """The positive control of "no errors on the console"."""
    with serving(lambda _: services()) as address:
        browser.open(address)
        browser.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:1/x.png'}))")
        said = browser.wait(browser.log)
        assert any("Content Security Policy" in line for line in said)
        refused = browser.run(
            "try { document.body.innerHTML = '<p>'; return '' } catch (e) { return e.name }"
        )
        assert refused == "TypeError"
        browser.log()


def test_it_waits_while_the_server_loads_and_asks_then(browser: Browser) -> None:
    may_end = threading.Event()

    def load(report: Report) -> Services:
        report("Indexing passages", 300, 1000)
        may_end.wait(20)
        return services()

    with serving(load, wait=False) as address:
        browser.open(f"{address}/?q=merge")
        browser.wait(lambda: browser.texts("#stage") == ["Indexing passages: 300 of 1000"])
        assert browser.run("return document.getElementById('progress').position") == 0.3
        assert not browser.is_shown("#answer")
        may_end.set()
        browser.wait(lambda: browser.is_shown(".card"))
        assert not browser.is_shown("#loading")
        browser.log()  # Chromium notes each 503 of /ready


def test_a_server_that_has_gone_is_said(browser: Browser) -> None:
    with serving(lambda _: services()) as address:
        browser.open(address)
        browser.wait(lambda: not browser.is_shown("#loading"))
    _ask(browser, "merge")
    browser.wait(lambda: browser.is_shown("#failure"))
    assert "does not answer" in browser.texts("#failure-text")[0]
    browser.log()  # Chromium notes the refused connection


def test_a_server_with_keys_is_given_one_that_is_asked_for_once(browser: Browser) -> None:
    with guarded() as address:
        browser.open(f"{address}/?q=merge")
        browser.wait(lambda: browser.is_shown("#key-needed"))
        assert not browser.is_shown("#loading")
        assert browser.texts("#key-text") == ["This server answers who has an API key."]
        assert browser.run("return document.activeElement.id") == "key"
        assert browser.run("return document.getElementById('key').type") == "password"
        browser.type("#key", "not-a-key-of-this-server" + ENTER)
        browser.wait(lambda: not browser.texts("#key-text")[0].startswith("This server answers"))
        assert browser.run("return sessionStorage.length") == 0
        assert browser.is_shown("#key-needed")
        browser.type("#key", ANNA + ENTER)
        browser.wait(lambda: browser.is_shown(".card"))
        assert not browser.is_shown("#key-needed")
        assert browser.run("return document.getElementById('key').value") == ""
        browser.open(f"{address}/?q=sort")
        browser.wait(lambda: browser.is_shown(".card"))
        assert not browser.is_shown("#key-needed")
        assert browser.run("return localStorage.length + document.cookie.length") == 0
        browser.run("sessionStorage.clear()")
        browser.log()  # Chromium notes each 401
