// Talk to the server that this page came from. Knows nothing of the page.

import { keptKey } from "./key.js";

export class ApiError extends Error {}

/** The server wants a key, or another one. */
export class KeyNeeded extends ApiError {}

async function answered(path, options) {
  const key = keptKey();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (failure) {
    if (failure.name === "AbortError") throw failure;
    throw new ApiError("The server does not answer. Is `cynosure serve` still running?");
  }
  let body;
  try {
    body = await response.json();
  } catch {
    throw new ApiError(`The server answered ${response.status} with something that is not JSON.`);
  }
  if (response.status === 401) throw new KeyNeeded(body.error?.message ?? "An API key is needed.");
  return { response, body };
}

/** Ask a question; throws ApiError with the server's own words where it refuses. */
export async function ask(question, signal) {
  const { response, body } = await answered("/v1/ask", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ question }),
    signal,
  });
  if (!response.ok) throw new ApiError(body.error?.message ?? `The server answered ${response.status}.`);
  return body;
}

/** Say how far the server is: {status: "ready" | "loading" | "failed", stage, done, total, error}. */
export async function readiness() {
  return (await answered("/ready", { cache: "no-store" })).body;
}
