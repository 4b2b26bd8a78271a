// Show the whole text around a quote, the quote marked. Knows nothing of how quotes are found.

import { source } from "./api.js";
import { citation } from "./cards.js";
import { quoted } from "./marks.js";

const at = (id) => document.getElementById(id);
const dialog = at("source");

/** Fetch and show the source of a quote. `onClose` is called where the reader closes it. */
export async function openSource(store, quote, signal, onClose) {
  const found = await source(store, quote, signal);
  at("source-title").textContent = found.object;
  // Of an uploaded file the place was looked for just now.
  const { start, end } = quote.start === undefined ? found : quote;
  at("source-place").textContent = citation({ ...found, start, end });
  at("source-signature").textContent = found.signature;
  at("source-signature").hidden = !found.signature;
  const text = at("source-text");
  text.replaceChildren(...quoted(found.text, found.start, found.end));
  dialog.onclose = onClose;
  if (!dialog.open) dialog.showModal();
  const mark = text.querySelector("mark");
  text.scrollTop = mark.offsetTop - text.offsetTop - text.clientHeight / 3;
}

/** Close it, where it is open, without telling anybody. */
export function closeSource() {
  dialog.onclose = null;
  if (dialog.open) dialog.close();
}

at("source-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  // What lies around the dialog is the dialog itself; its content fills it.
  if (event.target === dialog) dialog.close();
});
