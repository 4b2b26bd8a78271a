// List answers in a table that can be sorted, filtered, opened and compared. Asks no server itself.

import { element } from "../element.js";
import { address } from "../router.js";
import { percent } from "./model.js";

const share = (role) => (row) => row.mass[role] ?? null;
const shareText = (value) => (value === null ? "–" : percent(value));

/** Title, what it sorts by, how it is written; numbers stand to the right. */
const COLUMNS = [
  ["Request", (row) => row.id, null, false],
  ["Model", (row) => row.model, String, false],
  ["When", (row) => row.created, (value) => new Date(1000 * value).toLocaleTimeString(), true],
  ["Tokens", (row) => row.tokens.completion, String, true],
  ["Documents", share("document"), shareText, true],
  ["User", share("user"), shareText, true],
  ["Sink", share("sink"), shareText, true],
  ["Entropy", (row) => row.entropy_bits, (value) => (value === null ? "–" : value.toFixed(2)), true],
  ["Finish", (row) => row.finish ?? "", (value) => value || "–", false],
];
const MAX_SHOWN = 200;

/** The table; `onCompare([a, b])` is called with two rows. */
export class RequestTable {
  constructor(onCompare) {
    this.rows = [];
    [this.by, this.isDown] = [2, true];
    this.chosen = new Map();
    this.root = element("section", "requests");
    this.filter = element("input");
    Object.assign(this.filter, { type: "search", placeholder: "id, model, finish or route", maxLength: 200 });
    const label = element("label", "", "Filter ");
    label.append(this.filter);
    this.compare = element("button", "", "Compare two");
    Object.assign(this.compare, { type: "button", disabled: true });
    this.compare.addEventListener("click", () => onCompare([...this.chosen.values()]));
    this.filter.addEventListener("input", () => this.draw());
    const tools = element("p", "options");
    this.count = element("span", "", "");
    tools.append(label, this.compare, this.count);
    this.table = element("table", "request-table");
    this.table.append(element("caption", "hidden", "Answers that are kept, newest first"));
    this.head = this.table.createTHead().insertRow();
    this.head.append(element("th", "pick", ""), ...COLUMNS.map((column, at) => this.#title(column, at)));
    this.head.firstChild.append(element("span", "hidden", "compare"));
    this.body = this.table.createTBody();
    const scroller = element("div", "scroller");
    scroller.append(this.table);
    this.root.append(element("h2", "", "Requests"), tools, scroller);
  }

  /** Whoever stands in the table by keyboard is not thrown out of it: it is drawn when he has left. */
  show(rows) {
    const isSame = rows.length === this.rows.length && rows.every((row, at) => row.id === this.rows[at].id);
    if (this.isDrawn && (isSame || this.body.contains(document.activeElement))) return;
    this.rows = rows;
    this.draw();
  }

  #title([title, , , isNumber], at) {
    const cell = element("th", isNumber ? "number" : "");
    const sort = element("button", "sort", title);
    sort.type = "button";
    sort.addEventListener("click", () => {
      [this.by, this.isDown] = [at, at === this.by ? !this.isDown : isNumber];
      this.draw();
    });
    cell.append(sort);
    return cell;
  }

  draw() {
    this.isDrawn = true;
    const words = this.filter.value.trim().toLowerCase();
    const fits = (row) => `${row.id} ${row.model} ${row.finish} ${row.route}`.toLowerCase().includes(words);
    const of = COLUMNS[this.by][1];
    const order = (a, b) => (of(a) === of(b) ? 0 : (of(a) ?? -1) > (of(b) ?? -1) ? 1 : -1) * (this.isDown ? -1 : 1);
    const found = this.rows.filter(fits).sort(order);
    [...this.head.cells].slice(1).forEach((cell, at) => {
      cell.setAttribute("aria-sort", at !== this.by ? "none" : this.isDown ? "descending" : "ascending");
    });
    this.body.replaceChildren(...found.slice(0, MAX_SHOWN).map((row) => this.#row(row)));
    const rest = found.length > MAX_SHOWN ? `, ${MAX_SHOWN} shown` : "";
    this.count.textContent = `${found.length} of ${this.rows.length}${rest}`;
  }

  #row(row) {
    const made = element("tr");
    const key = `${row.id}/${row.index}`;
    const pick = element("input");
    Object.assign(pick, { type: "checkbox", checked: this.chosen.has(key) });
    pick.setAttribute("aria-label", `Compare ${row.id}`);
    pick.addEventListener("change", () => this.#pick(key, row, pick));
    const cell = element("td", "pick");
    cell.append(pick);
    made.append(cell, ...COLUMNS.map((column) => this.#cell(row, column)));
    return made;
  }

  #cell(row, [title, of, words, isNumber]) {
    if (words) {
      const cell = element("td", isNumber ? "number" : "", words(of(row)));
      cell.dataset.title = title;
      return cell;
    }
    const cell = element("td", "id");
    const link = element("a", "", row.index ? `${row.id}, answer ${row.index}` : row.id);
    link.href = address("traces", { id: row.id, answer: row.index || "" });
    cell.append(link);
    return cell;
  }

  #pick(key, row, pick) {
    if (!pick.checked) this.chosen.delete(key);
    else if (this.chosen.size < 2) this.chosen.set(key, row);
    else pick.checked = false;
    this.compare.disabled = this.chosen.size !== 2;
  }
}
