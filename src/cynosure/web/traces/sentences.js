// List the sentences of an answer: what each cites, and its grounding risk. Knows nothing of the server.

import { element } from "../element.js";
import { percent } from "./model.js";
import { riskWords } from "./told_text.js";

const MAX_SHOWN = 60;
const MAX_QUOTE = 240;

function quote(model, citation, number) {
  const column = model.columns[citation.segment];
  const item = element("li", "cite-row");
  item.dataset.part = column.hue;
  const text = column.text ? `“${column.text.trim().slice(0, MAX_QUOTE)}${column.text.length > MAX_QUOTE ? "…" : ""}”` : "";
  item.append(
    element("span", "cited", `[${number}]`),
    element("span", "name", `${column.label}, score ${percent(citation.score)}`),
  );
  if (text) item.append(element("q", "cite-text", text.slice(1, -1)));
  return item;
}

function row(model, sentence) {
  const item = element("li");
  const risk = element("span", "risk", riskWords(sentence));
  risk.dataset.risk = sentence.risk === null ? "unknown" : sentence.risk < 0.2 ? "low" : sentence.risk < 0.5 ? "some" : "high";
  const head = element("p", "");
  head.append(element("span", "said", model.said(sentence)), risk);
  item.append(head);
  if (sentence.reason) item.append(element("p", "citation", sentence.reason));
  const own = model.citations.flatMap((one, at) => (one.start === sentence.start ? [quote(model, one, at + 1)] : []));
  if (own.length) {
    const list = element("ul", "cites");
    list.append(...own);
    item.append(list);
  } else item.append(element("p", "citation", "cites nothing"));
  return item;
}

/** What is told of sentences; where nothing is, why. */
export function sentencesList(model) {
  const root = element("section", "panel");
  root.append(element("h3", "", "Sentences: what they cite, and their risk"));
  if (!model.sentences.length) {
    const why = ["L0", "L1"].includes(model.answer.level)
      ? `A trace of level ${model.answer.level} holds no sentences.`
      : "The model's head profile was fitted neither for citations nor for risk.";
    root.append(element("p", "citation", why));
    return root;
  }
  const list = element("ol", "sentences");
  list.append(...model.sentences.slice(0, MAX_SHOWN).map((one) => row(model, one)));
  root.append(list);
  const rest = model.sentences.length - MAX_SHOWN;
  if (rest > 0) root.append(element("p", "citation", `${rest} more sentences are in the API's answer.`));
  root.append(
    element("p", "citation", "Risk is the chance that documents did not tell a sentence, from attention alone; it is no score of truth."),
  );
  return root;
}
