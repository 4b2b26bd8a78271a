// Show a suggestion in grey at the cursor of a text, and take it over. Knows nothing of who suggests.

import { element } from "./element.js";

/** A textarea, and the mirror behind it that draws the whole text while there is a suggestion. */
export class Ghost {
  constructor(area, mirror) {
    this.area = area;
    this.mirror = mirror;
    this.text = "";
    area.addEventListener("scroll", () => this.#follow());
  }

  /** What stands before the cursor, and behind it; what is selected is in neither. */
  get around() {
    const { value, selectionStart, selectionEnd } = this.area;
    return { before: value.slice(0, selectionStart), after: value.slice(selectionEnd) };
  }

  show(text) {
    if (!text) return this.clear();
    this.text = text;
    const { before, after } = this.around;
    // The last line of a text ends it, where its break alone would not be drawn.
    this.mirror.replaceChildren(before, element("span", "ghost", text), `${after}\n`);
    this.area.parentElement.classList.add("has-ghost");
    return this.#follow();
  }

  clear() {
    this.text = "";
    this.mirror.replaceChildren();
    this.area.parentElement.classList.remove("has-ghost");
  }

  /** Write the suggestion into the text, so that undoing takes it out again. */
  accept() {
    const { text } = this;
    this.clear();
    this.area.focus();
    // Deprecated, and the only way in which a page's own edits can be undone.
    if (!document.execCommand("insertText", false, text)) {
      this.area.setRangeText(text, this.area.selectionStart, this.area.selectionEnd, "end");
    }
  }

  #follow() {
    this.mirror.scrollTop = this.area.scrollTop;
    this.mirror.scrollLeft = this.area.scrollLeft;
  }
}
