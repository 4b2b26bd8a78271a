// Read the trace of an answer as columns of numbers. Knows nothing of the page.

const HUES = 6;
const STROKES = 5;
const OTHERS = [
  { id: "generated", label: "the answer itself", hue: "answer" },
  { id: "template", label: "the template", hue: "none" },
  { id: "sink", label: "the first token, or a sink", hue: "none" },
];

/** What a group's name says of its heads. */
const GROUPS = { all: "all watched heads" };
export const groupLabel = (name) => GROUPS[name] ?? `heads of the group “${name}”`;

/** `document:1#0` is a sentence of `document:1`, and has its colour. */
const wholeOf = (id) => id.split("#", 1)[0];

function partColumns(segments) {
  const wholes = [...new Set(segments.map((one) => wholeOf(one.id)))];
  return segments.map(({ id, name, role, text, num_tokens: numTokens }) => {
    const number = wholes.indexOf(wholeOf(id));
    const stroke = (number + Math.floor(number / HUES)) % STROKES;
    return { id, role, text, numTokens, label: name ?? id, hue: String(number % HUES), stroke: String(stroke) };
  });
}

/** One answer: `columns` are its prompt's parts, and then the answer itself, the template and the sink. */
export class TraceModel {
  #matrices = new Map();

  constructor(answer) {
    this.answer = answer;
    const segments = answer.segments ?? [];
    this.numParts = segments.length;
    this.columns = [...partColumns(segments), ...OTHERS];
    this.watched = answer.watched ?? [];
    this.groups = Object.keys(answer.groups ?? {});
    this.numTokens = answer.tokens.completion;
    this.rowOf = new Map(this.watched.map((token, row) => [token, row]));
    this.sentences = answer.extra?.sentences ?? [];
    this.citations = answer.extra?.citations ?? [];
  }

  /** How many tokens were watched. */
  get numRows() {
    return this.watched.length;
  }

  /** Numbers of a group, column by column: that of column `c` and row `r` is at `c * numRows + r`. */
  matrix(group) {
    const known = this.#matrices.get(group);
    if (known) return known;
    const { mass, generated_mass, template_mass, sink_mass } = this.answer.groups[group];
    const made = new Float32Array(this.columns.length * this.numRows);
    [...mass, generated_mass, template_mass, sink_mass].forEach((one, at) => made.set(one, at * this.numRows));
    this.#matrices.set(group, made);
    return made;
  }

  /** What one token attended to, by column. */
  row(group, row) {
    const matrix = this.matrix(group);
    return this.columns.map((_, column) => matrix[column * this.numRows + row]);
  }

  /** The mean over rows `start` to `end`. */
  mean(group, start = 0, end = this.numRows) {
    const matrix = this.matrix(group);
    return this.columns.map((_, column) => {
      let sum = 0;
      for (let row = start; row < end; row += 1) sum += matrix[column * this.numRows + row];
      return end > start ? sum / (end - start) : 0;
    });
  }

  /** The part, or the answer itself, that a token attended to most: where heads look that tell nothing is left out. */
  most(group, row) {
    const matrix = this.matrix(group);
    let best = 0;
    for (let column = 1; column <= this.numParts; column += 1) {
      if (matrix[column * this.numRows + row] > matrix[best * this.numRows + row]) best = column;
    }
    return best;
  }

  /** What a token says; where texts are not kept, a dot for each of its characters, or one. */
  text(token) {
    const { texts, starts } = this.answer;
    if (texts) return texts[token];
    if (!starts) return "•";
    const length = (starts[token + 1] ?? starts[token] + 2) - starts[token];
    return "·".repeat(Math.max(1, Math.min(12, length)));
  }

  /** The sentence that a token stands in; the blank before a word is no part of it. */
  sentenceOf(token) {
    const { starts, texts } = this.answer;
    if (!starts || !this.sentences.length) return -1;
    const blank = texts ? texts[token].length - texts[token].trimStart().length : 0;
    const place = starts[token] + (texts && blank === texts[token].length ? 0 : blank);
    return this.sentences.findIndex((one) => place >= one.start && place < one.end);
  }

  /** The text of a sentence, or of what it is told. */
  said({ start, end }) {
    const { texts } = this.answer;
    return texts ? Array.from(texts.join("")).slice(start, end).join("").trim() : `characters ${start}–${end}`;
  }
}

export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)}%`;

/** A number of a group: shares in percent, others as they are. */
export const amount = (group, value) => (group === "all" ? percent(value) : value.toFixed(3));
