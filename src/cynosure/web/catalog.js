// Keep what the server serves: stores and models. Knows nothing of the views that choose among them.

import { models, stores } from "./api.js";
import { choice } from "./element.js";
import { whenReady } from "./readiness.js";

const served = { stores: [], models: [] };
const listeners = [];
let known = null;

/** Wait until the server is ready and what it serves is known; ask it only once. */
export function whenKnown() {
  known ??= learn().catch((failure) => {
    known = null;
    throw failure;
  });
  return known;
}

/** Ask anew the next time: the server was gone, or another key is used. */
export function forget() {
  known = null;
}

/** Call `action` whenever it was learnt what is served. */
export function onKnown(action) {
  listeners.push(action);
}

async function learn() {
  await whenReady();
  [served.stores, served.models] = await Promise.all([stores(), models()]);
  const first = firstStore();
  served.stores.sort((a, b) => Number(b.id === first) - Number(a.id === first));
  for (const select of document.querySelectorAll("select.stores")) {
    const fit = served.stores.filter((one) => !select.classList.contains("asked") || !isUploaded(one));
    offer(select, fit.map(storeChoice));
  }
  for (const select of document.querySelectorAll("select.models")) offerModels(select);
  for (const action of listeners) action();
}

/** Offer the models that generate, or of these the ones that take a field. */
export function offerModels(select, capability) {
  const fit = completers().filter((one) => !capability || one.capabilities.includes(capability));
  offer(select, fit.map((one) => choice(one.id, `${one.id}${capability ? demonstration(one) : standing(one)}`)));
}

/** What `/v1/models` says of a model. */
export const model = (id) => served.models.find((one) => one.id === id);

/** The models that generate; those that fill gaps first. */
export function completers() {
  const fills = (one) => Number(one.capabilities.includes("suffix"));
  return served.models.filter((one) => one.kind === "completion").sort((a, b) => fills(b) - fills(a));
}

/** The store that is asked where nobody chose one: the documentation that comes with Cynosure, where it is served. */
export function firstStore() {
  const first = served.stores.find((one) => one.id === "python-docs") ?? served.stores[0];
  return first?.id ?? "";
}

/** Stores of uploaded files are searched, and not asked. */
const isUploaded = (store) => store.id.startsWith("vs_");

const storeChoice = (store) => choice(store.id, `${store.name} (${store.file_counts.total})`);

const demonstration = (one) => (one.demonstration ? " (demonstration)" : "");
const standing = (one) => demonstration(one) || (one.capabilities.includes("suffix") ? "" : " (continues only)");

/** What was chosen stays chosen where it is still offered. */
function offer(select, choices) {
  const chosen = select.value || select.dataset.wanted;
  select.replaceChildren(...choices);
  if (choices.some((one) => one.value === chosen)) select.value = chosen;
}
