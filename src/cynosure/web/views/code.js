// Suggest code at the cursor, as grey text that is taken or left. Knows nothing of models.

import { ApiError, stream } from "../api.js";
import { completers, model, onKnown, whenKnown } from "../catalog.js";
import { blockOf, near } from "../extent.js";
import { Ghost } from "../ghost.js";
import { Outcome } from "../outcome.js";

// Before the cursor, and behind it.
const EXAMPLE = [
  'import heapq\n\n\ndef largest(numbers, count):\n    """Return the largest numbers, best first."""\n    return',
  "\n\n\nprint(largest([3, 1, 4, 1, 5], 2))\n",
];
const MAX_TOKENS = { line: 64, block: 192 };
// A token of code is about three characters; where that is too much, the server says so and half is sent.
const CHARACTERS_A_TOKEN = 3;
const view = document.getElementById("view-code");
const [area, mirror, models, standing, button] = ["#text", "#mirror", ".models", ".standing", "#complete"].map((one) =>
  view.querySelector(one),
);
const outcome = new Outcome(view);
const ghost = new Ghost(area, mirror);

// After Escape the next Tab leaves the editor, as it does anywhere else.
let tabLeaves = false;
// Where the cursor was at the last key: a suggestion belongs to one place.
let place = "";

area.value = EXAMPLE.join("");
area.setSelectionRange(EXAMPLE[0].length, EXAMPLE[0].length);

const extent = () => view.querySelector("input[name=extent]:checked").value;

function bodyFor(chosen, budget) {
  const { before, after } = ghost.around;
  const fills = chosen.capabilities.includes("suffix");
  const { prefix, suffix } = near(before, fills ? after : "", budget);
  const body = { model: chosen.id, prompt: prefix, max_tokens: MAX_TOKENS[extent()], temperature: 0 };
  if (fills) body.suffix = suffix;
  if (extent() === "line") body.stop = ["\n"];
  return body;
}

/** Stream a suggestion, of less text around the cursor where the model takes no more. */
async function suggest(chosen, signal) {
  let budget = CHARACTERS_A_TOKEN * Math.max(64, (chosen.max_tokens ?? 8192) - MAX_TOKENS[extent()]);
  for (;;) {
    const body = bodyFor(chosen, budget);
    try {
      await draw(body, signal);
      return body;
    } catch (failure) {
      if (!(failure instanceof ApiError) || failure.code !== "input_too_long" || budget < 100) throw failure;
      budget /= 2;
    }
  }
}

async function draw(body, signal) {
  const { before } = ghost.around;
  let text = "";
  for await (const event of stream("/v1/completions", body, signal)) {
    text += event.choices[0]?.text ?? "";
    if (extent() === "line") ghost.show(text);
    else {
      const block = blockOf(text, before);
      ghost.show(block.text);
      if (block.hasEnded) return;
    }
  }
}

/** Say how long it took, and what of the file was read where it was not all. */
function told(body, milliseconds) {
  const took = `${(milliseconds / 1000).toFixed(2)} s`;
  if (!ghost.text) return `The model suggests nothing here (${took}).`;
  const { before, after } = ghost.around;
  const [read, all] = [body.prompt.length + (body.suffix?.length ?? 0), before.length + after.length];
  const part = read < all ? ` Read: ${read} of ${all} characters, those around the cursor.` : "";
  return `Suggested in ${took}: “${ghost.text.trim()}”. Tab accepts, Escape dismisses.${part}`;
}

async function complete() {
  ghost.clear();
  tabLeaves = false;
  await outcome.during(async (signal) => {
    await whenKnown();
    const chosen = model(models.value);
    if (!chosen) throw new ApiError("No model that generates is served. Start one: cynosure serve MODEL.");
    outcome.say("Writing…");
    const begun = performance.now();
    const body = await suggest(chosen, signal);
    outcome.say(told(body, performance.now() - begun));
  });
}

/** Drop the suggestion, and what is under way. */
function dismiss(text) {
  outcome.stop();
  ghost.clear();
  outcome.say(text);
}

function accept() {
  outcome.stop();
  ghost.accept();
  outcome.say("Accepted.");
}

function onTab(event) {
  if (event.shiftKey || tabLeaves) return;
  event.preventDefault();
  if (ghost.text) accept();
  else complete();
}

area.addEventListener("keydown", (event) => {
  if (event.key === "Tab") onTab(event);
  else if (event.key === "Escape") {
    tabLeaves = !ghost.text && !outcome.isBusy;
    dismiss(tabLeaves ? "Tab leaves the editor now." : "");
  } else if (event.code === "Space" && event.ctrlKey) {
    event.preventDefault();
    complete();
  }
});
area.addEventListener("input", () => {
  tabLeaves = false;
  if (ghost.text || outcome.isBusy) dismiss("");
});
document.addEventListener("selectionchange", () => {
  const moved = document.activeElement === area && (ghost.text || outcome.isBusy);
  if (moved && `${area.selectionStart}:${area.selectionEnd}` !== place) dismiss("");
});
function remember() {
  place = `${area.selectionStart}:${area.selectionEnd}`;
}
button.addEventListener("click", () => {
  remember();
  complete();
  area.focus();
});
area.addEventListener("keydown", remember, { capture: true });
models.addEventListener("change", describe);
view.addEventListener("change", () => dismiss(""));

/** Say of a demonstration that it is one. */
function describe() {
  const chosen = model(models.value);
  standing.hidden = !chosen || (!chosen.demonstration && chosen.capabilities.includes("suffix"));
  standing.textContent = chosen?.demonstration
    ? `Demonstration: ${chosen.id} is small, and shows how this works. Its own card says where simpler means do better.`
    : "This model has no tokens for a gap: it goes on from the text before the cursor, and does not see the rest.";
}

onKnown(() => {
  describe();
  button.disabled = completers().length === 0;
});

export const title = () => "Code";
export const focus = () => area.focus();

export async function follow() {
  await outcome.during(whenKnown);
}
