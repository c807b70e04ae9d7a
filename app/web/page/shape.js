// The size of a flexible model's pictures: an aspect to choose, or width and height as one likes.

import { language, t } from "../i18n/i18n.js";
import { h, icon } from "./dom.js";
import { nearest, parseSize, problemOf, shapesOf, sizeField } from "./sizes.js";

const AUTOMATIC = "automatic";

const $ = (id) => document.getElementById(id);

export class Shape {
  #inputs = [$("width"), $("height")];
  #model = null;
  #size = [0, 0]; // as last typed, also where it is not accepted
  #offered = false; // whether the size can be left to the service
  #automatic = true; // whether it is, where it can be
  #shown = ""; // what the shapes are for

  constructor() {
    $("swap").append(icon("swap"));
    $("swap").addEventListener("click", () => this.#set(this.#size.toReversed()));
    $("shapes").addEventListener("change", ({ target }) => this.#choose(target.value));
    for (const input of this.#inputs) {
      input.addEventListener("input", () => {
        this.#set(this.#inputs.map(({ value }) => (value === "" ? NaN : Number(value))));
      });
    }
  }

  /** What is chosen, as the service takes it; undefined: left to it. */
  get field() {
    return this.#left ? undefined : sizeField(...this.#size);
  }

  /** Chooses a size, if the model draws it. */
  set field(value) {
    const size = parseSize(value);
    if (this.#model && !problemOf(this.#model, size)) this.#set(size);
  }

  /** Shows it for a model. `automatic`: whether the size can be left to the service. */
  render(model, automatic) {
    if (this.#model?.id !== model.id) this.#adopt(model);
    this.#model = model;
    this.#offered = automatic;
    const shapes = shapesOf(model);
    const shown = JSON.stringify([shapes, automatic, language()]);
    if (this.#shown !== shown) {
      this.#shown = shown;
      $("shapes").replaceChildren(
        ...(automatic ? [choice(AUTOMATIC, t("asPicture"), t("asPicture"), null)] : []),
        ...shapes.map(({ name, size }) => choice(sizeField(...size), name, `${name}, ${size.join(" × ")}`, size)),
      );
    }
    this.#update();
  }

  get #left() {
    return this.#offered && this.#automatic;
  }

  /** Keeps the aspect that was chosen for another model, or the size where it was typed. */
  #adopt(model) {
    const shapes = shapesOf(model);
    const name = $("shapes").querySelector(":checked")?.dataset.name;
    const alike = shapes.find((shape) => shape.name === name);
    if (alike || problemOf(model, this.#size)) this.#size = (alike ?? shapes[0]).size;
  }

  #choose(value) {
    this.#automatic = this.#offered ? value === AUTOMATIC : this.#automatic;
    if (value !== AUTOMATIC) this.#size = parseSize(value);
    this.#update();
  }

  #set(size) {
    this.#size = size;
    this.#update();
  }

  #update() {
    const problem = this.#left ? null : problemOf(this.#model, this.#size);
    const field = this.#left ? AUTOMATIC : String(sizeField(...this.#size));
    for (const input of $("shapes").querySelectorAll("input")) input.checked = input.value === field;
    $("sides").hidden = this.#left;
    const { low, high, multiple, pixels } = this.#model.sizes;
    this.#inputs.forEach((input, index) => {
      const side = this.#size[index];
      if (Number(input.value) !== side && !Number.isNaN(side)) input.value = side;
      // No minimum or step: what is not accepted is said in words, and the nearest size offered.
      input.setAttribute("aria-invalid", String(problem !== null));
      input.setCustomValidity(problem ? wordsFor(problem) : "");
    });
    $("shape-note").hidden = this.#left || problem !== null;
    $("shape-note").textContent = t("sizeRule", { low, high, multiple, pixels: grouped(pixels) });
    this.#explain(problem);
  }

  #explain(problem) {
    const place = $("shape-problem");
    place.hidden = problem === null;
    if (!problem) {
      place.replaceChildren();
      return;
    }
    const sides = this.#size.map((side) => (side > 0 ? side : this.#model.sizes.width));
    const size = nearest(this.#model, sides);
    const onclick = () => {
      this.#set(size);
      $("width").focus();
    };
    place.replaceChildren(
      h("span", {}, wordsFor(problem)),
      " ",
      h("button", { type: "button", onclick }, t("useSize", { size: size.join(" × ") })),
    );
  }
}

function choice(value, name, title, size) {
  const box = h("i", { "aria-hidden": "true" });
  box.style.setProperty("--ratio", size ? size[0] / size[1] : 1);
  const input = h("input", { type: "radio", name: "shape", value, "data-name": name, "aria-label": title });
  return h("label", { title, class: size ? null : "automatic" }, input, size ? box : null, h("span", {}, name));
}

const grouped = (number) => Math.floor(number).toLocaleString(language());

const wordsFor = ([key, { pixels, ...values }]) => t(`sizeProblems.${key}`, { ...values, pixels: pixels && grouped(pixels) });
