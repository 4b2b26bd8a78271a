// Tell how a view's work went: what it says, why it failed, that the server is gone. Knows no view.

import { ApiError, Gone, KeyNeeded } from "./api.js";
import { forgetKey, keepKey, keptKey } from "./key.js";
import { whenReady } from "./readiness.js";

const at = (id) => document.getElementById(id);

/** Calls `again` when a key was given, or when the server is back. */
let again = () => {};
export function onAgain(action) {
  again = action;
}

/** Ask for a key; one that was sent is none of the server's, and is forgotten. */
function askForKey(failure) {
  if (keptKey()) at("key-text").textContent = failure.message;
  forgetKey();
  at("key-needed").hidden = false;
  at("key").focus();
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("key").value.trim());
  at("key").value = "";
  at("key-needed").hidden = true;
  again();
});

/** The status and the failure of one view. */
export class Outcome {
  #underWay = new AbortController();

  constructor(view) {
    this.view = view;
    this.status = view.querySelector(".status");
    this.failure = view.querySelector(".failure");
    this.hasFailed = false;
  }

  say(text) {
    this.status.textContent = text;
  }

  /** Whether work is under way that `stop` would end. */
  get isBusy() {
    return this.view.getAttribute("aria-busy") === "true";
  }

  /** End what is under way, and forget it. */
  stop() {
    this.#underWay.abort();
    this.view.removeAttribute("aria-busy");
  }

  /** Do `work(signal)`, which ends what was under way; tell where it fails. Resolves to whether it was done. */
  async during(work) {
    this.stop();
    const mine = (this.#underWay = new AbortController());
    this.failure.hidden = true;
    this.hasFailed = false;
    this.view.setAttribute("aria-busy", "true");
    try {
      await work(mine.signal);
      return !mine.signal.aborted;
    } catch (failure) {
      if (!mine.signal.aborted) this.#tell(failure);
      return false;
    } finally {
      if (mine === this.#underWay) this.view.removeAttribute("aria-busy");
    }
  }

  #tell(failure) {
    this.hasFailed = true;
    this.say("");
    if (failure instanceof KeyNeeded) askForKey(failure);
    else if (failure instanceof Gone) whenReady().then(again, (other) => this.#tell(other));
    else if (failure instanceof ApiError) {
      this.failure.querySelector("p").textContent = failure.message;
      this.failure.hidden = false;
    } else throw failure;
  }
}
