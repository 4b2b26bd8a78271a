// Show one answer of a trace: its text, its ribbon, its parts, its heads. Knows nothing of the server.

import { choice, element } from "../element.js";
import { HeadMap } from "./head_map.js";
import { groupLabel, percent, TraceModel } from "./model.js";
import { Ribbon } from "./ribbon.js";
import { sentencesList } from "./sentences.js";
import { SharesList } from "./shares_list.js";
import { ToldText } from "./told_text.js";

function coverageWords({ coverage, level }) {
  const { heads, layers, tokens, reason } = coverage;
  return `Watched: ${percent(heads)} of the heads, ${percent(layers)} of the layers, ${percent(tokens)} of the tokens; ${reason}. Kept at level ${level}.`;
}

function about({ model, route, created, finish, tokens }) {
  const at = new Date(1000 * created).toLocaleString();
  return `written by the model ${model} · ${at} · ${tokens.prompt} + ${tokens.completion} tokens · ${finish ?? "not read to its end"} · ${route}`;
}

function numbersOf({ entropy_bits: entropy, lookback, extra }) {
  const told = [];
  if (entropy !== null) told.push(`entropy ${entropy.toFixed(2)} bits`);
  if (lookback !== null) told.push(`lookback ${percent(lookback)}`);
  if (typeof extra?.risk === "number") told.push(`largest known risk ${percent(extra.risk)}`);
  if (typeof extra?.focus === "number") told.push(`focus on trusted instructions ${percent(extra.focus)}`);
  return told.join(" · ");
}

/** The answer of a trace, drawn; `root` holds it. `onToken(token)` is called where one is chosen. */
export class TraceView {
  constructor(onToken = () => {}) {
    this.onToken = onToken;
    /** What it is called beside another one. */
    this.name = "";
    this.root = element("article", "card trace");
    this.head = element("header", "trace-head");
    this.groups = element("select");
    this.groups.addEventListener("change", () => this.#draw());
    this.tools = element("p", "options");
    const label = element("label", "", "Heads ");
    label.append(this.groups);
    this.tools.append(label);
    const choose = (row) => this.choose(row);
    this.text = new ToldText("Tokens of the answer", choose);
    this.ribbon = new Ribbon(choose);
    this.shares = new SharesList();
    this.heads = new HeadMap();
    this.columns = element("div", "trace-columns");
    this.body = element("div", "trace-body");
    const side = element("div", "trace-side");
    side.append(this.shares.root, this.heads.root);
    this.columns.append(side, this.body);
    this.bare = element("p", "citation", "");
    this.coverage = element("p", "citation", "");
    const parts = [this.head, this.tools, this.text.root, this.ribbon.root, this.columns, this.bare, this.coverage];
    this.root.append(...parts);
  }

  /** Draw an answer of `/v1/traces/{id}`; `token` is the chosen one, or none. */
  show(answer, token = -1) {
    const model = (this.model = new TraceModel(answer));
    this.chosen = model.rowOf.get(token) ?? -1;
    const id = answer.index ? `${answer.id}, answer ${answer.index}` : answer.id;
    const title = element("h2", "object", this.name ? `${this.name}: ${id}` : id);
    this.head.replaceChildren(title, element("p", "author", about(answer)), element("p", "numbers", numbersOf(answer)));
    this.coverage.textContent = coverageWords(answer);
    const isTold = model.numRows > 0;
    for (const one of [this.tools, this.text.root, this.ribbon.root, this.columns]) one.hidden = !isTold;
    this.bare.textContent = isTold ? "" : bareWords(answer);
    if (!isTold) return;
    const before = this.groups.value;
    this.groups.replaceChildren(...model.groups.map((name) => choice(name, groupLabel(name))));
    if (model.groups.includes(before)) this.groups.value = before;
    this.body.replaceChildren(sentencesList(model));
    this.#draw();
  }

  choose(row) {
    this.chosen = row;
    this.text.choose(row);
    this.ribbon.choose(row);
    this.shares.show(this.model, this.groups.value, row);
    this.onToken(row < 0 ? -1 : this.model.watched[row]);
  }

  #draw() {
    const group = this.groups.value;
    this.text.show(this.model, group);
    this.ribbon.show(this.model, group);
    this.text.choose(this.chosen);
    this.ribbon.choose(this.chosen);
    this.shares.show(this.model, group, this.chosen);
    this.heads.show(this.model, group);
  }
}

function bareWords({ level, is_own: isOwn, mass }) {
  const told = Object.entries(mass).map(([role, share]) => `${role} ${percent(share)}`).join(", ");
  const whose = isOwn ? "" : " It belongs to another API key.";
  return told
    ? `A trace of level ${level} holds averages alone.${whose} Attended to: ${told}.`
    : `No token of it was watched.${whose}`;
}
