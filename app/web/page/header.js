// The top of the page: the service's state, the language, the theme.

import { switchLanguage, t } from "../i18n/i18n.js";
import { icon } from "./dom.js";

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Header {
  #state = ["starting", {}];

  /** `render` is called after a change of language, to render everything else. */
  constructor(render) {
    $("theme").addEventListener("click", () => this.#switch());
    dark.addEventListener("change", () => this.#theme());
    $("language").addEventListener("click", () => {
      switchLanguage();
      render();
    });
  }

  /** Shows the service's state: a key of `states` in the texts, and its values. */
  state(name, values = {}) {
    this.#state = [name, values];
    $("state").dataset.state = name;
    $("state").lastElementChild.textContent = t(`states.${name}`, values);
  }

  render() {
    $("language").textContent = t("other");
    $("language").lang = t("other") === "English" ? "en" : "zh";
    this.state(...this.#state);
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
      // for this visit only, then
    }
    this.#theme();
  }

  #theme() {
    const text = t(this.#dark ? "themeLight" : "themeDark");
    $("theme").replaceChildren(icon(this.#dark ? "sun" : "moon"));
    $("theme").setAttribute("aria-label", text);
    $("theme").title = text;
  }
}
