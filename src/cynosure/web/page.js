// Join the question box, the address and the answer. Knows nothing of how an answer is drawn or fetched.

import { ApiError, KeyNeeded, ask } from "./api.js";
import { card } from "./cards.js";
import { forgetKey, keepKey, keptKey } from "./key.js";
import { whenReady } from "./readiness.js";

const at = (id) => document.getElementById(id);
const [form, question, send, status] = ["form", "question", "send", "status"].map(at);
const panels = ["answer", "nothing", "failure", "key-needed"].map(at);
const loading = { loading: at("loading"), stage: at("stage"), progress: at("progress") };

let ready = whenReady(loading);

let underWay = new AbortController();

function showOnly(panel) {
  for (const other of panels) other.hidden = other !== panel;
}

/** Ask for a key; one that was sent is none of the server's, and is forgotten. */
function askForKey(failure) {
  if (keptKey()) at("key-text").textContent = failure.message;
  forgetKey();
  status.textContent = "";
  showOnly(at("key-needed"));
  at("key").focus();
}

function showFailure(failure) {
  if (failure instanceof KeyNeeded) {
    askForKey(failure);
    return;
  }
  if (!(failure instanceof ApiError)) throw failure;
  at("failure-text").textContent = failure.message;
  status.textContent = "";
  showOnly(at("failure"));
}

function showAnswer(answer) {
  const count = answer.quotes.length;
  if (!answer.answered) {
    at("reason").textContent = answer.reason;
    status.textContent = "";
    showOnly(at("nothing"));
    return;
  }
  at("cards").replaceChildren(...answer.quotes.map(card));
  const took = (answer.timings_ms.total / 1000).toFixed(2);
  status.textContent = `${count} ${count === 1 ? "passage" : "passages"} in ${took} s`;
  showOnly(at("answer"));
}

async function answerTo(text) {
  underWay.abort();
  const mine = (underWay = new AbortController());
  send.setAttribute("aria-busy", "true");
  status.textContent = "Looking…";
  try {
    await ready;
    const answer = await ask(text, mine.signal);
    if (mine === underWay) showAnswer(answer);
  } catch (failure) {
    if (failure.name === "AbortError") return;
    showFailure(failure);
  } finally {
    if (mine === underWay) send.removeAttribute("aria-busy");
  }
}

/** Ask, and keep the question in the address, so that it can be linked to and gone back to. */
function submit(text) {
  question.value = text;
  const address = `?q=${encodeURIComponent(text)}`;
  if (location.search !== address) history.pushState(null, "", address);
  document.title = `${text} · Cynosure`;
  answerTo(text);
}

function followAddress() {
  const text = (new URLSearchParams(location.search).get("q") ?? "").trim();
  question.value = text;
  if (text) answerTo(text);
  else showOnly(null);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (text) submit(text);
});
at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  keepKey(at("key").value.trim());
  at("key").value = "";
  ready = whenReady(loading);
  ready.then(followAddress, showFailure);
});
at("examples").addEventListener("click", (event) => {
  if (event.target instanceof HTMLButtonElement) submit(event.target.textContent);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== question) {
    event.preventDefault();
    question.select();
  }
});
window.addEventListener("popstate", followAddress);

ready.catch(showFailure);
followAddress();
