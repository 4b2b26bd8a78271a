// Show how far what is attended to has moved from a frozen reference. Asks no server itself.

import { element } from "../element.js";
import { Line } from "./charts.js";

const STATES = {
  collecting: "no reference yet",
  watching: "as the reference",
  alarm: "has shifted",
};
const TITLES = ["Feature", "Reference", "Now", "PSI", "Wasserstein", "Toward an alarm", "Last windows"];
const number = (value) => (value === null ? "–" : value.toFixed(3));

function featureRow(feature) {
  const row = element("tr", feature.is_alarm ? "alarm" : "");
  const name = element("th", "", feature.title);
  name.scope = "row";
  const near = Math.max(feature.chart.up, feature.chart.down) / feature.chart.limit;
  const chart = element("td");
  const meter = element("span", "meter");
  meter.style.setProperty("--share", Math.min(1, near).toFixed(3));
  meter.setAttribute("aria-hidden", "true");
  chart.append(meter, element("span", "share", `${Math.round(100 * near)}%`));
  const history = element("td");
  const line = new Line(26, `${feature.title}, the means of the last windows`);
  line.show(feature.history.map((one) => [one]));
  history.append(line.canvas);
  const numbers = [feature.reference.p50, feature.window.p50, feature.psi, feature.wasserstein];
  row.append(name, ...numbers.map((value) => element("td", "number", number(value))), chart, history);
  return row;
}

function modelBoard(model, board) {
  const root = element("article", "drift-model");
  const head = element("h3", "", `${model.model}: ${STATES[model.state]}`);
  head.dataset.state = model.state;
  const about = model.reference
    ? `${model.num_answers} answers since the reference of ${model.reference.num_answers}, made ${new Date(1000 * model.reference.made).toLocaleString()}; at most ${model.reference.false_alarms} false alarms in 10,000 answers.`
    : `${model.num_answers} answers; a reference needs ${board.min_reference}. Make it: cynosure drift freeze ${model.model}`;
  root.append(head, element("p", "citation", about));
  for (const alarm of [model.alarm, ...model.past_alarms].filter(Boolean)) {
    const ended = alarm.ended ? `, until ${new Date(1000 * alarm.ended).toLocaleString()}` : "";
    const since = `Since ${new Date(1000 * alarm.since).toLocaleString()}${ended}, answer ${alarm.at_answer}: ${alarm.message}`;
    root.append(element("p", alarm.ended ? "citation" : "alarm-text", since));
  }
  if (model.reference && model.features.length) {
    const table = element("table", "drift-table");
    const titles = table.createTHead().insertRow();
    titles.append(...TITLES.map((title) => element("th", "", title)));
    table.createTBody().append(...model.features.map(featureRow));
    const scroller = element("div", "scroller");
    scroller.append(table);
    root.append(scroller);
  }
  const moved = model.sentinels.filter((one) => one.state !== "same");
  if (model.sentinels.length) {
    const said = `${model.sentinels.length} frozen prompts are answered again and again: ${moved.length} have moved.`;
    root.append(element("p", "citation", said));
  }
  return root;
}

/** The board of `/v1/drift`, or why there is none. */
export function driftBoard(board, why) {
  const root = element("section", "drift");
  root.append(element("h2", "", "Drift"));
  if (!board) root.append(element("p", "citation", why));
  else if (!board.models.length) root.append(element("p", "citation", "No answer was watched yet."));
  else root.append(...board.models.map((model) => modelBoard(model, board)));
  return root;
}
