// Say how much of a file a model reads and writes. Knows nothing of the page or the server.

const indentOf = (line) => line.match(/^[ \t]*/)[0].length;
const isBlank = (line) => line.trim() === "";

/** As much of a completion as belongs to the block that the cursor stands in, and whether it has ended. */
export function blockOf(text, before) {
  const opened = before.slice(before.lastIndexOf("\n") + 1);
  // Behind `def f():` the block is what is indented further.
  const depth = indentOf(opened) + (opened.trimEnd().endsWith(":") ? 1 : 0);
  const lines = text.split("\n");
  for (let at = 1; at < lines.length; at += 1) {
    if (!isBlank(lines[at]) && indentOf(lines[at]) < depth) {
      return { text: lines.slice(0, at).join("\n").trimEnd(), hasEnded: true };
    }
  }
  return { text, hasEnded: false };
}

/** What lies near the cursor, whole lines of at most so many characters, most of them before it. */
export function near(before, after, budget) {
  const ahead = Math.min(after.length, Math.max(budget / 4, budget - before.length));
  let [start, end] = [Math.max(0, Math.ceil(before.length - (budget - ahead))), Math.floor(ahead)];
  if (start > 0) start = before.indexOf("\n", start) + 1 || start;
  if (end < after.length) end = after.lastIndexOf("\n", end) + 1 || end;
  return { prefix: before.slice(start), suffix: after.slice(0, end) };
}
