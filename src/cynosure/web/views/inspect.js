// Have two answers written side by side, and show what each token attended to. Knows nothing of how it is drawn.

import { ApiError, stream } from "../api.js";
import { model, onKnown, whenKnown } from "../catalog.js";
import { element } from "../element.js";
import { Outcome } from "../outcome.js";
import { pieceOf, request } from "../prompt_parts.js";
import { address } from "../router.js";
import { Setting } from "../settings.js";
import { ToldAnswer } from "../told_answer.js";

const MAX_DOCUMENTS = 8;
const view = document.getElementById("view-inspect");
const at = (selector) => view.querySelector(selector);
const outcome = new Outcome(view);
const fields = [];
const settings = [
  new Setting("A", { temperature: "0", part: "doc:1", treatment: "" }),
  new Setting("B", { temperature: "0", part: "doc:1", treatment: "deny" }),
];

function addField(id, label, text, rows = 2) {
  const area = element("textarea");
  Object.assign(area, { value: text, rows, spellcheck: false });
  const field = element("label", "part", label);
  field.append(area);
  const before = id.startsWith("doc:") ? fields.at(-1)?.field : null;
  if (before) before.before(field);
  else at("#parts").append(field);
  fields.splice(before ? fields.length - 1 : fields.length, 0, { id, label, area, field });
}

addField("instructions", "Instructions", "");
addField("question", "Question", "What does merge do?");
addField("doc:1", "Document 1", "[1] merge: Merge multiple sorted inputs into a single sorted output.");
addField("doc:2", "Document 2", "[2] dedent: Remove any common leading whitespace from every line in text.");
fields[0].area.placeholder = "none";

/** The parts that are not empty; each keeps its colour, as long as it is there. */
function parts() {
  const filled = fields.filter((one) => one.area.value.trim());
  return filled.map(({ id, label, area }) => {
    return { id, label: label.toLowerCase(), text: area.value, isInstruction: id === "instructions" };
  });
}

/** Who writes an answer is always said. */
function authorOf(chosen, isQuoted) {
  const author = isQuoted ? `quotes that the model ${chosen.id} chose` : `written by the model ${chosen.id}`;
  return chosen.demonstration ? `${author}, a demonstration: it shows what is told, and is of no other use` : author;
}

function offer() {
  for (const setting of settings) setting.offer(parts());
}

async function answer(setting, shown, signal) {
  const values = setting.values;
  const chosen = model(values.model);
  if (!chosen) {
    throw new ApiError("No model is served that tells what it attended to. Start a decoder: cynosure serve MODEL.");
  }
  const { path, body } = request(chosen, parts(), values, Number(at("#max-tokens").value));
  const told = new ToldAnswer(setting.name, parts(), authorOf(chosen, values.quotes));
  shown.append(told.root);
  let id = "";
  for await (const event of stream(path, body, signal, (one) => (id = one))) told.add(pieceOf(event));
  told.link(address("traces", { id }));
}

async function compare() {
  at("#stop").hidden = false;
  outcome.say("Writing…");
  const isDone = await outcome.during(async (signal) => {
    await whenKnown();
    const shown = at(".answers");
    shown.replaceChildren();
    shown.hidden = false;
    // One after the other: on a machine of one model they would share its time anyway, and A stays left.
    for (const setting of settings) await answer(setting, shown, signal);
  });
  at("#stop").hidden = true;
  if (isDone) outcome.say("Both answers are there. Point at a token, or go to one by Tab and the arrows.");
}

at("#inspect-form").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});
at("#inspect-form").addEventListener("change", offer);
at("#stop").addEventListener("click", () => {
  outcome.stop();
  at("#stop").hidden = true;
  outcome.say("Stopped.");
});
at("#add-document").addEventListener("click", () => {
  const number = fields.filter((one) => one.id.startsWith("doc:")).length + 1;
  addField(`doc:${number}`, `Document ${number}`, "");
  at("#add-document").disabled = number >= MAX_DOCUMENTS;
  fields.at(-2).area.focus();
});
at(".settings").append(...settings.map((one) => one.root));
onKnown(offer);

export const title = () => "Compare and inspect";
export const focus = () => fields.at(-1).area.focus();

export async function follow() {
  await outcome.during(whenKnown);
}
