// Show what all answers attended to over time, and the numbers of the server. Asks no server itself.

import { element } from "../element.js";
import { binned, Line, Stacked } from "./charts.js";
import { findingsOf, METERS, SAFETY } from "./meters.js";
import { percent } from "./model.js";

/** Roles in the order in which they stand one upon the other, with their colours. */
const ROLES = [
  ["system", "var(--part-4)"],
  ["user", "var(--part-2)"],
  ["assistant", "var(--part-3)"],
  ["document", "var(--part-0)"],
  ["tool", "var(--part-1)"],
  ["tools", "var(--part-5)"],
  ["image", "var(--deep)"],
  ["generated", "var(--part-answer)"],
  ["template", "var(--line)"],
  ["sink", "var(--faint)"],
];
const LINES = [
  ["To sinks", (row) => row.mass.sink ?? null, percent],
  ["Entropy", (row) => row.entropy_bits, (bits) => `${bits.toFixed(2)} bits`],
  ["Lookback", (row) => row.lookback, percent],
];
const ROLE_WORDS = { generated: "the answer itself", template: "the template", sink: "a sink" };

/** A title, a number, and a line of what it was. */
class Tile {
  constructor(title) {
    this.root = element("div", "tile");
    this.number = element("strong", "", "–");
    this.chart = new Line(34, title);
    this.root.append(element("span", "tile-title", title), this.number, this.chart.canvas);
  }

  show(text, bins) {
    this.number.textContent = text;
    this.chart.show(bins);
  }
}

/** The overview of all answers. */
export class Fleet {
  #history = new Map();
  #before = [];

  constructor() {
    this.root = element("section", "fleet");
    this.root.setAttribute("aria-label", "All answers");
    this.mass = new Stacked(150, "Shares of attention by role, over time", ROLES.map(([, hue]) => hue));
    this.times = element("p", "times citation", "");
    this.legend = element("ul", "role-legend");
    this.lines = LINES.map(([title]) => new Tile(title));
    this.meters = METERS.map(([title]) => new Tile(title));
    this.safety = SAFETY.map(([title]) => new Tile(title));
    this.findings = element("p", "citation", "");
    this.note = element("p", "citation", "");
    this.missing = element("p", "citation", "");
    this.unsafe = element("p", "citation", "");
    const head = element("h2", "", "Attended to, over time");
    const tiles = element("div", "tiles");
    tiles.append(...[...this.lines, ...this.meters].map((one) => one.root));
    const lane = element("div", "tiles");
    lane.append(...this.safety.map((one) => one.root));
    this.lane = element("section", "safety");
    this.lane.append(element("h2", "", "Safety"), lane, this.unsafe, this.findings);
    this.root.append(head, this.mass.canvas, this.times, this.legend, tiles, this.missing, this.note, this.lane);
  }

  /** Draw rows of `/v1/traces`, the newest first. */
  showRows(newestFirst) {
    const rows = [...newestFirst].reverse();
    const told = rows.filter((row) => Object.keys(row.mass).length);
    this.mass.show(binned(told, (row) => ROLES.map(([role]) => row.mass[role] ?? 0)));
    const [first, last] = [told[0], told.at(-1)].map((row) => row && new Date(1000 * row.created).toLocaleString());
    this.times.textContent = told.length ? `${told.length} answers, from ${first} to ${last}` : "No answer is kept yet.";
    const means = ROLES.map(([role]) => told.reduce((sum, row) => sum + (row.mass[role] ?? 0), 0) / (told.length || 1));
    const shown = ROLES.map((role, at) => [...role, means[at]]).filter(([, , mean]) => mean > 0.0005);
    this.legend.replaceChildren(...shown.map((one) => legendRow(...one)));
    LINES.forEach(([, of, words], at) => {
      const known = told.map(of).filter((one) => one !== null);
      const mean = known.reduce((sum, one) => sum + one, 0) / known.length;
      this.lines[at].show(known.length ? words(mean) : "–", binned(told, (row) => (of(row) === null ? null : [of(row)])));
    });
  }

  /** Draw samples of `/metrics`, or say why there are none. */
  showSamples(samples, why = "") {
    this.note.textContent = why;
    const all = [...METERS.map((one, at) => [one, this.meters[at]]), ...SAFETY.map((one, at) => [one, this.safety[at]])];
    for (const [[title, of, words], tile] of all) {
      const value = samples ? of(samples, this.#before) : null;
      const history = [...(this.#history.get(title) ?? []), value === null ? null : [value]].slice(-60);
      this.#history.set(title, history);
      tile.show(value === null ? "–" : words(value), history);
      // What was never told takes no room; its name stands in a line below.
      tile.root.hidden = history.every((one) => one === null);
    }
    this.missing.textContent = missingWords(METERS, this.meters);
    this.unsafe.textContent = missingWords(SAFETY, this.safety);
    for (const line of [this.missing, this.unsafe]) line.hidden = !samples || !line.textContent;
    this.lane.hidden = !samples;
    const found = samples ? findingsOf(samples).map(([words, count]) => `${words} ${count}`) : [];
    this.findings.textContent = found.length ? `Found by the guard: ${found.join("; ")}.` : "The guard found nothing yet.";
    this.findings.hidden = !samples;
    this.#before = samples ?? [];
  }
}

function missingWords(meters, tiles) {
  const names = meters.filter((_, at) => tiles[at].root.hidden).map(([title]) => title.toLowerCase());
  return names.length ? `Not told yet: ${names.join(", ")}.` : "";
}

function legendRow(role, hue, mean) {
  const row = element("li");
  const swatch = element("span", "swatch");
  swatch.style.setProperty("--hue", hue);
  row.append(swatch, element("span", "", `${ROLE_WORDS[role] ?? role} ${percent(mean)}`));
  return row;
}
