// Hand out the colours of the page for canvases. Knows nothing of what is drawn.

const probe = document.createElement("i");
probe.hidden = true;

/** The red, green and blue of a CSS colour, as the reader's scheme has it. */
export function rgb(color) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = color;
  return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
}

/** The colour of a column: that of its part. */
export const hueOf = ({ hue }) => rgb(hue === "none" ? "var(--quiet)" : `var(--part-${hue})`);

/** A context whose unit is a CSS pixel, the canvas as large as it is shown. */
export function contextOf(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  const [wide, high] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/** Call `draw` where the size of an element, or the reader's scheme, is another. */
export function onLook(element, draw) {
  new ResizeObserver(() => draw()).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
}

/** Text that fits, with dots where it is cut. */
export function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let kept = text;
  while (kept && context.measureText(`${kept}…`).width > width) kept = kept.slice(0, -1);
  return `${kept}…`;
}
