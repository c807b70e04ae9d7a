// Before and after, one upon the other, with a line between them that can be moved.

import { h } from "./dom.js";
import { t } from "./words.js";

export class Compare {
  #before = h("img", { alt: "" });
  #after = h("img", { class: "after", alt: "" });
  #labels = [h("span", { "aria-hidden": "true" }), h("span", { "aria-hidden": "true" })];
  #range = h("input", { type: "range", min: 0, max: 100, value: 50 });
  element = h("div", { class: "sheet compare" }, this.#before, this.#after, ...this.#labels, this.#range);

  constructor() {
    this.#range.addEventListener("input", () => this.#move());
  }

  /** Shows two addresses: what `alt` says, in that size, and before. `grey`: without its colours. */
  show(before, after, { alt, width, height, grey }) {
    this.element.classList.toggle("grey", grey);
    if (this.#after.src !== after) {
      this.#range.value = 50;
      this.#before.src = before;
      this.#after.src = after;
    }
    this.#after.alt = alt;
    this.element.style.setProperty("--ratio", width / height);
    this.#labels.forEach((label, place) => {
      label.textContent = t(place ? "after" : "before");
    });
    this.#range.setAttribute("aria-label", t("compare"));
    this.#move();
  }

  #move() {
    const at = this.#range.value;
    this.element.style.setProperty("--at", `${at}%`);
    this.#range.setAttribute("aria-valuetext", t("compareAt", { n: 100 - at }));
  }
}
