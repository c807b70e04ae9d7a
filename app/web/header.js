// The top of the page: which language, which theme, and how the service is.

import { icon } from "./dom.js";
import { switchLanguage, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Header {
  #state = ["loading", {}];

  /** `render` is called after a change of language, to say everything else anew. */
  constructor(render) {
    $("theme").addEventListener("click", () => this.#switch());
    dark.addEventListener("change", () => this.#theme());
    $("language").addEventListener("click", () => {
      switchLanguage();
      render();
    });
  }

  /** How the service is: a key of the dictionary, and its values. */
  status(name, values = {}) {
    this.#state = [name, values];
    $("status").dataset.state = name;
    $("status").lastElementChild.textContent = t(name, values);
  }

  render() {
    $("language").textContent = t("other");
    $("language").lang = t("other") === "English" ? "en" : "zh";
    this.status(...this.#state);
    this.#theme();
  }

  get #dark() {
    const { theme: chosen } = document.documentElement.dataset;
    return chosen ? chosen === "dark" : dark.matches;
  }

  #switch() {
    const next = this.#dark ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    try {
      localStorage.setItem("tessera-theme", next);
    } catch {
      // only this visit, then
    }
    this.#theme();
  }

  #theme() {
    const label = t(this.#dark ? "themeLight" : "themeDark");
    $("theme").replaceChildren(icon(this.#dark ? "sun" : "moon"));
    $("theme").setAttribute("aria-label", label);
    $("theme").title = label;
  }
}
