// Set the shares of two answers side by side. Knows nothing of the server.

import { element } from "../element.js";
import { percent } from "./model.js";

/** Parts by what they are called, with what each answer gave them on average. */
function pairs(models) {
  const found = new Map();
  models.forEach((model, side) => {
    const means = model.groups.length ? model.mean("all") : [];
    model.columns.forEach((column, at) => {
      const one = found.get(column.label) ?? { column, shares: [null, null] };
      one.shares[side] = means[at] ?? null;
      found.set(column.label, one);
    });
  });
  return [...found.values()];
}

function bar(share, hue) {
  const cell = element("td");
  const meter = element("span", "meter");
  meter.dataset.part = hue;
  meter.style.setProperty("--share", (share ?? 0).toFixed(3));
  meter.setAttribute("aria-hidden", "true");
  cell.append(meter, element("span", "share", share === null ? "–" : percent(share)));
  return cell;
}

/** A table of both. */
export function comparison(models) {
  const table = element("table", "compared");
  const head = element("tr");
  head.append(...["attended to", "A", "B", "B − A"].map((text) => element("th", "", text)));
  table.append(head);
  for (const { column, shares } of pairs(models)) {
    const row = element("tr");
    const name = element("th", "", column.label);
    name.scope = "row";
    const [a, b] = shares;
    const by = a === null || b === null ? "–" : `${b >= a ? "+" : "−"}${Math.abs(100 * (b - a)).toFixed(1)}`;
    row.append(name, bar(a, column.hue), bar(b, column.hue), element("td", "share", by));
    table.append(row);
  }
  return table;
}
