// Draw which heads of a model were watched, and their weights in a group. Knows nothing of the server.

import { element } from "../element.js";
import { groupLabel } from "./model.js";
import { contextOf, onLook, rgb } from "./paint.js";

const [GUTTER, AXIS, MOST, LEAST] = [30, 18, 20, 4];

/** Layers down, heads along. */
export class HeadMap {
  constructor() {
    this.root = element("section", "panel");
    this.canvas = element("canvas", "heads");
    this.canvas.setAttribute("role", "img");
    this.said = element("p", "citation", "");
    this.root.append(element("h3", "", "Heads"), this.canvas, this.said);
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    onLook(this.root, () => this.heads && this.draw());
  }

  show(model, group) {
    this.heads = model.answer.heads;
    this.root.hidden = !this.heads;
    if (!this.heads) return;
    const named = this.heads.groups.find((one) => one.name === group);
    const weights = named?.weights ?? this.heads.heads.map(() => 1);
    this.weights = new Map(this.heads.heads.map((head, at) => [head.join(), weights[at]]));
    const total = this.heads.num_heads.reduce((sum, one) => sum + one, 0);
    const top = [...this.weights].filter(([, one]) => one).sort(([, a], [, b]) => Math.abs(b) - Math.abs(a));
    const most = named ? `; most weight have ${top.slice(0, 3).map(headWords).join(", ")}` : "";
    const counted = named ? `, ${top.length} of them count in ${groupLabel(group)}` : "";
    const words = `${this.heads.heads.length} of ${total} heads are watched${counted}${most}.`;
    this.said.textContent = words;
    this.canvas.setAttribute("aria-label", words);
    this.draw();
  }

  draw() {
    const { num_heads: numHeads } = this.heads;
    const [across, wide] = [Math.max(...numHeads), this.canvas.clientWidth];
    if (!wide) return;
    this.size = Math.max(LEAST, Math.min(MOST, (wide - GUTTER) / across, 320 / numHeads.length));
    const high = this.size * numHeads.length + AXIS;
    this.canvas.style.height = `${high}px`;
    const context = contextOf(this.canvas, wide, high);
    const [ink, quiet, deep, alarm] = ["quiet", "line", "deep", "alarm"].map((name) =>
      rgb(`var(--${name})`).join(" "),
    );
    const most = Math.max(1e-9, ...[...this.weights.values()].map(Math.abs));
    numHeads.forEach((count, layer) => {
      for (let head = 0; head < count; head += 1) {
        const weight = this.weights.get(`${layer},${head}`);
        const [x, y, size] = [GUTTER + head * this.size, layer * this.size, this.size - 1.5];
        context.fillStyle = `rgb(${quiet})`;
        context.fillRect(x, y, size, size);
        if (weight === undefined) continue;
        context.fillStyle = `rgb(${weight < 0 ? alarm : deep} / ${0.18 + (0.82 * Math.abs(weight)) / most})`;
        context.fillRect(x, y, size, size);
      }
    });
    context.fillStyle = `rgb(${ink})`;
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    const every = Math.ceil(14 / this.size);
    numHeads.forEach((_, layer) => {
      if (layer % every === 0) context.fillText(String(layer), 2, (layer + 0.5) * this.size);
    });
    context.textBaseline = "top";
    context.fillText(`layers down, heads 0–${across - 1} along`, 2, high - 14);
  }

  #point({ offsetX, offsetY }) {
    const [layer, head] = [Math.floor(offsetY / this.size), Math.floor((offsetX - GUTTER) / this.size)];
    const weight = this.weights.get(`${layer},${head}`);
    const exists = head >= 0 && head < (this.heads.num_heads[layer] ?? 0);
    const watched = weight === undefined ? "not watched" : `watched, weight ${weight.toFixed(3)}`;
    this.canvas.title = exists ? `layer ${layer}, head ${head}: ${watched}` : "";
  }
}

const headWords = ([name, weight]) => `layer ${name.replace(",", " head ")} (${weight.toFixed(2)})`;
