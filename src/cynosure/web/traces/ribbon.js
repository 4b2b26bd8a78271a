// Draw what every token attended to, parts down and tokens along, at any length. Knows nothing of the server.

import { element } from "../element.js";
import { amount } from "./model.js";
import { contextOf, fitted, hueOf, onLook, rgb } from "./paint.js";
import { Sums } from "./sums.js";

const AXIS = 20;
const STRIP = 22;
const [MOST_HIGH, LEAST_ROW, MOST_ROW] = [420, 5, 22];
const LEAST_SPAN = 8;
const KEYS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

function button(text, label, action) {
  const made = element("button", "", text);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", action);
  return made;
}

/** The least of 1, 2, 5, 10, 20 ... that is not below `least`. */
function evenStep(least) {
  const ten = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((one) => one * ten).find((one) => one >= least);
}

/** A view of rows `start` to `end`; the whole is in a strip below it. */
export class Ribbon {
  #model = null;
  #dragged = null;
  #frame = 0;

  /** `onChoose(row)` is called where the reader chooses a token. */
  constructor(onChoose) {
    this.onChoose = onChoose;
    this.root = element("div", "ribbon");
    this.heat = element("canvas", "heat");
    this.strip = element("canvas", "strip");
    this.strip.setAttribute("aria-hidden", "true");
    Object.entries({ role: "slider", tabindex: "0", "aria-label": "Token", "aria-valuemin": "0" })
      .forEach(([name, value]) => this.heat.setAttribute(name, value));
    const tools = element("p", "ribbon-tools");
    this.said = element("span", "ribbon-place", "");
    tools.append(
      this.said,
      button("−", "See more tokens", () => this.zoom(2)),
      button("+", "See fewer tokens", () => this.zoom(0.5)),
      button("Whole", "See all tokens", () => this.see(0, this.numRows)),
    );
    this.root.append(tools, this.heat, this.strip);
    this.#listen();
    onLook(this.root, () => this.#model && this.#paint());
  }

  get numRows() {
    return this.#model?.numRows ?? 0;
  }

  /** Show a group of a trace; another group of the same one keeps the place. */
  show(model, group) {
    if (model !== this.#model) [this.start, this.end, this.chosen] = [0, model.numRows, -1];
    [this.#model, this.group] = [model, group];
    const matrix = model.matrix(group);
    this.sums = new Sums(matrix, model.columns.length, model.numRows);
    // Shares have a scale of their own; other numbers are drawn against the largest.
    this.full = group === "all" ? 1 : matrix.reduce((most, one) => Math.max(most, one), 1e-9);
    this.heat.setAttribute("aria-valuemax", String(Math.max(0, model.numRows - 1)));
    this.#paint();
  }

  /** Mark a row, and have it in the view; -1 is none. */
  choose(row) {
    this.chosen = row;
    const span = this.end - this.start;
    if (row >= 0 && (row < this.start || row >= this.end)) this.see(row - span / 2, row + span / 2);
    else this.later();
  }

  /** See rows `start` to `end`, as far as there are any. */
  see(start, end) {
    const span = Math.max(Math.min(LEAST_SPAN, this.numRows), Math.min(this.numRows, end - start));
    this.start = Math.max(0, Math.min(this.numRows - span, start));
    this.end = this.start + span;
    this.later();
  }

  /** See so many times as many rows, around row `at`. */
  zoom(factor, at = this.chosen >= this.start && this.chosen < this.end ? this.chosen : (this.start + this.end) / 2) {
    const share = (at - this.start) / (this.end - this.start);
    const span = (this.end - this.start) * factor;
    this.see(at - share * span, at + (1 - share) * span);
  }

  /** Draw in the next frame, once. */
  later() {
    this.#frame ||= requestAnimationFrame(() => this.draw());
  }

  #paint() {
    const { columns } = this.#model;
    this.hues = columns.map(hueOf);
    [this.ink, this.quiet, this.line, this.sheet, this.deep] = ["ink", "quiet", "line", "sheet", "deep"].map(
      (name) => `rgb(${rgb(`var(--${name})`)})`,
    );
    this.rowHigh = Math.max(LEAST_ROW, Math.min(MOST_ROW, Math.floor(MOST_HIGH / columns.length)));
    this.high = this.rowHigh * columns.length + AXIS;
    this.heat.style.height = `${this.high}px`;
    this.whole = null;
    this.draw();
  }

  /** Draw now; resolves to nothing, and tells nobody. */
  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const wide = this.heat.clientWidth;
    if (!this.#model || !wide || !this.numRows) return;
    this.gutter = wide < 520 ? 78 : 150;
    this.plot = Math.max(1, wide - this.gutter);
    const context = contextOf(this.heat, wide, this.high);
    this.#drawHeat(context);
    this.#drawNames(context);
    this.#drawAxis(context);
    this.#drawStrip(wide);
    const [first, last] = [this.start, this.end - 1].map((row) => this.#model.watched[Math.round(row)] ?? 0);
    this.said.textContent = `tokens ${first}–${last} of ${this.#model.numTokens}`;
  }

  /** One line of pixels for each column, drawn as high as a row is. */
  #drawHeat(context) {
    const scale = window.devicePixelRatio || 1;
    const wide = Math.round(this.plot * scale);
    const numColumns = this.#model.columns.length;
    if (this.lines?.canvas.width !== wide || this.lines.canvas.height !== numColumns) {
      this.lines = new OffscreenCanvas(wide, numColumns).getContext("2d");
      this.image = new ImageData(wide, numColumns);
      this.bins = new Float64Array(wide);
    }
    const pixels = new Uint32Array(this.image.data.buffer);
    for (let column = 0; column < numColumns; column += 1) {
      this.sums.means(column, this.start, this.end, this.bins);
      const [red, green, blue] = this.hues[column];
      const [color, base] = [(blue << 16) | (green << 8) | red, column * wide];
      for (let x = 0; x < wide; x += 1) {
        // The root lets a share of a hundredth still be seen.
        const alpha = Math.round(255 * Math.sqrt(Math.max(0, Math.min(1, this.bins[x] / this.full))));
        pixels[base + x] = ((alpha << 24) | color) >>> 0;
      }
    }
    this.lines.putImageData(this.image, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.lines.canvas, this.gutter, 0, this.plot, this.rowHigh * numColumns);
    context.fillStyle = this.line;
    for (let column = 1; column <= numColumns; column += 1) {
      context.fillRect(this.gutter, column * this.rowHigh - 1, this.plot, 1);
    }
    this.#drawChosen(context, this.rowHigh * numColumns);
  }

  #xOf(row) {
    return this.gutter + ((row - this.start) / (this.end - this.start)) * this.plot;
  }

  #drawChosen(context, high) {
    if (this.chosen < this.start || this.chosen >= this.end) return;
    const wide = Math.max(2, this.#xOf(this.chosen + 1) - this.#xOf(this.chosen));
    context.strokeStyle = this.ink;
    context.lineWidth = 2;
    context.strokeRect(this.#xOf(this.chosen), 1, wide, high - 2);
  }

  #drawNames(context) {
    if (this.rowHigh < 10) return;
    context.font = `${Math.min(13, this.rowHigh - 3)}px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "middle";
    this.#model.columns.forEach((column, at) => {
      const y = at * this.rowHigh;
      context.fillStyle = `rgb(${this.hues[at]})`;
      context.fillRect(0, y + 3, 4, this.rowHigh - 6);
      context.fillStyle = this.ink;
      context.fillText(fitted(context, column.label, this.gutter - 16), 9, y + this.rowHigh / 2);
    });
  }

  #drawAxis(context) {
    const y = this.rowHigh * this.#model.columns.length;
    context.fillStyle = this.quiet;
    context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    context.textBaseline = "top";
    const step = evenStep(((this.end - this.start) * 90) / this.plot);
    for (let row = Math.ceil(this.start / step) * step; row < this.end; row += step) {
      const x = this.#xOf(row);
      const token = String(this.#model.watched[row]);
      context.textAlign = x + 20 > this.gutter + this.plot ? "right" : x < this.gutter + 6 ? "left" : "center";
      context.fillText(token, x, y + 5);
    }
    context.textAlign = "left";
  }

  /** The whole answer, what got how much one upon the other, drawn once; and on it where the view is. */
  #drawStrip(wide) {
    const context = contextOf(this.strip, wide, STRIP);
    if (this.whole?.width !== Math.round(this.plot)) this.whole = this.#stacked(Math.round(this.plot));
    context.drawImage(this.whole, this.gutter, 0, this.plot, STRIP);
    const [from, to] = [this.start, this.end].map((row) => this.gutter + (row / this.numRows) * this.plot);
    context.fillStyle = this.sheet;
    context.globalAlpha = 0.72;
    context.fillRect(this.gutter, 0, from - this.gutter, STRIP);
    context.fillRect(to, 0, wide - to, STRIP);
    context.globalAlpha = 1;
    context.strokeStyle = this.deep;
    context.lineWidth = 2;
    context.strokeRect(from + 1, 1, Math.max(4, to - from - 2), STRIP - 2);
  }

  #stacked(wide) {
    const canvas = new OffscreenCanvas(wide, STRIP);
    const context = canvas.getContext("2d");
    const [tops, bins] = [new Float64Array(wide), new Float64Array(wide)];
    this.#model.columns.forEach((column, at) => {
      this.sums.means(at, 0, this.numRows, bins);
      context.fillStyle = `rgb(${this.hues[at]})`;
      context.globalAlpha = column.hue === "none" ? 0.35 : 1;
      for (let x = 0; x < wide; x += 1) {
        const high = Math.max(0, (bins[x] / this.full) * STRIP);
        context.fillRect(x, tops[x], 1, high);
        tops[x] += high;
      }
    });
    return canvas;
  }

  #listen() {
    this.heat.addEventListener("pointerdown", (event) => this.#press(event, this.heat));
    this.strip.addEventListener("pointerdown", (event) => this.#press(event, this.strip));
    for (const canvas of [this.heat, this.strip]) {
      canvas.addEventListener("pointermove", (event) => this.#move(event, canvas));
      canvas.addEventListener("pointerup", (event) => this.#release(event, canvas));
      canvas.addEventListener("pointercancel", () => (this.#dragged = null));
    }
    this.heat.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.heat.addEventListener("keydown", (event) => this.#key(event));
  }

  /** The row under a pointer, over the view or over the whole. */
  #rowAt(event, canvas) {
    const share = (event.offsetX - this.gutter) / this.plot;
    const row = canvas === this.strip ? share * this.numRows : this.start + share * (this.end - this.start);
    return Math.max(0, Math.min(this.numRows - 1, row));
  }

  #press(event, canvas) {
    if (!this.numRows) return;
    canvas.setPointerCapture(event.pointerId);
    this.#dragged = { x: event.offsetX, start: this.start, hasMoved: false };
    if (canvas === this.strip) this.#centre(event);
  }

  #centre(event) {
    const [at, half] = [this.#rowAt(event, this.strip), (this.end - this.start) / 2];
    this.see(at - half, at + half);
  }

  #move(event, canvas) {
    const dragged = this.#dragged;
    if (!dragged) return;
    if (canvas === this.strip) return void this.#centre(event);
    const by = event.offsetX - dragged.x;
    dragged.hasMoved ||= Math.abs(by) > 4;
    const span = this.end - this.start;
    const start = dragged.start - (by / this.plot) * span;
    if (dragged.hasMoved) this.see(start, start + span);
  }

  #release(event, canvas) {
    const dragged = this.#dragged;
    this.#dragged = null;
    if (dragged && !dragged.hasMoved && canvas === this.heat) this.#pick(Math.floor(this.#rowAt(event, canvas)));
  }

  /** Sideways goes along, with Ctrl it goes nearer; up and down are the page's own. */
  #wheel(event) {
    const along = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.ctrlKey) this.zoom(Math.exp(event.deltaY / 300), this.#rowAt(event, this.heat));
    else if (Math.abs(along) > Math.abs(event.shiftKey ? 0 : event.deltaY)) {
      const by = (along / this.plot) * (this.end - this.start);
      this.see(this.start + by, this.end + by);
    } else return;
    event.preventDefault();
  }

  #key(event) {
    const span = this.end - this.start;
    const at = this.chosen < 0 ? Math.round(this.start) - 1 : this.chosen;
    const far = { PageDown: span, PageUp: -span, Home: -this.numRows, End: this.numRows }[event.key];
    const step = KEYS[event.key] ?? (far && Math.round(far));
    if (step) this.#pick(Math.max(0, Math.min(this.numRows - 1, at + step)));
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else return;
    event.preventDefault();
  }

  #pick(row) {
    this.choose(row);
    const [model, best] = [this.#model, this.#model.most(this.group, row)];
    const share = amount(this.group, model.row(this.group, row)[best]);
    const token = model.watched[row];
    this.heat.setAttribute("aria-valuenow", String(row));
    const said = `token ${token}, ${model.text(token)}, attended to ${model.columns[best].label} most: ${share}`;
    this.heat.setAttribute("aria-valuetext", said);
    this.onChoose(row);
  }
}
