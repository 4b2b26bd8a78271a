"""Two answers in real Chromium, of a real tiny model: what each token attended to."""

from __future__ import annotations

import re

import pytest

from tests.browser.webdriver import END, RIGHT, Browser

pytestmark = pytest.mark.browser

ROWS = "return [...document.querySelectorAll('.told')[arguments[0]].querySelectorAll('.shares li')]"
SHARES = (
    f"{ROWS}.map(row => [row.querySelector('.name').textContent, row.querySelector('.share').textContent])"
)


def shares(browser: Browser, answer: int) -> dict[str, int]:
    rows = browser.run(SHARES, answer)
    assert isinstance(rows, list)
    return {name: int(share.rstrip("%")) for name, share in rows}


@pytest.fixture
def told(browser: Browser, url: str) -> Browser:
    """Both answers, written."""
    browser.open(f"{url}/#inspect")
    browser.wait(lambda: browser.texts(".setting option[value=tiny]") == ["tiny (demonstration)"] * 2)
    browser.run("document.getElementById('max-tokens').value = 12")
    browser.click("#inspect-form .main-button")
    browser.wait(lambda: browser.texts("#view-inspect .status")[0].startswith("Both answers"), 30)
    return browser


def test_tokens_are_coloured_by_what_they_attended_to(told: Browser) -> None:
    assert len(told.texts(".told")) == 2
    for answer in (0, 1):
        assert sum(shares(told, answer).values()) == pytest.approx(100, abs=4)
    kinds = told.run("return [...document.querySelectorAll('.token')].map(t => t.dataset.part)")
    assert isinstance(kinds, list)
    assert set(kinds) <= {"0", "1", "2", "3", "answer"}
    colour = "return getComputedStyle(document.querySelector('.token')).backgroundColor"
    assert told.run(colour) != "rgba(0, 0, 0, 0)"
    assert "demonstration" in told.texts(".told .author")[0]
    assert any("heads" in said for said in told.texts(".told .citation"))
    assert "attended to" in told.texts(".told .about")[0]
    page = str(told.run("return document.body.textContent"))
    assert not re.search(r"becaus[e] of", page)


def test_a_denied_document_is_attended_to_by_nothing(told: Browser) -> None:
    """The second answer's setting at the start; the first one's is the control."""
    assert shares(told, 0)["document 1"] > 0
    assert "document 1" not in shares(told, 1)
    assert shares(told, 1)["document 2"] > shares(told, 0)["document 2"]


def test_a_token_tells_its_shares_by_pointer_and_by_keyboard(told: Browser) -> None:
    average = shares(told, 0)
    told.run("document.querySelector('.token').focus()")
    assert re.fullmatch(r"“.+” attended to .+ most", told.texts(".told .about")[0], re.DOTALL)
    first = shares(told, 0)
    assert sum(first.values()) == pytest.approx(100, abs=4)
    told.press(RIGHT)
    assert told.run("return document.activeElement === document.querySelectorAll('.token')[1]")
    told.press(END)
    assert told.run("return document.activeElement === document.querySelector('.token:last-child')")
    assert shares(told, 0) != first
    assert (
        told.run(
            "return document.querySelectorAll('.told')[0].querySelectorAll('.token[tabindex=\"0\"]').length"
        )
        == 1
    )
    told.run("document.activeElement.blur()")
    assert shares(told, 0) == average
    told.run(
        "document.querySelector('.token').dispatchEvent(new PointerEvent('pointerover', {bubbles: true}))"
    )
    assert shares(told, 0) == first


def test_a_model_that_does_not_converse_is_told_the_same(browser: Browser, url: str) -> None:
    """The parts of one text, by their places in code points, also where JavaScript counts otherwise."""
    browser.open(url)
    body = browser.run(
        "return import('/static/prompt_parts.js').then(({ request }) => request("
        "{ id: 'm', capabilities: [] }, [{ id: 'doc:1', text: '🙂 𝒜' }, { id: 'question', text: 'why' }],"
        "{ temperature: 0, part: 'doc:1', treatment: 'less' }, 5))"
    )
    assert isinstance(body, dict)
    assert body["path"] == "/v1/completions"
    assert body["body"]["prompt"] == "🙂 𝒜\n\nwhy\n\n"
    assert body["body"]["attention"] == {
        "level": "summary",
        "bias": [{"segment": "doc:1", "add": -3}],
        "segments": [{"id": "doc:1", "start": 0, "end": 3}, {"id": "question", "start": 5, "end": 8}],
    }


def test_documents_can_be_added_and_left_empty(told: Browser) -> None:
    told.click("#add-document")
    assert told.run("return document.querySelectorAll('.parts textarea').length") == 5
    assert told.run("return document.activeElement.closest('label').textContent") == "Document 3"
    options = told.run(
        "return [...document.querySelectorAll('.setting select')[1].options].map(o => o.value)"
    )
    assert options == ["doc:1", "doc:2", "question"]


def test_an_answer_can_be_held_to_quotes_which_are_told(told: Browser) -> None:
    assert not any("Quoted" in said for said in told.texts(".told .citation")), "the control: it is free"
    told.run("document.querySelectorAll('.setting input[type=checkbox]')[0].click()")
    told.click("#inspect-form .main-button")
    told.wait(lambda: "Quoted" in next(iter(told.texts(".told .citation")), ""), 30)
    said = told.texts(".told .citation")[0]
    place = re.match(r"Quoted, as a constraint demanded: document ([12]), characters (\d+)–(\d+)", said)
    assert place is not None, said
    areas = told.run(
        "return [...document.querySelectorAll('.parts textarea')].map(area => area.value + '\\n')"
    )
    assert isinstance(areas, list)
    answer = str(told.run("return document.querySelector('.tokens').textContent"))
    quoted = areas[int(place[1])][int(place[2]) : int(place[3])]
    assert quoted
    assert answer.startswith(quoted)


def test_an_answer_leads_to_its_trace(told: Browser) -> None:
    assert told.texts(".told .to-trace") == ["Open its trace"] * 2
    told.click(".told .to-trace")
    told.wait(lambda: told.is_shown(".trace .heat"))
    assert re.match(r"tokens 0–11 of 12", told.texts(".ribbon-place")[0])
    told.back()
    told.wait(lambda: told.is_shown(".told"))
    assert len(told.texts(".told")) == 2
