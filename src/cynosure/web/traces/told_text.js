// Write an answer token by token, each in the colour of what it attended to most. Knows nothing of the server.

import { element } from "../element.js";
import { amount } from "./model.js";

/** Tokens that stand on the page at once; around the chosen one, where there are more. */
const MAX_SHOWN = 1200;
const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

/** How sure it is that a sentence is grounded, in the words of the page. */
export function riskWords(sentence) {
  if (sentence.risk === null) return "risk unknown";
  return `risk ${Math.round(100 * sentence.risk)}%`;
}

const riskLevel = ({ risk }) => (risk === null ? "unknown" : risk < 0.2 ? "low" : risk < 0.5 ? "some" : "high");

/** The text of a trace. `onChoose(row)` is called where the reader chooses a watched token. */
export class ToldText {
  #model = null;
  #group = "all";
  #chosen = -1;

  constructor(label, onChoose) {
    this.onChoose = onChoose;
    this.root = element("div", "told-text");
    this.text = element("div", "tokens");
    this.text.setAttribute("role", "listbox");
    this.text.setAttribute("aria-label", label);
    this.note = element("p", "citation", "");
    this.root.append(this.text, this.note);
    this.text.addEventListener("click", ({ target }) => this.#pick(target.closest(".token")));
    this.text.addEventListener("focusin", ({ target }) => this.#pick(target.closest(".token")));
    this.text.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Write a trace in the colours of a group. */
  show(model, group) {
    const isOther = model !== this.#model;
    [this.#model, this.#group] = [model, group];
    if (isOther) {
      this.#chosen = -1;
      this.#write(0);
    } else for (const token of this.text.querySelectorAll(".token")) this.#colour(token);
  }

  /** Mark a row, which is written where it was not; -1 is none. */
  choose(row) {
    this.#chosen = row;
    const token = this.#model.watched[row] ?? -1;
    if (token >= 0 && (token < this.first || token >= this.last)) this.#write(token - MAX_SHOWN / 2);
    const before = this.text.querySelector('[aria-selected="true"]');
    const now = this.#at(token);
    if (before === now) return;
    before?.setAttribute("aria-selected", "false");
    now?.setAttribute("aria-selected", "true");
    this.#stop(now);
  }

  #at(token) {
    return this.text.querySelector(`[data-token="${token}"]`);
  }

  #write(from) {
    const { numTokens, answer } = this.#model;
    this.first = Math.max(0, Math.min(numTokens - MAX_SHOWN, Math.floor(from)));
    this.last = Math.min(numTokens, this.first + MAX_SHOWN);
    const whole = document.createDocumentFragment();
    let [into, current] = [whole, -1];
    for (let token = this.first; token < this.last; token += 1) {
      const sentence = this.#model.sentenceOf(token);
      if (sentence !== current) {
        if (current >= 0) whole.append(...this.#marks(current));
        current = sentence;
        into = sentence < 0 ? whole : whole.appendChild(this.#sentence(sentence));
      }
      into.append(this.#token(token));
    }
    if (current >= 0) whole.append(...this.#marks(current));
    this.text.replaceChildren(whole);
    this.#stop(this.text.querySelector(".token"));
    const part = this.last - this.first < numTokens ? `Tokens ${this.first}–${this.last - 1} of ${numTokens}. ` : "";
    const kept = answer.texts ? "" : `Texts are not kept at level ${answer.level}: each mark is a token. `;
    this.note.textContent = part + kept;
  }

  #sentence(number) {
    const made = element("span", "sentence");
    made.dataset.risk = riskLevel(this.#model.sentences[number]);
    made.title = riskWords(this.#model.sentences[number]);
    return made;
  }

  /** The numbers of what a sentence cites. */
  #marks(number) {
    const { start } = this.#model.sentences[number];
    return this.#model.citations.flatMap((one, at) => {
      if (one.start !== start) return [];
      const mark = element("sup", "cited", `[${at + 1}]`);
      mark.dataset.part = this.#model.columns[one.segment].hue;
      return [mark];
    });
  }

  #token(token) {
    const row = this.#model.rowOf.get(token);
    const text = this.#model.text(token);
    if (row === undefined || !text) return element("span", "unwatched", text);
    const made = element("span", "token", text);
    made.dataset.token = String(token);
    made.tabIndex = -1;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", String(row === this.#chosen));
    return this.#colour(made);
  }

  #colour(token) {
    const row = this.#model.rowOf.get(Number(token.dataset.token));
    const best = this.#model.most(this.#group, row);
    const column = this.#model.columns[best];
    const value = this.#model.matrix(this.#group)[best * this.#model.numRows + row];
    token.dataset.part = column.hue;
    token.dataset.stroke = column.stroke ?? "none";
    token.style.setProperty("--share", Math.max(0, Math.min(1, value)).toFixed(2));
    token.title = `attended to ${column.label} most: ${amount(this.#group, value)}`;
    return token;
  }

  /** One token is in the order of the page. */
  #stop(token) {
    if (!token) return;
    const before = this.text.querySelector('.token[tabindex="0"]');
    if (before) before.tabIndex = -1;
    token.tabIndex = 0;
  }

  #pick(token) {
    if (!token || token.getAttribute("aria-selected") === "true") return;
    const row = this.#model.rowOf.get(Number(token.dataset.token));
    this.choose(row);
    this.onChoose(row);
  }

  #key(event) {
    const [model, step] = [this.#model, STEPS[event.key]];
    const row = model.rowOf.get(Number(event.target.dataset?.token));
    const next = { Home: 0, End: model.numRows - 1 }[event.key] ?? (step && row + step);
    if (row === undefined || next === undefined || next < 0 || next >= model.numRows) return;
    event.preventDefault();
    this.choose(next);
    this.#at(model.watched[next])?.focus();
    this.onChoose(next);
  }
}
