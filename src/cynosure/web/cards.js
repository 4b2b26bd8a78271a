// Draw quotes as cards. Knows nothing of the server.

import { element } from "./element.js";
import { highlighted } from "./marks.js";

/** Where a quote stands, in words. */
export function citation({ object, source, file, start, end }) {
  if (start === undefined) return file;
  const place = `characters ${start}–${end}`;
  if (source === "file") return `${file}, ${place}`;
  const text = source === "reference" ? "of what the reference says of it" : "of its docstring";
  return `${object}, ${place} ${text}`;
}

/** A quote, and a link to its source. */
export function card(quote, link) {
  const item = element("li");
  const article = element("article", "card");
  const head = element("div", "card-head");
  head.append(element("h3", "object", quote.object));
  if (quote.kind) head.append(element("span", "kind", quote.kind));
  head.append(scores(quote));
  const said = element("blockquote", "quote");
  said.append(highlighted(quote.text, quote.attended, quote.highlight));
  article.append(head);
  if (quote.signature) article.append(element("code", "signature", quote.signature));
  const foot = element("p", "citation");
  const cite = element("a", "cite", citation(quote));
  cite.href = link;
  foot.append(cite, element("span", "author", `quoted by the ${quote.author}`));
  article.append(said, foot);
  item.append(article);
  return item;
}

function scores({ score, similarity }) {
  const said = element("span", "score", `score ${score.toFixed(2)}`);
  const meter = element("span", "meter");
  meter.style.setProperty("--share", Math.max(0, Math.min(1, score)).toFixed(3));
  meter.setAttribute("aria-hidden", "true");
  if (similarity !== undefined) said.title = `similarity of meaning: ${similarity.toFixed(2)}`;
  said.prepend(meter);
  return said;
}
