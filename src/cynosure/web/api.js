// Talk to the server that this page came from. Knows nothing of the page.

import { events } from "./events.js";
import { keptKey } from "./key.js";

/** What the server refused, in its own words; `code` is its short name for it. */
export class ApiError extends Error {
  constructor(message, code = "") {
    super(message);
    this.code = code;
  }
}

/** The server wants a key, or another one. */
export class KeyNeeded extends ApiError {}

/** Nobody answers at all. */
export class Gone extends ApiError {}

const isAbort = (failure) => failure.name === "AbortError";

async function sent(path, options) {
  const key = keptKey();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  try {
    return await fetch(path, { ...options, headers });
  } catch (failure) {
    if (isAbort(failure)) throw failure;
    throw new Gone("The server does not answer.");
  }
}

async function bodyOf(response) {
  try {
    return await response.json();
  } catch (failure) {
    if (isAbort(failure)) throw failure;
    throw new ApiError(`The server answered ${response.status} with something that is not JSON.`);
  }
}

function refusal(response, body) {
  const { message = `The server answered ${response.status}.`, code = "" } = body.error ?? {};
  return response.status === 401 ? new KeyNeeded(message, code) : new ApiError(message, code);
}

function posting(body, signal) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
}

async function answer(path, options = {}) {
  const response = await sent(path, options);
  const body = await bodyOf(response);
  if (!response.ok) throw refusal(response, body);
  return body;
}

/** Quotes for a question; `values` are the fields of `/v1/ask`. */
export const ask = (values, signal) => answer("/v1/ask", posting(values, signal));

/** The passages of a store, best first. */
export function search(store, query, count, signal) {
  const path = `/v1/vector_stores/${encodeURIComponent(store)}/search`;
  return answer(path, posting({ query, max_num_results: count }, signal));
}

/** The whole text of a file that was uploaded, and where in it a quote stands, in code points. */
async function uploaded(store, { fileId, file, text }, signal) {
  const path = `/v1/vector_stores/${encodeURIComponent(store)}/files/${encodeURIComponent(fileId)}/content`;
  const whole = (await answer(path, { signal })).data.map((part) => part.text).join("");
  const [before] = whole.split(text, 1);
  const start = Array.from(before.length < whole.length ? before : "").length;
  const end = before.length < whole.length ? start + Array.from(text).length : start;
  return { object: file, signature: "", source: "file", file, text: whole, start, end };
}

/** The whole text that a quote is a slice of. */
export function source(store, quote, signal) {
  if (quote.fileId) return uploaded(store, quote, signal);
  const { object, start, end, source, file } = quote;
  const place = new URLSearchParams({ store, object, start, end, source, file });
  return answer(`/v1/ask/source?${place}`, { signal });
}

/** Answers of which a trace is kept, the newest first. */
export const traces = (limit, signal) => answer(`/v1/traces?limit=${limit}`, { signal });
export const trace = (id, signal) => answer(`/v1/traces/${encodeURIComponent(id)}`, { signal });
export const drift = (signal) => answer("/v1/drift", { signal });

/** The operator's numbers, in Prometheus' text format. */
export async function metrics(signal) {
  const response = await sent("/metrics", { signal });
  if (!response.ok) throw refusal(response, await bodyOf(response));
  return response.text();
}

export const stores = async () => (await answer("/v1/vector_stores?limit=100&order=asc")).data;
export const models = async () => (await answer("/v1/models")).data;

/** Say how far the server is: {status: "ready" | "loading" | "failed", stage, done, total, error}. */
export async function readiness() {
  const response = await sent("/ready", { cache: "no-store" });
  const body = await bodyOf(response);
  if (response.status === 401) throw refusal(response, body);
  return body;
}

/**
 * The events of a stream, as objects, until its end; a failure on the way is thrown. `onId` is told the request's id.
 */
export async function* stream(path, values, signal, onId = () => {}) {
  const response = await sent(path, posting({ ...values, stream: true }, signal));
  if (!response.ok) throw refusal(response, await bodyOf(response));
  onId(response.headers.get("X-Request-Id"));
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new ApiError(event.error.message, event.error.code);
      yield event;
    }
  } catch (failure) {
    if (isAbort(failure) || failure instanceof ApiError) throw failure;
    throw new Gone("The server went away in the middle of an answer.");
  }
  throw new Gone("The server went away in the middle of an answer.");
}
