// List how much each part got, as bars with numbers, and what the most attended one says. Asks no server.

import { element } from "../element.js";
import { amount, groupLabel } from "./model.js";

const MAX_ROWS = 14;
const MAX_QUOTE = 600;

/** Bars of one token, or of a whole answer; the rows keep their places, so that nothing jumps. */
export class SharesList {
  constructor() {
    this.root = element("section", "panel shares-list");
    this.about = element("p", "about", "");
    this.about.setAttribute("role", "status");
    this.rows = element("ul", "shares");
    this.quote = element("blockquote", "quote");
    this.root.append(this.about, this.rows, this.quote);
  }

  show(model, group, row) {
    const values = row < 0 ? model.mean(group) : model.row(group, row);
    const best = values.slice(0, model.numParts + 1).reduce((top, one, at, all) => (one > all[top] ? at : top), 0);
    const most = model.columns[best].label;
    const said = row < 0 ? "" : model.text(model.watched[row]).trim() || "a blank";
    this.about.textContent = row < 0
      ? `On average over ${groupLabel(group)}, its tokens attended to`
      : `Token ${model.watched[row]}, “${said}”, attended to ${most} most`;
    const order = this.#kept(model, group);
    const full = group === "all" ? 1 : Math.max(1e-9, ...values.map(Math.abs));
    this.rows.replaceChildren(...order.map((at) => this.#row(model.columns[at], values[at], full, group, at === best)));
    const rest = model.columns.length - order.length;
    if (rest) {
      const left = values.reduce((sum, one, at) => (order.includes(at) ? sum : sum + one), 0);
      this.rows.append(this.#row({ label: `${rest} more parts`, hue: "none" }, left, full, group, false));
    }
    const { text } = model.columns[best];
    this.quote.classList.toggle("none", !text);
    this.quote.textContent = text && text.length > MAX_QUOTE ? `${text.slice(0, MAX_QUOTE)}…` : (text ?? "");
    this.quote.dataset.part = model.columns[best].hue;
  }

  /** The parts that got most of the whole answer, in the order of the prompt: the same for each token. */
  #kept(model, group) {
    const all = model.columns.map((_, at) => at);
    if (all.length <= MAX_ROWS) return all;
    const mean = model.mean(group);
    return all.sort((a, b) => mean[b] - mean[a]).slice(0, MAX_ROWS - 1).sort((a, b) => a - b);
  }

  #row(column, value, full, group, isMost) {
    const row = element("li", isMost ? "most" : "");
    row.dataset.part = column.hue;
    row.dataset.stroke = column.stroke ?? "none";
    const bar = element("span", "meter");
    bar.style.setProperty("--share", Math.max(0, Math.min(1, value / full)).toFixed(3));
    bar.setAttribute("aria-hidden", "true");
    row.append(element("span", "swatch"), element("span", "name", column.label), bar);
    row.append(element("span", "share", amount(group, value)));
    return row;
  }
}
