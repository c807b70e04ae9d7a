// Prompts to suggest, and how a prompt names its style: both are the model's own.

const SHORT = 24; // characters: longer examples may be sentences
const NAMES_AT_ONCE = 7;
const SENTENCES_AT_ONCE = 4;

const CHINESE = /\p{Script=Han}/u;

/**
 * The `page`-th few of the model's examples, and whether there are `more`; starts over at the end.
 * Those in the language of the page, where there are such.
 */
export function suggestionsFor(model, language, page) {
  const examples = model?.examples ?? [];
  const own = examples.filter((prompt) => CHINESE.test(prompt) === (language === "zh"));
  const all = own.length ? own : examples;
  const most = all.every(({ length }) => length <= SHORT) ? NAMES_AT_ONCE : SENTENCES_AT_ONCE;
  const from = (page % Math.ceil(Math.max(1, all.length) / most)) * most;
  return { prompts: all.slice(from, from + most), more: all.length > most };
}

/** The name of that of a model's `styles` which a prompt ends with, or null. */
export const styleOf = (prompt, styles) => ending(prompt, styles)?.name ?? null;

/** The prompt ending with the style of that name, in its own language; with null, with none. */
export function withStyle(prompt, name, styles) {
  const bare = prompt.slice(0, ending(prompt, styles)?.from);
  const style = styles.find((candidate) => candidate.name === name);
  if (!style || !bare.trim()) return bare;
  return bare.trimEnd() + (CHINESE.test(bare) ? style.chinese : style.prompt);
}

/** The style that a prompt ends with, and `from` where it names it; the longest of several. */
function ending(prompt, styles) {
  let found = null;
  for (const { name, prompt: english, chinese } of styles) {
    const from = prompt.search(new RegExp(`(?:${loose(english)}|${loose(chinese)})\\s*$`, "i"));
    if (from >= 0 && from < (found?.from ?? Infinity)) found = { name, from };
  }
  return found;
}

/** A pattern of a text as people type it: with either comma, and any spaces or none. */
function loose(text) {
  const words = text.match(/[,，]|[^\s,，]+/g).map((word) =>
    /[,，]/.test(word) ? "[,，]" : word.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"),
  );
  return (/^\s/.test(text) ? "\\s+" : "\\s*") + words.join("\\s*");
}
