// Say how much of the attention each part of a prompt got. Knows nothing of the page.

export const ANSWER = { id: "generated", label: "the answer itself" };
const OTHERS = [
  { id: "rest", label: "between the parts" },
  { id: "template", label: "the template" },
  { id: "sink", label: "the first token, or a sink" },
];

/** Everything that shares can be of, in order; those that colours tell come first. */
export const kinds = (parts) => [...parts, ANSWER, ...OTHERS];

/** Shares by the id of a kind, of one token or of a whole answer. */
export function sharesOf(parts, told) {
  const shares = { [ANSWER.id]: told.generated_mass, template: told.template_mass, sink: told.sink_mass, rest: 0 };
  for (const part of parts) shares[part.id] = 0;
  const masses = told.mass ?? Object.fromEntries(told.segments.map((one) => [one.id, one.mass]));
  for (const [id, mass] of Object.entries(masses)) {
    // A second string of one name has `.1` behind it, a sentence of one `#1`.
    const name = id.split(/[.#]/)[0];
    shares[name in shares ? name : "rest"] += mass;
  }
  return shares;
}

/** The mean of several. */
export function mean(all) {
  const total = {};
  for (const shares of all) {
    for (const [id, share] of Object.entries(shares)) total[id] = (total[id] ?? 0) + share / all.length;
  }
  return total;
}

/** Which part, or the answer itself, got most. */
export function most(parts, shares) {
  return [...parts, ANSWER].reduce((best, one) => (shares[one.id] > shares[best.id] ? one : best));
}
