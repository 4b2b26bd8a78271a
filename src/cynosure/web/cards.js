// Draw quotes as cards. Knows nothing of the server; puts data on the page as text only, never as HTML.

// Fainter words are left plain, so that the page stays calm.
const FAINTEST = 0.2;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function marked(text, span) {
  const mark = element("mark", "", text);
  mark.style.setProperty("--weight", span.weight.toFixed(3));
  mark.title = `attended to: ${Math.round(100 * span.weight)}% of what the most attended word got`;
  return mark;
}

/** The quote's text, its attended words marked. Offsets count code points, JavaScript's own do not. */
export function highlighted(text, spans) {
  const points = Array.from(text);
  const parts = document.createDocumentFragment();
  let position = 0;
  for (const span of spans.filter((span) => span.weight >= FAINTEST)) {
    parts.append(points.slice(position, span.start).join(""));
    parts.append(marked(points.slice(span.start, span.end).join(""), span));
    position = span.end;
  }
  parts.append(points.slice(position).join(""));
  return parts;
}

/** Where the quote stands, in words. */
export function citation(quote) {
  return `${quote.object}, characters ${quote.start}–${quote.end} of its docstring`;
}

export function card(quote) {
  const item = element("li");
  const article = element("article", "card");
  const head = element("div", "card-head");
  const score = element("span", "score", `score ${quote.score.toFixed(2)}`);
  head.append(element("h3", "object", quote.object), element("span", "kind", quote.kind), score);
  const said = element("blockquote", "quote");
  said.append(highlighted(quote.text, quote.attended));
  article.append(head);
  if (quote.signature) article.append(element("code", "signature", quote.signature));
  article.append(said, element("p", "citation", citation(quote)));
  item.append(article);
  return item;
}
