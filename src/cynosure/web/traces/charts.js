// Draw small charts over a row of answers, oldest first. Knows nothing of where they come from.

import { element } from "../element.js";
import { contextOf, onLook, rgb } from "./paint.js";

const MAX_BINS = 120;

/** Equal groups of neighbours, so many at most, each as the mean of `numbersOf`; what is null is left out. */
export function binned(rows, numbersOf) {
  const size = Math.ceil(rows.length / MAX_BINS) || 1;
  const bins = [];
  for (let at = 0; at < rows.length; at += size) {
    const told = rows.slice(at, at + size).map(numbersOf).filter((one) => one !== null);
    bins.push(told.length ? told[0].map((_, place) => told.reduce((sum, one) => sum + one[place], 0) / told.length) : null);
  }
  return bins;
}

/** A canvas that draws itself again where it must. */
class Chart {
  constructor(high, label) {
    this.high = high;
    this.canvas = element("canvas", "chart");
    this.canvas.style.height = `${high}px`;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label);
    this.bins = [];
    onLook(this.canvas, () => this.draw());
  }

  show(bins) {
    this.bins = bins;
    this.draw();
  }

  get context() {
    const wide = this.canvas.clientWidth;
    return wide ? contextOf(this.canvas, wide, this.high) : null;
  }
}

/** Shares of each kind, one upon the other; together they are 1. */
export class Stacked extends Chart {
  constructor(high, label, hues) {
    super(high, label);
    this.hues = hues;
  }

  draw() {
    const [context, { length }] = [this.context, this.bins];
    if (!context) return;
    const hues = this.hues.map((hue) => rgb(hue).join(" "));
    const step = this.canvas.clientWidth / Math.max(1, length);
    this.bins.forEach((bin, at) => {
      let top = this.high;
      bin?.forEach((share, kind) => {
        const high = Math.max(0, share) * this.high;
        context.fillStyle = `rgb(${hues[kind]})`;
        context.fillRect(at * step, (top -= high), Math.max(1, step - (step > 6 ? 1 : 0)), high);
      });
    });
  }
}

/** One number as a line, from 0 to the most that it was. */
export class Line extends Chart {
  draw() {
    const context = this.context;
    if (!context) return;
    const known = this.bins.filter((one) => one !== null).map(([one]) => one);
    const most = Math.max(...known, 1e-9) * 1.1;
    const step = this.canvas.clientWidth / Math.max(1, this.bins.length - 1);
    context.strokeStyle = `rgb(${rgb("var(--line)")})`;
    context.strokeRect(0, this.high - 0.5, this.canvas.clientWidth, 0);
    context.strokeStyle = `rgb(${rgb("var(--deep)")})`;
    context.lineWidth = 1.75;
    context.lineJoin = "round";
    context.beginPath();
    let isDown = false;
    this.bins.forEach((one, at) => {
      if (one === null) return void (isDown = false);
      const y = this.high - 2 - (one[0] / most) * (this.high - 4);
      if (isDown) context.lineTo(at * step, y);
      else context.moveTo(at * step, y);
      isDown = true;
    });
    if (known.length === 1) context.arc(0, this.high - 2 - (known[0] / most) * (this.high - 4), 1.5, 0, 7);
    context.stroke();
  }
}
