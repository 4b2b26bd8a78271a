// Join the address and the views. Knows nothing of what a view does.

import { forget } from "./catalog.js";
import { onAgain } from "./outcome.js";
import { here, onMove } from "./router.js";
import { closeSource } from "./source.js";
import * as ask from "./views/ask.js";
import * as code from "./views/code.js";
import * as inspect from "./views/inspect.js";
import * as search from "./views/search.js";
import * as traces from "./views/traces.js";

const views = { ask, search, code, inspect, traces };
const sections = Object.keys(views).map((name) => document.getElementById(`view-${name}`));
const links = document.querySelectorAll("nav a");
let current = "";

function show(name) {
  for (const section of sections) section.hidden = section.id !== `view-${name}`;
  for (const link of links) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const hasMoved = current !== name;
  current = name;
  if (hasMoved) views[name].focus();
}

function follow({ view, values }) {
  if (view !== current || !values.source) closeSource();
  show(view);
  document.title = `${views[view].title(values)} · Cynosure`;
  return views[view].follow(values);
}

onAgain(() => {
  forget();
  follow(here());
});
onMove(follow);

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("content").focus();
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, dialog");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  views[current].focus();
});

follow(here());
