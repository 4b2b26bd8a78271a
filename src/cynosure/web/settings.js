// Let each of two answers have a model, a temperature and a change to one part. Knows nothing of the server.

import { choice, element } from "./element.js";
import { offerModels } from "./catalog.js";

const TREATMENTS = [
  ["", "as it is"],
  ["deny", "nothing attends to it"],
  ["less", "attended to less"],
  ["more", "attended to more"],
];

function labelled(text, control) {
  const label = element("label", "", `${text} `);
  label.append(control);
  return label;
}

/** The fields of one answer. */
export class Setting {
  constructor(name, { temperature, part, treatment }) {
    this.name = name;
    this.root = element("fieldset", "setting");
    this.model = element("select");
    this.temperature = element("input");
    const range = { min: "0", max: "2", step: "0.1" };
    Object.assign(this.temperature, { type: "number", ...range, value: temperature, required: true });
    this.part = element("select");
    this.part.dataset.wanted = part;
    this.treatment = element("select");
    this.treatment.append(...TREATMENTS.map(([value, text]) => choice(value, text)));
    this.treatment.value = treatment;
    this.quotes = element("input");
    this.quotes.type = "checkbox";
    this.root.append(
      element("legend", "", `Answer ${name}`),
      labelled("Model", this.model),
      labelled("Temperature", this.temperature),
      labelled("Part", this.part),
      labelled("is", this.treatment),
      labelled("Only quotes of the documents", this.quotes),
    );
  }

  /** Offer these parts, and the models that are served. */
  offer(parts) {
    const chosen = this.part.value || this.part.dataset.wanted;
    this.part.replaceChildren(...parts.map((part) => choice(part.id, part.label)));
    if (parts.some((part) => part.id === chosen)) this.part.value = chosen;
    offerModels(this.model, "attention");
  }

  get values() {
    const { model, temperature, part, treatment, quotes } = this;
    const changed = { part: part.value, treatment: treatment.value };
    return { model: model.value, temperature: Number(temperature.value), quotes: quotes.checked, ...changed };
  }
}
