// Make a request of the parts of a prompt, so that each has a name in what is told. Knows nothing of the page.

const BIAS = { less: -3, more: 1.5 };

/** What an answer is to be told and changed of attention; `setting` has a part and what becomes of it. */
function attention({ part, treatment }) {
  const asked = { level: "summary" };
  if (treatment === "deny") asked.deny = [part];
  else if (treatment in BIAS) asked.bias = [{ segment: part, add: BIAS[treatment] }];
  return asked;
}

function conversation(parts) {
  const content = (some) =>
    some.map(({ id, text }, at) => ({ type: "text", text: at < some.length - 1 ? `${text}\n` : text, segment: id }));
  const [first, rest] = [parts.filter((part) => part.isInstruction), parts.filter((part) => !part.isInstruction)];
  const messages = [{ role: "user", content: content(rest) }];
  return first.length ? [{ role: "system", content: content(first) }, ...messages] : messages;
}

/** One text, and where its parts stand in it, in code points. */
function plain(parts) {
  let [prompt, length] = ["", 0];
  const segments = [];
  for (const { id, text } of parts) {
    const points = Array.from(text).length;
    segments.push({ id, start: length, end: length + points });
    prompt += `${text}\n\n`;
    length += points + 2;
  }
  return { prompt, segments };
}

/** Address and body for a model of `/v1/models` that answers `parts`: those that are not empty, in order. */
export function request(model, parts, setting, maxTokens) {
  const told = attention(setting);
  const body = { model: model.id, max_tokens: maxTokens, temperature: setting.temperature, seed: 0 };
  if (setting.quotes) body.grounding = "verbatim";
  if (model.capabilities.includes("chat")) {
    const messages = conversation(parts);
    return { path: "/v1/chat/completions", body: { ...body, messages, logprobs: true, attention: told } };
  }
  const { prompt, segments } = plain(parts);
  return { path: "/v1/completions", body: { ...body, prompt, logprobs: 0, attention: { ...told, segments } } };
}

/** The text of a piece of a stream, its tokens' own texts, and what each attended to. */
export function pieceOf(event) {
  const [choice] = event.choices;
  if (!choice) return { text: "", names: [], told: [], whole: null, quotes: null };
  const named = choice.logprobs?.tokens ?? choice.logprobs?.content?.map((one) => one.token) ?? [];
  const attended = choice.attention;
  return {
    text: choice.text ?? choice.delta?.content ?? "",
    names: named,
    told: attended?.tokens ?? [],
    whole: attended?.coverage ? attended : null,
    quotes: choice.grounding?.spans ?? null,
  };
}
