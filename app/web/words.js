// The page's words, in the language that is spoken now.

import { ZH } from "./chinese.js";
import { EN } from "./english.js";

const WORDS = { en: EN, zh: ZH };
const KEPT = "tessera-language";

let language = kept() ?? (navigator.language.startsWith("zh") ? "zh" : "en");

function kept() {
  try {
    const found = localStorage.getItem(KEPT);
    return found in WORDS ? found : null;
  } catch {
    return null; // storage is off
  }
}

/** The language spoken now: "en" or "zh". */
export const spoken = () => language;

/** The words for a key; `{name}` is filled in from `values`. */
export function t(key, values = {}) {
  const text = key.split(".").reduce((words, part) => words?.[part], WORDS[language]);
  if (typeof text !== "string") return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Speaks the other language from now on. The caller renders what it made itself again. */
export function switchLanguage() {
  language = language === "en" ? "zh" : "en";
  try {
    localStorage.setItem(KEPT, language);
  } catch {
    // only this visit, then
  }
  speak();
}

/** Puts words into everything that names them: data-t, data-t-label, data-t-placeholder. */
export function speak(root = document) {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = t("title");
  for (const node of root.querySelectorAll("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of root.querySelectorAll("[data-t-label]")) {
    node.setAttribute("aria-label", t(node.dataset.tLabel));
    if (node.matches("button")) node.title = t(node.dataset.tLabel);
  }
  for (const node of root.querySelectorAll("[data-t-placeholder]")) {
    node.placeholder = t(node.dataset.tPlaceholder);
  }
}
