// Wait until the server answers questions, and show how far it is. Knows nothing of questions.

import { ApiError, KeyNeeded, readiness } from "./api.js";

const POLL_MS = 400;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function show(elements, stage, done, total) {
  elements.loading.hidden = false;
  elements.stage.textContent = total ? `${stage}: ${done} of ${total}` : stage;
  if (total) {
    elements.progress.max = total;
    elements.progress.value = done;
  } else {
    elements.progress.removeAttribute("value");
  }
}

/** Resolve when the server is ready; throw ApiError where it failed for good. */
export async function whenReady(elements) {
  for (;;) {
    let state;
    try {
      state = await readiness();
    } catch (failure) {
      if (failure instanceof KeyNeeded) elements.loading.hidden = true;
      if (failure instanceof KeyNeeded || !(failure instanceof ApiError)) throw failure;
      show(elements, "The server does not answer; trying again", 0, 0);
      await pause(4 * POLL_MS);
      continue;
    }
    if (state.status === "ready") {
      elements.loading.hidden = true;
      return;
    }
    if (state.status === "failed") {
      elements.loading.hidden = true;
      throw new ApiError(state.error.message);
    }
    show(elements, state.stage, state.done, state.total);
    await pause(POLL_MS);
  }
}
