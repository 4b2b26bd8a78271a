// Show quotes as cards, and the source of the one that the address names. Knows nothing of how they were found.

import { card } from "./cards.js";
import { address, go, leave } from "./router.js";
import { closeSource, openSource } from "./source.js";

/** The cards of a view; `shown` are their quotes, of one store. */
export class Quotes {
  #shown = [];
  #store = "";
  #values = {};

  constructor(name, view, outcome) {
    this.name = name;
    this.found = view.querySelector(".found");
    this.cards = view.querySelector(".cards");
    this.outcome = outcome;
    this.cards.addEventListener("click", (event) => this.#open(event));
  }

  /** Show these, which were found by what `values` say in the address. */
  show(quotes, store, values) {
    [this.#shown, this.#store, this.#values] = [quotes, store, values];
    this.cards.replaceChildren(...quotes.map((quote, at) => card(quote, this.#link(at))));
    this.found.hidden = quotes.length === 0;
  }

  hide() {
    this.show([], "", {});
  }

  /** Open the source that the address asks for, counted from 1, or close it. */
  async follow(number) {
    const quote = this.#shown[Number(number) - 1];
    if (!quote) return closeSource();
    const values = this.#values;
    await this.outcome.during((signal) =>
      openSource(this.#store, quote, signal, () => leave(this.name, values)),
    );
  }

  #link(at) {
    return address(this.name, { ...this.#values, source: at + 1 });
  }

  #open(event) {
    const link = event.target.closest("a.cite");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const at = [...this.cards.querySelectorAll("a.cite")].indexOf(link);
    go(this.name, { ...this.#values, source: at + 1 });
  }
}
