// Draw an answer token by token, each in the colour of what it attended to most. Knows nothing of the server.

import { element } from "./element.js";
import { kinds, mean, most, sharesOf } from "./shares.js";

const percent = (share) => `${Math.round(100 * share)}%`;

/** An answer that grows; the shares of a token are shown while it is pointed at or has the focus. */
export class ToldAnswer {
  #shares = new Map();
  #whole = null;

  constructor(name, parts, author) {
    this.parts = parts;
    this.root = element("article", "card told");
    this.title = element("h2", "object", `Answer ${name}`);
    this.text = element("div", "tokens");
    this.text.setAttribute("role", "listbox");
    this.text.setAttribute("aria-label", `Tokens of answer ${name}`);
    this.about = element("p", "about", "");
    this.rows = element("ul", "shares");
    const panel = element("div", "panel");
    panel.setAttribute("aria-live", "polite");
    panel.append(this.about, this.rows);
    this.coverage = element("p", "citation", "");
    this.quotes = element("p", "citation", "");
    this.root.append(this.title, element("p", "author", author), this.text, this.quotes, panel, this.coverage);
    for (const event of ["pointerover", "focusin"]) this.text.addEventListener(event, (one) => this.#point(one));
    for (const event of ["pointerleave", "focusout"]) this.text.addEventListener(event, () => this.#rest());
    this.text.addEventListener("keydown", (event) => this.#move(event));
  }

  /** Write what a piece of the stream says; several tokens whose texts are not told apart stand together. */
  add({ text, names, told, whole, quotes }) {
    if (quotes?.length) {
      const places = quotes.map((quote) => this.#place(quote));
      this.quotes.textContent = `Quoted, as a constraint demanded: ${places.join("; ")}`;
    }
    const all = told.map((one) => sharesOf(this.parts, one));
    const isApart = names.length === all.length && names.join("") === text;
    if (isApart) names.forEach((name, at) => this.#write(name, all[at]));
    else if (text) this.#write(text, all.length ? mean(all) : null);
    if (!whole) return;
    this.#whole = sharesOf(this.parts, whole);
    const { heads, layers, reason } = whole.coverage;
    this.coverage.textContent = `Watched: ${percent(heads)} of the heads, ${percent(layers)} of the layers; ${reason}.`;
    this.#rest();
  }

  /** Lead to the trace of the whole answer. */
  link(address) {
    const line = element("p", "citation", "");
    const link = element("a", "to-trace", "Open its trace");
    link.href = address;
    line.append(link);
    this.root.append(line);
  }

  #write(text, shares) {
    if (!shares) return this.text.append(text);
    const best = most(this.parts, shares);
    const token = element("span", "token", text);
    token.setAttribute("role", "option");
    token.tabIndex = this.#shares.size ? -1 : 0;
    token.dataset.part = this.#number(best);
    token.style.setProperty("--share", Math.min(1, shares[best.id]).toFixed(3));
    this.#shares.set(token, shares);
    return this.text.append(token);
  }

  #place({ segment, text_start: start, text_end: end }) {
    const part = this.parts.find((one) => one.id === segment);
    return `${part?.label ?? "a document"}, characters ${start}–${end}`;
  }

  #number(kind) {
    const at = this.parts.findIndex((part) => part.id === kind.id);
    return at < 0 ? "answer" : String(at % 6);
  }

  #point({ target }) {
    const shares = this.#shares.get(target);
    if (!shares) return;
    const best = most(this.parts, shares);
    const said = target.textContent.trim() || "a blank";
    this.about.textContent = `“${said}” attended to ${best.label} most`;
    this.#list(shares);
    this.root.querySelector(".token.pointed")?.classList.remove("pointed");
    target.classList.add("pointed");
  }

  #rest() {
    this.root.querySelector(".token.pointed")?.classList.remove("pointed");
    if (!this.#whole) return;
    this.about.textContent = "On average, its tokens attended to";
    this.#list(this.#whole);
  }

  #list(shares) {
    const told = kinds(this.parts).filter((kind) => shares[kind.id] > 0.0005);
    this.rows.replaceChildren(...told.map((kind) => this.#row(kind, shares[kind.id])));
  }

  #row(kind, share) {
    const row = element("li");
    const isColoured = this.#number(kind) !== "answer" || kind.id === "generated";
    row.dataset.part = isColoured ? this.#number(kind) : "none";
    const bar = element("span", "meter");
    bar.style.setProperty("--share", Math.min(1, share).toFixed(3));
    bar.setAttribute("aria-hidden", "true");
    row.append(element("span", "swatch"), element("span", "name", kind.label), bar);
    row.append(element("span", "share", percent(share)));
    return row;
  }

  /** One token is in the order of the page; the arrows go from token to token. */
  #move(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const tokens = [...this.#shares.keys()];
    const at = tokens.indexOf(event.target);
    const next = { Home: tokens[0], End: tokens.at(-1) }[event.key] ?? (step && tokens[at + step]);
    if (at < 0 || !next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  }
}
