// Search a store, and show passages with their scores. Knows nothing of how they are drawn.

import { ask, search } from "../api.js";
import { choice } from "../element.js";
import { firstStore, whenKnown } from "../catalog.js";
import { Outcome } from "../outcome.js";
import { Quotes } from "../quotes.js";
import { go } from "../router.js";

const COUNT = 20;
const view = document.getElementById("view-search");
const [form, query, stores, kinds] = ["form", "#query", ".stores", "#kinds"].map((one) => view.querySelector(one));
const outcome = new Outcome(view);
const quotes = new Quotes("search", view, outcome);

let [shown, passages, store, asked] = [null, [], "", {}];

/** A result of a vector store as a quote; what was attended to is not part of it. */
function quoteOf({ file_id: fileId, filename, score, attributes, content }) {
  const text = content.map((part) => part.text).join("\n");
  const found = { text, score, attended: [], author: "retriever" };
  // The attributes of an uploaded file are its owner's own words, and the place is looked for when it is opened.
  if (!fileId.startsWith(`${store}:`)) return { ...found, object: filename, file: filename, source: "file", fileId };
  const { object, kind, signature, start, end, source, similarity } = attributes;
  return { ...found, object, kind, signature, start, end, source, similarity, file: source === "file" ? filename : "" };
}

/** The same passages, with the words that `/v1/ask` says were attended to: places count in the source. */
function withWords(found, told) {
  return found.map((quote) => {
    const same = told.find((one) => ["object", "file", "source"].every((name) => one[name] === quote[name]));
    if (!same) return quote;
    const by = same.start - quote.start;
    const attended = same.attended.map((at) => ({ ...at, start: at.start + by, end: at.end + by }));
    return { ...quote, attended: attended.filter((at) => at.start >= 0 && at.end <= quote.end - quote.start) };
  });
}

function show() {
  const kept = kinds.value ? passages.filter((quote) => quote.kind === kinds.value) : passages;
  quotes.show(kept, store, asked);
  const count = `${kept.length} ${kept.length === 1 ? "passage" : "passages"}`;
  outcome.say(kept.length < passages.length ? `${count} of ${passages.length}` : count);
}

function offerKinds(chosen = "") {
  const found = [...new Set(passages.map((quote) => quote.kind))].filter(Boolean).sort();
  kinds.replaceChildren(choice("", "all"), ...found.map((kind) => choice(kind, kind)));
  kinds.value = found.includes(chosen) ? chosen : "";
}

async function searchFor(values) {
  [shown, passages, asked] = [null, [], values];
  outcome.say("Looking…");
  const isDone = await outcome.during(async (signal) => {
    await whenKnown();
    store = values.store || firstStore();
    passages = (await search(store, values.q, COUNT, signal)).data.map(quoteOf);
    shown = keyOf(values);
    offerKinds(values.kind);
    show();
    if (passages.some((quote) => quote.fileId)) return;
    const answer = await ask({ question: values.q, store, max_results: COUNT }, signal);
    passages = withWords(passages, answer.quotes);
    show();
  });
  if (outcome.hasFailed && !passages.length) quotes.hide();
  return isDone;
}

const keyOf = ({ q, store: named = "" }) => JSON.stringify([q, named]);

function submit() {
  const named = stores.value === firstStore() ? "" : stores.value;
  if (query.value.trim()) go("search", { q: query.value.trim(), store: named, kind: kinds.value });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
stores.addEventListener("change", submit);
kinds.addEventListener("change", submit);

export const title = ({ q }) => (q ? `Search: ${q}` : "Search");
export const focus = () => query.focus();

export async function follow({ source, ...values }) {
  query.value = values.q ?? "";
  stores.dataset.wanted = values.store ?? "";
  stores.value = values.store || firstStore();
  if (!values.q) {
    outcome.say("");
    shown = null;
    quotes.hide();
    return void outcome.during(whenKnown);
  }
  if (shown === keyOf(values)) {
    asked = values;
    offerKinds(values.kind);
    show();
  } else if (!(await searchFor(values))) return undefined;
  return quotes.follow(source);
}
