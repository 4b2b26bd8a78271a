// Make an element. Puts data on the page as text only, never as HTML.

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** One choice of a `<select>`. */
export function choice(value, text) {
  const made = element("option", "", text);
  made.value = value;
  return made;
}
