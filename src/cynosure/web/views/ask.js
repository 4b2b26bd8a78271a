// Ask a question, and show quotes or that the documents do not say. Knows nothing of how either is drawn.

import { ask } from "../api.js";
import { firstStore, onKnown, whenKnown } from "../catalog.js";
import { Outcome } from "../outcome.js";
import { Quotes } from "../quotes.js";
import { go } from "../router.js";

const view = document.getElementById("view-ask");
const [form, question, stores, nothing] = ["form", "#question", ".stores", ".nothing"].map((one) =>
  view.querySelector(one),
);
const outcome = new Outcome(view);
const quotes = new Quotes("ask", view, outcome);

let shown = null;

function show(answer, values) {
  quotes.show(answer.quotes, answer.store, values);
  nothing.hidden = answer.answered;
  nothing.querySelector(".reason").textContent = answer.reason;
  const count = answer.quotes.length;
  const took = (answer.timings_ms.total / 1000).toFixed(2);
  const what = answer.answered ? `${count} ${count === 1 ? "quote" : "quotes"}` : "No quote";
  outcome.say(`${what} in ${took} s`);
}

async function answerTo(values) {
  shown = null;
  outcome.say("Looking…");
  const isDone = await outcome.during(async (signal) => {
    await whenKnown();
    const store = values.store || firstStore();
    show(await ask({ question: values.q, ...(store && { store }) }, signal), values);
  });
  if (isDone) shown = JSON.stringify(values);
  else hide();
  return isDone;
}

function hide() {
  quotes.hide();
  nothing.hidden = true;
}

function submit(text) {
  const store = stores.value === firstStore() ? "" : stores.value;
  go("ask", { q: text, store });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (question.value.trim()) submit(question.value.trim());
});
view.querySelector(".examples").addEventListener("click", (event) => {
  if (event.target instanceof HTMLButtonElement) submit(event.target.textContent);
});

// A choice of one is none.
onKnown(() => {
  stores.closest("p").hidden = stores.options.length < 2;
});

export const title = ({ q }) => q || "Ask";
export const focus = () => question.focus();

export async function follow({ source, ...values }) {
  question.value = values.q ?? "";
  stores.dataset.wanted = values.store ?? "";
  if (values.store) stores.value = values.store;
  if (!values.q) {
    outcome.say("");
    shown = null;
    hide();
    return void outcome.during(whenKnown);
  }
  if (shown === JSON.stringify(values) || (await answerTo(values))) await quotes.follow(source);
}
