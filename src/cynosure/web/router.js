// Keep the view and what it shows in the address. Knows nothing of any view.

const VIEWS = ["ask", "search", "code", "inspect", "traces"];

/** The address of a view: `#ask?q=merge`. Values that are empty are left out. */
export function address(view, values = {}) {
  const told = Object.entries(values).filter(([, value]) => value !== "" && value != null);
  return `#${view}${told.length ? `?${new URLSearchParams(told)}` : ""}`;
}

/** Where the reader is: a view, and its values by name. */
export function here() {
  const [view, query = ""] = location.hash.slice(1).split("?", 2);
  const values = Object.fromEntries(new URLSearchParams(query));
  if (VIEWS.includes(view)) return { view, values };
  const asked = new URLSearchParams(location.search).get("q");
  return { view: "ask", values: asked ? { q: asked } : {} };
}

/** Call `follow` wherever the reader goes, by a link, by the address or by going back. */
export function onMove(follow) {
  window.addEventListener("popstate", () => follow(here()));
  window.addEventListener("cynosure:move", () => follow(here()));
}

/** Go somewhere; where the address is the same, follow it once more. */
export function go(view, values, { replaces = false } = {}) {
  const target = `${location.pathname}${address(view, values)}`;
  if (replaces || target === location.pathname + location.search + location.hash) {
    history.replaceState(history.state, "", target);
  } else {
    history.pushState({ isOurs: true }, "", target);
  }
  window.dispatchEvent(new Event("cynosure:move"));
}

/** Leave what was opened on top of a view: back where it was opened here, else to the view's own address. */
export function leave(view, values) {
  if (history.state?.isOurs) history.back();
  else go(view, values, { replaces: true });
}
