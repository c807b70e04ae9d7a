// The page's texts, in English or Chinese.

import { EN } from "./en.js";
import { ZH } from "./zh.js";

const TEXTS = { en: EN, zh: ZH };
const STORED = "tessera-language";

let current = stored() ?? (navigator.language.startsWith("zh") ? "zh" : "en");

function stored() {
  try {
    const found = localStorage.getItem(STORED);
    return found in TEXTS ? found : null;
  } catch {
    return null; // storage is off
  }
}

/** The current language: "en" or "zh". */
export const language = () => current;

/** The text of a key; `{name}` is filled in from `values`. Undefined where there is none. */
export function t(key, values = {}) {
  const text = key.split(".").reduce((texts, part) => texts?.[part], TEXTS[current]);
  if (typeof text !== "string") return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The label of a field or of a model's parameter: translated where it is well known, else its name. */
export function label(name) {
  const found = t(`labels.${name}`);
  if (typeof found === "string") return found;
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Switches to the other language. The caller renders again what it made itself. */
export function switchLanguage() {
  current = current === "en" ? "zh" : "en";
  try {
    localStorage.setItem(STORED, current);
  } catch {
    // for this visit only, then
  }
  translate();
}

/** Sets the text of every element that names a key: data-t, data-t-label, data-t-placeholder. */
export function translate(root = document) {
  document.documentElement.lang = current === "zh" ? "zh-Hans" : "en";
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
