"""Time how the page draws traces, in the page itself. Asserts nothing."""

from __future__ import annotations

from dataclasses import dataclass

from tests.browser.webdriver import Browser

#: Draw 100,000 tokens and go along them by a tenth of the view each frame, as a reader does who scrolls.
SCROLL = """
const {TraceModel} = await import('/static/traces/model.js');
const {Ribbon} = await import('/static/traces/ribbon.js');
const [rows, parts] = [100000, 16];
const share = (at, seed) => ((at * seed * 7919) % 997) / 997 / (parts + 3);
const column = seed => Float32Array.from({length: rows}, (_, at) => share(at, seed));
const told = {mass: Array.from({length: parts}, (_, at) => column(at + 1)),
  generated_mass: column(17), template_mass: column(18), sink_mass: column(19)};
const answer = {tokens: {completion: rows}, watched: Array.from({length: rows}, (_, at) => at),
  segments: Array.from({length: parts}, (_, at) => ({id: `document:${at}`, role: 'document', num_tokens: 9})),
  groups: {all: told}};
const host = document.body.appendChild(document.createElement('div'));
host.style.width = '1000px';
const ribbon = new Ribbon(() => {});
host.append(ribbon.root);
const begun = performance.now();
ribbon.show(new TraceModel(answer), 'all');
const first = performance.now() - begun;
ribbon.see(0, 5000);
const draws = [], frames = [];
let before = await new Promise(requestAnimationFrame);
for (let at = 0; at < 120; at += 1) {
  ribbon.see(ribbon.start + 500, ribbon.end + 500);
  const start = performance.now();
  ribbon.draw();
  draws.push(performance.now() - start);
  const now = await new Promise(requestAnimationFrame);
  frames.push(now - before);
  before = now;
}
const isMoved = ribbon.start === 60000 && ribbon.end === 65000;
const nodes = host.querySelectorAll('*').length;
host.remove();
const sorted = list => list.sort((a, b) => a - b);
return [first, isMoved, nodes, sorted(draws)[60], sorted(draws)[119], sorted(frames)[60]];
"""
#: Draw the trace of an answer anew, several times, each with the layout that follows.
DRAW = """
const {TraceView} = await import('/static/traces/trace_view.js');
const answer = (await (await fetch(`/v1/traces/${arguments[0]}`)).json()).answers[0];
const times = [];
let nodes = 0;
for (let turn = 0; turn < 15; turn += 1) {
  const host = document.querySelector('main').appendChild(document.createElement('div'));
  const begun = performance.now();
  const drawn = new TraceView();
  host.append(drawn.root);
  drawn.show(answer);
  host.getBoundingClientRect();
  times.push(performance.now() - begun);
  nodes = host.querySelectorAll('*').length;
  host.remove();
}
return [answer.tokens.completion, times.sort((a, b) => a - b)[7], times[14], nodes];
"""


@dataclass(frozen=True)
class Drawn:
    """A trace that was drawn whole, with text, ribbon, parts and heads: milliseconds, and nodes."""

    num_tokens: int
    draw_ms: float
    worst_ms: float
    num_nodes: int


@dataclass(frozen=True)
class Scrolled:
    """A ribbon of 100,000 tokens and 19 rows: the first draw, then 120 steps along it.

    `draw_ms` is what a step takes to draw, `frame_ms` from one frame to the next; both are medians.
    """

    first_ms: float
    is_at_the_end: bool
    num_nodes: int
    draw_ms: float
    worst_draw_ms: float
    frame_ms: float


def draw_trace(browser: Browser, request_id: str) -> Drawn:
    """Draw an answer, in a page that is open on the server that keeps its trace."""
    told = browser.run(DRAW, request_id)
    assert isinstance(told, list)
    return Drawn(*told)


def scroll_ribbon(browser: Browser) -> Scrolled:
    """Go along a long ribbon, in a page of any server."""
    told = browser.run(SCROLL)
    assert isinstance(told, list)
    return Scrolled(*told)
