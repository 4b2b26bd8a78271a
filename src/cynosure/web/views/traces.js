// Show what answers attended to: all of them, one of them, or two side by side. Knows nothing of how it is drawn.

import { ApiError, drift, KeyNeeded, metrics, trace, traces } from "../api.js";
import { whenKnown } from "../catalog.js";
import { element } from "../element.js";
import { Outcome } from "../outcome.js";
import { address, go } from "../router.js";
import { comparison } from "../traces/comparison.js";
import { driftBoard } from "../traces/drift_board.js";
import { Fleet } from "../traces/fleet.js";
import { samplesOf } from "../traces/meters.js";
import { RequestTable } from "../traces/request_table.js";
import { TraceView } from "../traces/trace_view.js";

const COUNT = 500;
const AGAIN_MS = 5000;
const view = document.getElementById("view-traces");
const at = (selector) => view.querySelector(selector);
const outcome = new Outcome(view);
const fleet = new Fleet();
const table = new RequestTable(([a, b]) => {
  go("traces", { id: a.id, answer: a.index || "", with: b.id, with_answer: b.index || "" });
});
const [left, right] = [new TraceView(keepToken), new TraceView()];
let [place, shown, again, driftTold] = [{}, "", 0, ""];

at(".overview").append(fleet.root, table.root);
at("#trace-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = at("#trace-id").value.trim();
  go("traces", { id });
});

/** The chosen token is in the address, without a step of its own behind "back". */
function keepToken(token) {
  if (place.with) return;
  place = { ...place, token: token < 0 ? "" : String(token) };
  history.replaceState(history.state, "", `${location.pathname}${address("traces", place)}`);
}

/** What an operator may ask for; who may not is told so in words. */
async function unlessRefused(ask) {
  try {
    return [await ask, ""];
  } catch (failure) {
    if (!(failure instanceof ApiError) || failure instanceof KeyNeeded) throw failure;
    return [null, failure.message];
  }
}

/** The board is drawn anew only where it says something new. */
function showDrift(board, why) {
  const told = JSON.stringify([board, why]);
  if (told === driftTold) return;
  driftTold = told;
  at(".drift")?.remove();
  at(".overview").append(driftBoard(board, why));
}

async function overview(signal) {
  const list = await traces(COUNT, signal);
  fleet.showRows(list.data);
  table.show(list.data);
  const [[text, noMetrics], [board, noDrift]] = await Promise.all([
    unlessRefused(metrics(signal)),
    unlessRefused(drift(signal)),
  ]);
  fleet.showSamples(text === null ? null : samplesOf(text), noMetrics);
  showDrift(board, noDrift);
  const more = list.has_more ? `, the newest of more` : "";
  const none = 'No answer is kept yet. Ask one with "attention": {"level": "summary"}, as Inspect does, or start the server with --traces FOLDER.';
  outcome.say(list.data.length ? `${list.data.length} answers${more}` : none);
}

async function answerOf(id, index, signal) {
  const found = await trace(id, signal);
  const answer = found.answers.find((one) => one.index === Number(index || 0));
  if (!answer) throw new ApiError(`Request ${id} has no answer ${index}. Choose one of ${found.answers.map((one) => one.index).join(", ")}.`);
  return answer;
}

async function one({ id, answer, token }, signal) {
  left.name = "";
  left.show(await answerOf(id, answer, signal), token === undefined || token === "" ? -1 : Number(token));
  at(".one").replaceChildren(left.root);
  outcome.say("Choose a token, in the text or in the ribbon; the arrows go on.");
}

async function two(values, signal) {
  const both = await Promise.all([
    answerOf(values.id, values.answer, signal),
    answerOf(values.with, values.with_answer, signal),
  ]);
  [left, right].forEach((side, number) => {
    side.name = "AB"[number];
    side.show(both[number]);
  });
  const sides = element("div", "sides");
  sides.append(left.root, right.root);
  const scroller = element("div", "scroller");
  scroller.append(comparison([left.model, right.model]));
  at(".one").replaceChildren(scroller, sides);
  outcome.say("Two answers: A left, B right.");
}

/** The overview stays current while it is seen. */
function soon() {
  clearTimeout(again);
  again = setTimeout(async () => {
    const isSeen = view.checkVisibility() && !document.hidden && !place.id;
    // Quietly, unless there is something to tell: what was under way is not stopped for it.
    if (isSeen && !outcome.isBusy) await overview().catch(() => outcome.during(overview));
    if (!place.id && !outcome.hasFailed) soon();
  }, AGAIN_MS);
}

export const title = ({ id }) => (id ? `Trace ${id}` : "Traces");
export const focus = () => at("#trace-id").focus({ preventScroll: true });

export async function follow(values) {
  clearTimeout(again);
  place = values;
  at("#trace-id").value = values.id ?? "";
  at(".overview").hidden = Boolean(values.id);
  at(".one").hidden = !values.id;
  at(".back").hidden = !values.id;
  const key = JSON.stringify([values.id, values.answer, values.with, values.with_answer]);
  if (values.id && key === shown) return;
  shown = "";
  at(".one").replaceChildren();
  outcome.say("Reading…");
  const isDone = await outcome.during(async (signal) => {
    await whenKnown();
    await (values.with ? two : values.id ? one : overview)(values.id ? values : signal, signal);
  });
  if (!isDone) return;
  shown = values.id ? key : "";
  if (!values.id) soon();
}
