// Mark places in a text. Offsets count code points, JavaScript's own do not; data stays text, never HTML.

import { element } from "./element.js";

// Fainter words are left plain, so that the page stays calm.
const FAINTEST = 0.2;

function marked(text, span) {
  const mark = element("mark", "", text);
  mark.style.setProperty("--weight", span.weight.toFixed(3));
  mark.title = `attended to: ${Math.round(100 * span.weight)}% of what the most attended word got`;
  return mark;
}

/** The points from `start` to `end`, with marks for the spans that lie there. */
function stretch(points, spans, start, end) {
  const parts = document.createDocumentFragment();
  let position = start;
  for (const span of spans) {
    const [from, to] = [Math.max(span.start, position), Math.min(span.end, end)];
    if (from >= to) continue;
    parts.append(points.slice(position, from).join(""), marked(points.slice(from, to).join(""), span));
    position = to;
  }
  parts.append(points.slice(position, end).join(""));
  return parts;
}

/** A text with its attended words marked, and the stretch that answers, if any, set off. */
export function highlighted(text, spans, answering) {
  const points = Array.from(text);
  const strong = spans.filter((span) => span.weight >= FAINTEST);
  if (!answering || answering.end - answering.start >= points.length) {
    return stretch(points, strong, 0, points.length);
  }
  const whole = document.createDocumentFragment();
  const said = element("strong", "answering");
  said.append(stretch(points, strong, answering.start, answering.end));
  whole.append(stretch(points, strong, 0, answering.start), said);
  whole.append(stretch(points, strong, answering.end, points.length));
  return whole;
}

/** A text in three: before `start`, a mark, behind `end`. */
export function quoted(text, start, end) {
  const points = Array.from(text);
  const mark = element("mark", "quoted", points.slice(start, end).join(""));
  return [points.slice(0, start).join(""), mark, points.slice(end).join("")];
}
