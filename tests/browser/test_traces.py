"""Traces in real Chromium: all answers, one token by token, two side by side; by keyboard, in every width."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from cynosure.insight.trace_level import TraceLevel
from cynosure.server.records.oversight import Oversight
from cynosure.server.schemas.drift import (
    Alarm,
    ChartDrift,
    DriftBoard,
    DriftReference,
    FeatureDrift,
    ModelDrift,
    Quantiles,
    SentinelDrift,
)
from tests.browser.page_timing import draw_trace, scroll_ribbon
from tests.browser.webdriver import END, ENTER, LEFT, RIGHT, Browser
from tests.server.fakes import services, serving
from tests.server.keyrings import ANNA, guarded
from tests.server.told_traces import CREATED_S, DOCUMENTS, keeper

pytestmark = pytest.mark.browser

STATUS = "#view-traces .status"
ROWS = """
return [...document.querySelectorAll('.shares-list .shares li')]
  .map(row => [row.querySelector('.name').textContent, row.querySelector('.share').textContent])
"""
#: What is drawn of a canvas: how many of its pixels are no background.
DRAWN = """
const canvas = document.querySelector(arguments[0]);
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
let count = 0;
for (let at = 3; at < data.length; at += 4) count += data[at] > 0;
return count / (canvas.width * canvas.height);
"""
#: The colour in which a head is drawn: layer and head are its arguments.
HEAD = """
const canvas = document.querySelector('.heads');
const scale = devicePixelRatio, size = Math.min(20, (canvas.clientWidth - 30) / 12);
const [x, y] = [30 + (arguments[1] + 0.5) * size, (arguments[0] + 0.5) * size];
const read = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
read.drawImage(canvas, -Math.floor(x * scale), -Math.floor(y * scale));
return [...read.getImageData(0, 0, 1, 1).data];
"""
#: Colours as people see them who lack a kind of cone (Machado, Oliveira and Fernandes 2009, severity 1).
SEEN = """
const sights = {
  all: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protan: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deutan: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritan: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};
const probe = document.body.appendChild(document.createElement('i'));
const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
const lab = ([r, g, b]) => {
  const [l, m, s] = [0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b,
    0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b,
    0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b].map(one => Math.cbrt(Math.max(0, one)));
  return [0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s];
};
const hues = arguments[0].map(name => {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(part => linear(part / 255));
});
probe.remove();
const nearest = {};
for (const [sight, matrix] of Object.entries(sights)) {
  const seen = hues.map(hue => lab(matrix.map(row => row.reduce((sum, one, at) => sum + one * hue[at], 0))));
  nearest[sight] = Math.min(...seen.flatMap((a, at) => seen.slice(at + 1).map(b =>
    Math.hypot(...a.map((one, axis) => one - b[axis])))));
}
return nearest;
"""
SHIFT = """
window.shifts = 0; window.moved = [];
new PerformanceObserver(list => list.getEntries().forEach(one => { window.shifts += one.value; }))
  .observe({type: 'layout-shift'});
"""

BOARD = """
const {driftBoard} = await import('/static/traces/drift_board.js');
document.querySelector('main').append(driftBoard(arguments[0], ''));
await new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)));
"""


def moved_board() -> DriftBoard:
    """A board with one model, whose documents are attended to less than they were."""
    before = Quantiles(p05=0.3, p25=0.38, p50=0.41, p75=0.45, p95=0.5, mean=0.41)
    now = Quantiles(p05=0.1, p25=0.2, p50=0.22, p75=0.26, p95=0.3, mean=0.22)
    chart = ChartDrift(up=0.0, down=12.0, limit=10.0)
    moved = FeatureDrift(
        name="document_mass", title="Document share", unit="share", reference=before, window=now, psi=0.312,
        wasserstein=1.9, chart=chart, adwin=None, is_alarm=True, strata=[], history=[0.41, 0.4, 0.3, 0.22],
    )  # fmt: skip
    alarm = Alarm(
        since=CREATED_S, at_answer=512, kind="feature", name="document_mass", message="documents get less",
        ended=None,
    )  # fmt: skip
    reference = DriftReference(
        made=CREATED_S, num_answers=2000, digest="d", heads="h", is_kept=True, false_alarms=1.0
    )
    frozen = SentinelDrift(id="s", state="moved", distance=0.2, limit=0.01, num_answers=3)
    model = ModelDrift(
        model="house-lm", state="alarm", num_answers=600, num_left_out=0, num_window=200, reference=reference,
        alarm=alarm, past_alarms=[], features=[moved], joint=[], sentinels=[frozen],
    )  # fmt: skip
    return DriftBoard(
        window=200, history_every=50, min_reference=200, adwin=False, num_dropped=0, models=[model]
    )


@pytest.fixture(scope="module")
def traces() -> Iterator[str]:
    with serving(lambda _: services(), oversight=Oversight(traces=keeper())) as address:
        yield address


def opened(browser: Browser, url: str, values: str = "") -> Browser:
    browser.open(f"{url}/#traces{values}")
    browser.wait(lambda: browser.texts(STATUS)[0] not in ("", "Reading…"))
    return browser


def shares(browser: Browser) -> dict[str, float]:
    rows = browser.run(ROWS)
    assert isinstance(rows, list)
    return {name: float(share.rstrip("%")) for name, share in rows}


def test_a_trace_is_coloured_by_what_was_attended_to(browser: Browser, traces: str) -> None:
    opened(browser, traces, "?id=req-parcel")
    assert "".join(browser.texts(".trace .token")[:4]) == " A parcel takes three"
    hues = browser.run("return [...document.querySelectorAll('.trace .token')].map(t => t.dataset.part)")
    assert isinstance(hues, list)
    assert hues[:3] == ["2"] * 3
    assert set(hues) <= {"0", "1", "2", "3", "4", "answer"}
    names = shares(browser)
    assert sum(names.values()) == pytest.approx(100, abs=1.5)
    assert {"system", "user:0", *DOCUMENTS, "the answer itself", "the template"} <= names.keys()
    assert "8.3% of the heads" in browser.texts(".trace > .citation:last-child")[0]
    drawn = browser.run(DRAWN, ".heat")
    assert isinstance(drawn, float)
    assert drawn > 0.5
    # The head map: a head that is watched has another colour than one that is not.
    watched, other = (browser.run(HEAD, *place) for place in ((6, 3), (6, 4)))
    assert watched != other == browser.run(HEAD, 0, 0)
    page = str(browser.run("return document.body.textContent"))
    assert "attended to" in page
    assert not re.search(r"becaus[e] of", page)


def test_a_token_lights_up_what_it_attended_to(browser: Browser, traces: str) -> None:
    opened(browser, traces, "?id=req-parcel")
    on_average = shares(browser)
    browser.click('[data-token="12"]')
    assert "“back”, attended to doc:returns most" in browser.texts(".about")[-1]
    assert shares(browser)["doc:returns"] > on_average["doc:returns"]
    assert DOCUMENTS["doc:returns"] in browser.texts(".shares-list .quote")[0]
    assert "token=12" in str(browser.run("return location.hash"))
    browser.press(RIGHT)
    assert "Token 13," in browser.texts(".shares-list .about")[0]
    browser.press(LEFT)
    browser.press(END)
    assert "“unclear.”" in browser.texts(".shares-list .about")[0]
    assert browser.run("return document.querySelectorAll('.trace .token[tabindex=\"0\"]').length") == 1
    # The address opens the same token again.
    opened(browser, traces, "?id=req-parcel&token=3")
    browser.run("location.reload()")
    browser.wait(lambda: browser.texts(".shares-list .about"))
    assert "Token 3," in browser.texts(".shares-list .about")[0]


def test_the_ribbon_goes_by_keyboard_and_pointer(browser: Browser, traces: str) -> None:
    opened(browser, traces, "?id=req-long")
    place = "return document.querySelector('.ribbon-place').textContent"
    browser.wait(lambda: browser.run(place) == "tokens 0–1055 of 1056")
    browser.run("document.querySelector('.heat').focus()")
    browser.press(RIGHT)
    value = "return document.querySelector('.heat').getAttribute('aria-valuetext')"
    assert re.match(r"token 0,  A, attended to doc:shipping most: \d+%", str(browser.run(value)))
    browser.press("+")
    browser.press("+")
    browser.wait(lambda: browser.run(place) != "tokens 0–1055 of 1056")
    browser.press(END)
    browser.wait(lambda: re.match(r"tokens 79\d–1055", str(browser.run(place))))
    assert "Token 1055" in browser.texts(".shares-list .about")[0]
    click = """
    const heat = document.querySelector('.heat');
    const box = heat.getBoundingClientRect();
    const at = {pointerId: 1, bubbles: true, clientX: box.left + box.width / 2, clientY: box.top + 20};
    heat.setPointerCapture = () => {};
    heat.dispatchEvent(new PointerEvent('pointerdown', at));
    heat.dispatchEvent(new PointerEvent('pointerup', at));
    """
    browser.run(click)
    assert re.match(r"Token 9\d\d,", browser.texts(".shares-list .about")[0])


def test_groups_of_heads_are_chosen(browser: Browser, traces: str) -> None:
    opened(browser, traces, "?id=req-parcel&token=2")
    assert browser.texts(".trace select option") == [
        "all watched heads",
        "heads of the group “retrieval”",
        "heads of the group “citation”",
    ]
    choose = (
        "const chosen = document.querySelector('.trace select');"
        "chosen.value = arguments[0]; chosen.dispatchEvent(new Event('change'))"
    )
    before = browser.texts(".shares-list .share")
    browser.run(choose, "citation")
    assert browser.texts(".shares-list .share") != before
    assert not any("%" in one for one in browser.texts(".shares-list .share"))
    assert "12 of 144 heads are watched, 8 of them count" in browser.texts(".heads ~ .citation")[0]
    assert "layer 6 head 0 (0.90)" in browser.texts(".heads ~ .citation")[0]
    assert "Token 2," in browser.texts(".shares-list .about")[0]


def test_citations_and_risk_stand_with_their_sentences(browser: Browser, traces: str) -> None:
    opened(browser, traces, "?id=req-parcel")
    assert browser.texts(".trace sup.cited") == ["[1]", "[2]"]
    assert browser.texts(".sentences .risk") == ["risk 6%", "risk 14%", "risk 83%", "risk unknown"]
    risks = browser.run("return [...document.querySelectorAll('.sentence')].map(s => s.dataset.risk)")
    assert risks == ["low", "low", "high", "unknown"]
    assert browser.texts(".cite-text") == [DOCUMENTS["doc:shipping"], DOCUMENTS["doc:returns"]]
    assert "calibrated for 4 to 12" in browser.texts(".sentences")[0]
    assert "no score of truth" in browser.texts(".trace-body")[0]


def test_a_trace_without_texts_says_so(browser: Browser, traces: str) -> None:
    opened(browser, traces, "?id=req-little")
    assert set(browser.texts(".trace .token")) == {"•"}
    assert "Texts are not kept at level L1" in browser.texts(".told-text .citation")[0]
    assert "document:0" in shares(browser)
    assert "A trace of level L1 holds no sentences" in browser.texts(".trace-body")[0]
    assert browser.texts(".shares-list .quote") == [""]


def test_averages_alone_are_told_in_words(browser: Browser) -> None:
    with serving(lambda _: services(), oversight=Oversight(traces=keeper(TraceLevel.L0, 1))) as url:
        opened(browser, url, "?id=req-parcel")
        assert re.search(r"averages alone\. Attended to: .*document \d+", browser.texts(".trace")[0])
        assert not browser.is_shown(".heat")


def test_all_answers_are_sorted_filtered_and_opened(browser: Browser, traces: str) -> None:
    opened(browser, traces)
    ids = "return [...document.querySelectorAll('.request-table .id')].map(e => e.textContent)"
    listed = browser.run(ids)
    assert isinstance(listed, list)
    assert (len(listed), listed[0]) == (84, "req-parcel")
    browser.run("[...document.querySelectorAll('.sort')].find(b => b.textContent === 'Tokens').click()")
    assert browser.run(ids + "[0]") == "req-long"
    browser.type(".requests input[type=search]", "req-07")
    browser.wait(lambda: browser.run(ids + ".length") == 10)
    assert browser.texts(".requests .options span") == ["10 of 84"]
    drawn = browser.run(DRAWN, ".fleet > .chart")
    assert drawn == pytest.approx(1, abs=0.15)
    assert "document 4" in browser.texts(".role-legend")[0]
    shown = browser.run(
        "return [...document.querySelectorAll('.tile:not([hidden])')].map(t => t.innerText.split('\\n'))"
    )
    assert isinstance(shown, list)
    tiles = {title: number for title, number, *_ in shown}
    assert "grounding risk" in browser.texts(".fleet")[0]
    assert "Grounding risk" not in tiles
    assert tiles["Requests running"] == "0"
    assert re.match(r"\d+%", tiles["To sinks"])
    browser.run("document.querySelector('.request-table .id a').click()")
    browser.wait(lambda: browser.is_shown(".trace"))
    assert not browser.is_shown(".fleet")
    browser.back()
    browser.wait(lambda: browser.is_shown(".fleet"))


def test_two_answers_stand_side_by_side(browser: Browser, traces: str) -> None:
    opened(browser, traces)
    for number in (0, 1):
        browser.run("document.querySelectorAll('.request-table .pick input')[arguments[0]].click()", number)
    browser.run("document.querySelector('.requests .options button').click()")
    browser.wait(lambda: len(browser.texts(".sides .trace")) == 2)
    assert browser.texts(".sides .trace h2") == ["A: req-parcel", "B: req-other"]
    rows = browser.run(
        "return [...document.querySelectorAll('.compared tr')].slice(1)"
        ".map(row => [...row.children].map(cell => cell.textContent))"
    )
    assert isinstance(rows, list)
    assert [row[0] for row in rows[2:5]] == list(DOCUMENTS)
    for _, a, b, by in rows:
        expected = float(b.rstrip("%")) - float(a.rstrip("%"))
        assert float(by.replace("−", "-")) == pytest.approx(expected, abs=1.1)


def test_an_unknown_request_is_told_in_the_servers_words(browser: Browser, traces: str) -> None:
    opened(browser, traces)
    browser.type("#trace-id", "absent" + ENTER)
    browser.wait(lambda: browser.is_shown("#view-traces .failure"))
    assert "no trace of a request 'absent'" in browser.texts("#view-traces .failure p")[0]
    browser.log()  # Chromium notes the 404


def test_who_is_no_operator_is_told_so_and_sees_his_own(browser: Browser) -> None:
    with guarded() as address:
        browser.open(f"{address}/#traces")
        browser.wait(lambda: browser.is_shown("#key-needed"))
        browser.type("#key", ANNA + ENTER)
        browser.wait(lambda: "No answer is kept yet" in browser.texts(STATUS)[0])
        assert "admin" in browser.texts(".drift")[0]
        assert "admin" in browser.texts(".fleet")[0]
        assert not browser.is_shown("#view-traces .failure")
        browser.run("sessionStorage.clear()")
        browser.log()  # Chromium notes each 401 and 403


def test_the_drift_board_tells_what_moved(browser: Browser, traces: str) -> None:
    browser.open(traces)
    browser.run(BOARD, moved_board().model_dump(mode="json"))
    assert browser.texts("main > .drift h3") == ["house-lm: has shifted"]
    assert "documents get less" in browser.texts(".alarm-text")[0]
    cells = browser.run(
        "return [...document.querySelectorAll('.drift-table tbody tr > *')].map(c => c.textContent)"
    )
    assert isinstance(cells, list)
    assert cells[:6] == ["Document share", "0.410", "0.220", "0.312", "1.900", "120%"]
    assert browser.run("return document.querySelector('.drift-table tbody tr').className") == "alarm"
    assert browser.run(DRAWN, ".drift-table .chart") != 0
    assert "1 frozen prompts are answered again and again: 1 have moved" in browser.texts("main > .drift")[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 400, 1100])
@pytest.mark.parametrize("values", ["", "?id=req-parcel", "?id=req-parcel&with=req-long"])
def test_nothing_runs_over_the_edge_or_jumps(
    browser: Browser, traces: str, values: str, width: int, scheme: str
) -> None:
    browser.prefer(scheme)
    browser.resize(width, 900)
    opened(browser, traces, values)
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    if values == "?id=req-parcel":
        browser.run(SHIFT)
        for token in (1, 9, 14, 30):
            browser.run('document.querySelector(`[data-token="${arguments[0]}"]`).click()', token)
        browser.run("return new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")
        shifted = browser.run("return window.shifts")
        assert isinstance(shifted, int | float)
        assert shifted < 0.1
    browser.prefer("light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_parts_are_told_apart_by_every_sight(browser: Browser, traces: str, scheme: str) -> None:
    browser.prefer(scheme)
    browser.open(traces)
    nearest = browser.run(SEEN, [*(f"part-{number}" for number in range(6)), "part-answer"])
    control = browser.run(SEEN, ["part-0", "part-0"])
    browser.prefer("light")
    assert isinstance(nearest, dict)
    assert isinstance(control, dict)
    # A step of 0.02 is just seen (Ottosson 2020); the lines under tokens tell them apart too.
    assert {sight: near for sight, near in nearest.items() if near < 0.08} == {}
    assert set(control.values()) == {0}


def test_a_thousand_tokens_are_drawn_and_a_hundred_thousand_scrolled(browser: Browser, traces: str) -> None:
    """Bounds are several times what a quiet machine takes; `evals/page.py` writes the figures."""
    opened(browser, traces, "?id=req-long")
    short, told = draw_trace(browser, "req-long"), scroll_ribbon(browser)
    assert short.num_tokens >= 1000
    assert short.draw_ms < 500
    assert told.is_at_the_end
    assert told.num_nodes < 20
    assert told.first_ms < 1500
    assert told.draw_ms < 50
