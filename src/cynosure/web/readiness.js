// Wait until the server answers questions, and show how far it is. Knows nothing of questions.

import { ApiError, Gone, readiness } from "./api.js";

const POLL_MS = 400;
const at = (id) => document.getElementById(id);
const [loading, stage, progress, banner, retry] = ["loading", "stage", "progress", "gone", "retry"].map(at);

/** Wait, or until the reader does not want to. */
function pause(milliseconds) {
  return new Promise((done) => {
    const timer = setTimeout(done, milliseconds);
    retry.onclick = () => {
      clearTimeout(timer);
      done();
    };
  });
}

function show(state) {
  loading.hidden = false;
  stage.textContent = state.total ? `${state.stage}: ${state.done} of ${state.total}` : state.stage;
  if (state.total) {
    progress.max = state.total;
    progress.value = state.done;
  } else {
    progress.removeAttribute("value");
  }
}

/** Resolve when the server is ready; throw ApiError where it failed for good, or wants a key. */
async function untilReady() {
  for (;;) {
    try {
      const state = await readiness();
      banner.hidden = true;
      if (state.status === "ready") return;
      if (state.status === "failed") throw new ApiError(state.error.message);
      show(state);
      await pause(POLL_MS);
    } catch (failure) {
      if (!(failure instanceof Gone)) throw failure;
      loading.hidden = true;
      banner.hidden = false;
      await pause(4 * POLL_MS);
    }
  }
}

let underWay = null;

/** The same, however many wait: one of them asks. */
export function whenReady() {
  underWay ??= untilReady().finally(() => {
    loading.hidden = true;
    underWay = null;
  });
  return underWay;
}
