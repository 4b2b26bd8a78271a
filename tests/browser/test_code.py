"""Completion in real Chromium: grey text at the cursor that is taken, left or overtaken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.browser.served_page import WRITTEN, Coder, coder
from tests.browser.webdriver import CONTROL, ESCAPE, LEFT, SHIFT, TAB, Browser
from tests.server.fakes import services, serving

pytestmark = pytest.mark.browser

BEFORE = "    return"


@pytest.fixture
def made(tmp_path: Path) -> Coder:
    return coder(tmp_path / "coder")


@pytest.fixture
def pane(browser: Browser, made: Coder) -> Iterator[Browser]:
    """The view, over a model that is this test's own."""
    served = replace(services(), completers={made.name: made})
    with serving(lambda _: served) as address:
        browser.open(f"{address}/#code")
        browser.wait(lambda: not browser.run("return document.getElementById('complete').disabled"))
        browser.wait(lambda: browser.run("return document.activeElement.id") == "text")
        yield browser


def ghost(browser: Browser) -> str:
    return str(browser.run("return document.querySelector('#mirror .ghost')?.textContent ?? ''"))


def text(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('text').value"))


def test_tab_asks_and_accepts_and_undo_takes_it_back(pane: Browser, made: Coder) -> None:
    whole = text(pane)
    pane.press(TAB)
    pane.wait(lambda: ghost(pane) == WRITTEN)
    assert text(pane) == whole, "a suggestion is not part of the text"
    assert (
        pane.run("return document.getElementById('mirror').textContent")
        == whole.replace(BEFORE, BEFORE + WRITTEN) + "\n"
    )
    pane.wait(lambda: "Suggested in" in pane.texts("#view-code .status")[0])
    pane.press(TAB)
    assert text(pane) == whole.replace(BEFORE, BEFORE + WRITTEN)
    assert ghost(pane) == ""
    pane.press(CONTROL, "z")
    assert text(pane) == whole
    read = made.tokenizer.decode(made.prompts[0], skip_special_tokens=False)
    before, after = whole.split(BEFORE)
    assert read == f"<|fim_prefix|>{before}{BEFORE}<|fim_suffix|>{after}<|fim_middle|>"
    assert made.sampled[0].temperature == 0


def test_escape_dismisses_and_the_same_key_lets_tab_leave(pane: Browser) -> None:
    whole = text(pane)
    pane.press(CONTROL, " ")
    pane.wait(lambda: ghost(pane) == WRITTEN)
    pane.press(ESCAPE)
    assert ghost(pane) == ""
    assert text(pane) == whole
    pane.press(ESCAPE)
    pane.press(TAB)
    assert pane.run("return document.activeElement.id") != "text"
    assert ghost(pane) == ""
    pane.press(SHIFT, TAB)
    assert pane.run("return document.activeElement.id") == "text"


def test_moving_or_typing_drops_what_was_suggested_for_another_place(pane: Browser, made: Coder) -> None:
    pane.press(TAB)
    pane.wait(lambda: ghost(pane) == WRITTEN)
    pane.press(LEFT)
    pane.wait(lambda: ghost(pane) == "")
    made.pause_s = 0.1
    pane.press(CONTROL, " ")
    pane.wait(lambda: ghost(pane) != "")
    pane.press("x")
    num_given = made.num_given
    assert ghost(pane) == ""
    assert "    returxn\n" in text(pane)
    pane.run("return new Promise(done => setTimeout(done, 500))")
    assert ghost(pane) == ""
    assert made.num_given <= num_given + 2, "the model went on though nobody reads"


def test_a_block_ends_with_its_indentation(pane: Browser) -> None:
    pane.run("document.querySelector('input[value=block]').click()")
    pane.click("#complete")
    pane.wait(lambda: ghost(pane) == f"{WRITTEN}\n    # sorted")
    assert pane.run("return document.activeElement.id") == "text"


def test_a_long_file_is_read_around_the_cursor_and_that_is_said(pane: Browser, made: Coder) -> None:
    pane.run(
        "const t = document.getElementById('text'); t.value = 'x = 1\\n'.repeat(9000);"
        "t.setSelectionRange(30000, 30000)"
    )
    pane.press(CONTROL, " ")
    pane.wait(lambda: "Read: " in pane.texts("#view-code .status")[0], 30)
    assert "of 54000 characters" in pane.texts("#view-code .status")[0]
    assert ghost(pane) == WRITTEN
    assert 500 < len(made.prompts[-1]) < 4000
    pane.log()  # Chromium notes each refusal of a prompt that was too long


def test_a_demonstration_is_called_one(browser: Browser, url: str) -> None:
    browser.open(f"{url}/#code")
    browser.wait(lambda: "tiny (demonstration)" in browser.texts("#view-code .models option"))
    assert not browser.is_shown("#view-code .standing")
    browser.run("const m = document.querySelector('#view-code .models'); m.value = 'tiny';"
                "m.dispatchEvent(new Event('change', {bubbles: true}))")  # fmt: skip
    assert browser.texts("#view-code .standing")[0].startswith("Demonstration: tiny")
