// Read the numbers that `/metrics` tells. Knows nothing of the page.

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;

/** Samples of Prometheus' text format: `{name, labels, value}`. */
export function samplesOf(text) {
  return text.split("\n").flatMap((line) => {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) return [];
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((one) => one.slice(1)));
    return [{ name: found[1], labels, value: Number(found[3]) }];
  });
}

function total(samples, name) {
  const found = samples.filter((one) => one.name === name);
  return found.length ? found.reduce((sum, one) => sum + one.value, 0) : null;
}

/** What a histogram's values were on average since `before`, or since the start where nothing is newer. */
function average(samples, before, name) {
  const [sum, count] = ["sum", "count"].map((end) => total(samples, `${name}_${end}`));
  if (!count) return null;
  const [oldSum, oldCount] = ["sum", "count"].map((end) => total(before, `${name}_${end}`) ?? 0);
  return count > oldCount ? (sum - oldSum) / (count - oldCount) : sum / count;
}

const most = (samples, name) => {
  const found = samples.filter((one) => one.name === name).map((one) => one.value);
  return found.length ? Math.max(...found) : null;
};
const milliseconds = (seconds) => `${(1000 * seconds).toFixed(seconds < 0.1 ? 1 : 0)} ms`;
const share = (value) => `${(100 * value).toFixed(value > 0 && value < 0.0995 ? 1 : 0)}%`;
const count = (value) => value.toLocaleString("en");

/** What is told of all requests: a title, its number by name, and how it is written. */
export const METERS = [
  ["Time to first token", (now, old) => average(now, old, "cynosure_time_to_first_token_seconds"), milliseconds],
  ["Time per output token", (now, old) => average(now, old, "cynosure_time_per_output_token_seconds"), milliseconds],
  ["Cache memory in use", (now) => most(now, "cynosure_kv_cache_usage_perc"), share],
  ["Requests running", (now) => total(now, "cynosure_num_requests_running"), count],
  ["Grounding risk", (now, old) => average(now, old, "cynosure_attn_risk"), share],
  ["Capture time", (now) => total(now, "cynosure_attn_capture_seconds_total"), milliseconds],
];

/** What stands in the safety lane. */
export const SAFETY = [
  ["Focus on trusted instructions", (now, old) => average(now, old, "cynosure_attn_focus"), share],
  ["Citations that held", (now) => most(now, "cynosure_attn_citation_held_ratio"), share],
  ["Sentences of unknown risk", (now) => total(now, "cynosure_attn_risk_unknown_total"), count],
  ["Reports dropped", (now) => total(now, "cynosure_attn_capture_drops_total"), count],
];

/** What the guard found, and the calls that it stopped: `[words, count]`, most first. */
export function findingsOf(samples) {
  return samples
    .filter((one) => one.name === "cynosure_guard_findings_total" && one.value)
    .map(({ labels, value }) => [`${labels.direction}: ${labels.kind}, ${labels.action}`, value])
    .sort(([, a], [, b]) => b - a);
}
