"""The page in real Chromium: views, keys, widths, schemes, and a server that loads or is gone."""

from __future__ import annotations

import socket
import threading

import pytest

from cynosure.server.runtime import Report
from cynosure.server.services import Services
from cynosure.server.settings import ServerSettings
from tests.browser.webdriver import ENTER, TAB, Browser
from tests.server.fakes import services, serving
from tests.server.keyrings import ANNA, guarded

pytestmark = pytest.mark.browser

VIEWS = ("ask", "search", "code", "inspect", "traces")
ASKED = "#ask?q=how+do+I+merge+sorted+iterables"
#: Elements that can be used and have no name that is read out.
NAMELESS = """
const named = e => e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label');
return [...document.querySelectorAll('a, input, button, progress, select, textarea, dialog, [role]')]
  .filter(e => !named(e) && !e.getAttribute('aria-labelledby') && !e.matches('[role=status], [role=alert]'))
  .map(e => e.outerHTML)
"""
CONTRASTS = """
const probe = document.body.appendChild(document.createElement('i'));
const light = name => {
  probe.style.color = `var(--${name})`;
  const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(part => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const found = {};
const pairs = ['ink quiet deep alarm'.split(' ').map(ink => [ink, 'paper']),
  'ink quiet deep alarm'.split(' ').map(ink => [ink, 'sheet']), [['deep-ink', 'deep']]].flat();
for (const [ink, sheet] of pairs) {
  const [a, b] = [light(ink), light(sheet)].sort((x, y) => y - x);
  found[`${ink} on ${sheet}`] = (a + 0.05) / (b + 0.05);
}
probe.remove();
return found;
"""


def test_views_are_in_the_address_and_back_works(browser: Browser, url: str) -> None:
    browser.open(url)
    for name in VIEWS:
        browser.click(f"nav a[href='#{name}']")
        browser.wait(lambda name=name: browser.is_shown(f"#view-{name}"))
        shown = [view for view in VIEWS if browser.is_shown(f"#view-{view}")]
        assert shown == [name]
        current = browser.run("return document.querySelector('[aria-current=page]').hash")
        assert current == f"#{name}"
        assert "Cynosure" in str(browser.run("return document.title"))
    for name in VIEWS[-2::-1]:
        browser.back()
        browser.wait(lambda name=name: browser.is_shown(f"#view-{name}"))


def test_what_was_typed_stays_while_views_change(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#code")
    browser.type("#text", "typed = 1")
    browser.click("nav a[href='#inspect']")
    browser.type("#parts textarea", "typed too")
    browser.click("nav a[href='#code']")
    assert "typed = 1" in str(browser.run("return document.getElementById('text').value"))
    assert "typed too" in str(browser.run("return document.querySelector('#parts textarea').value"))


@pytest.mark.parametrize("name", VIEWS)
def test_it_can_be_used_by_keyboard_and_by_ear(browser: Browser, url: str, name: str) -> None:
    browser.open(f"{url}/#{name}")
    browser.wait(lambda: not browser.is_shown("#loading") and browser.texts("select.stores option"))
    field = browser.run("return document.activeElement.closest('.view').id")
    assert field == f"view-{name}"
    assert browser.run(NAMELESS) == []
    seen = "return [...document.querySelectorAll('h1')].filter(e => e.checkVisibility()).length"
    assert browser.run(seen) == 1
    status = f"return document.querySelector('#view-{name} .status').getAttribute('aria-live')"
    assert browser.run(status) == "polite"
    assert browser.run("return document.documentElement.lang") == "en"
    browser.run("document.activeElement.blur(); document.body.focus(); scrollTo(0, 0)")
    browser.run("document.querySelector('.skip').focus()")
    assert browser.is_shown(".skip:focus")
    browser.press(ENTER)
    assert browser.run("return document.activeElement.id") == "content"
    assert browser.run("return location.hash") == f"#{name}"
    browser.press("/")
    assert browser.run("return document.activeElement.closest('.view')?.id") == f"view-{name}"


def test_every_field_of_a_view_is_reached_by_tab_and_shows_it(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#inspect")
    browser.wait(lambda: browser.texts(".setting option[value=tiny]"))
    wanted = browser.run(
        "return [...document.querySelectorAll('#view-inspect :is(textarea, input, select, button)')]"
        ".filter(e => e.checkVisibility()).length"
    )
    assert isinstance(wanted, int)
    assert wanted > 12
    browser.run("document.querySelector('#parts textarea').focus()")
    outlined = "return getComputedStyle(document.activeElement).outlineStyle !== 'none'"
    for at in range(wanted):
        assert browser.run("return document.activeElement.closest('#view-inspect') !== null"), at
        assert browser.run(outlined), browser.run("return document.activeElement.outerHTML")
        browser.press(TAB)
    assert browser.run("return document.activeElement.closest('#view-inspect')") is None


def test_everything_comes_from_this_server(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#ask?q=merge")
    browser.wait(lambda: browser.is_shown("#view-ask .card") or browser.is_shown("#view-ask .nothing"))
    loaded = browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert isinstance(loaded, list)
    assert len(loaded) >= 20
    assert [name for name in loaded if not name.startswith(f"{url}/")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
@pytest.mark.parametrize("name", VIEWS)
def test_nothing_runs_over_the_edge(browser: Browser, url: str, name: str, scheme: str, width: int) -> None:
    browser.prefer(scheme)
    browser.resize(width, 900)
    asked = f"{url}/{ASKED}&source=1" if name == "ask" else f"{url}/#{name}"
    browser.open(f"{url}/#search?q=sort" if name == "search" else asked)
    ready = {
        "ask": "#source", "search": "#view-search .card", "code": "#text", "inspect": ".setting",
        "traces": ".requests .scroller",
    }[name]  # fmt: skip
    browser.wait(lambda: browser.is_shown(ready))
    if name == "code":
        browser.press(TAB)
        browser.wait(lambda: "Suggested" in browser.texts("#view-code .status")[0])
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    box = "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
    assert browser.run(f"{box} return box.left >= 0 && box.right <= innerWidth", ready)
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 23, 28)"}[scheme]
    browser.prefer("light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_on_what_they_stand_on(browser: Browser, url: str, scheme: str) -> None:
    """The contrast that WCAG asks of text, 4.5 to 1, for each ink on each sheet."""
    browser.prefer(scheme)
    browser.open(url)
    found = browser.run(CONTRASTS)
    browser.prefer("light")
    assert isinstance(found, dict)
    assert len(found) == 9
    assert {pair: ratio for pair, ratio in found.items() if ratio < 4.5} == {}


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
        browser.open(f"{address}/#ask?q=merge")
        browser.wait(lambda: browser.texts("#stage") == ["Indexing passages: 300 of 1000"])
        assert browser.run("return document.getElementById('progress').position") == 0.3
        assert not browser.is_shown("#view-ask .found")
        may_end.set()
        browser.wait(lambda: browser.is_shown(".card"))
        assert not browser.is_shown("#loading")
        browser.log()  # Chromium notes each 503 of /ready


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_has_gone_is_said_and_one_that_is_back_is_asked_again(browser: Browser) -> None:
    settings = ServerSettings(port=_free_port())
    with serving(lambda _: services(), settings) as address:
        browser.open(address)
        browser.wait(lambda: not browser.is_shown("#loading") and browser.texts("select.stores option"))
    browser.type("#question", "merge" + ENTER)
    browser.wait(lambda: browser.is_shown("#gone"))
    assert "does not answer" in browser.texts("#gone p")[0]
    assert browser.run("return document.getElementById('question').value") == "merge"
    browser.click("nav a[href='#code']")
    browser.type("#text", "typed meanwhile")
    assert browser.is_shown("#gone")
    browser.click("nav a[href='#ask']")
    browser.run("history.go(-2)")
    with serving(lambda _: services(), settings):
        browser.click("#retry")
        browser.wait(lambda: browser.is_shown("#view-ask .card"))
        assert not browser.is_shown("#gone")
        assert "typed meanwhile" in str(browser.run("return document.getElementById('text').value"))
    browser.log()  # Chromium notes each refused connection


@pytest.mark.parametrize("name", ["code", "inspect"])
def test_every_view_says_that_the_server_has_gone(browser: Browser, name: str) -> None:
    with serving(lambda _: services()) as address:
        browser.open(f"{address}/#{name}")
        browser.wait(lambda: browser.texts("select.stores option"))
    browser.click("#complete" if name == "code" else "#inspect-form .main-button")
    browser.wait(lambda: browser.is_shown("#gone") or browser.is_shown(f"#view-{name} .failure"))
    assert browser.is_shown("#gone") or "No model" in browser.texts(f"#view-{name} .failure p")[0]
    browser.log()


def test_a_server_with_keys_is_given_one_that_is_asked_for_once(browser: Browser) -> None:
    with guarded() as address:
        browser.open(f"{address}/#ask?q=merge")
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
        browser.run("location.hash = '#ask?q=sort'")
        browser.wait(lambda: browser.is_shown(".card"))
        assert not browser.is_shown("#key-needed")
        assert browser.run("return localStorage.length + document.cookie.length") == 0
        browser.run("sessionStorage.clear()")
        browser.log()  # Chromium notes each 401
