// The part of the form about a picture to start from: which one, what to do with it, how far.

import { h, icon } from "./dom.js";
import { Easel } from "./easel.js";
import { enlargeable, FACTORS, offered, OPERATIONS, SIDES } from "./operations.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);

export class Bench {
  #model = null;
  #source = null;
  #operation = "vary";
  #options = { strength: {}, factor: 2, noise: null, amount: 25, sides: new Set(SIDES) };
  #changed;
  #say;
  easel = null;

  /** `changed` is told whether the "operation", the "controls" or just their "values" have. */
  constructor(changed, say) {
    this.#changed = changed;
    this.#say = say;
    $("source-remove").append(icon("cross"));
    $("start").prepend(icon("picture"));
    $("source-remove").addEventListener("click", () => {
      this.put(null);
      this.focus();
    });
    $("source-show").addEventListener("click", () => this.#changed("controls"));
    $("operations").addEventListener("change", ({ target }) => this.#choose(target.value));
  }

  get source() {
    return this.#source;
  }

  get operation() {
    return this.#operation;
  }

  /** Whether the model can do anything with a picture. */
  get able() {
    return offered(this.#model).length > 0;
  }

  set model(model) {
    this.#model = model;
    const names = offered(model);
    if (!names.includes(this.#operation)) [this.#operation = "vary"] = names;
    if (!this.able && this.#source) this.put(null);
  }

  /** Puts a picture there, or with null takes it away. */
  put(source) {
    this.#source = source;
    this.easel = source && new Easel(source, this.#model.size, this.#say);
    if (source) [this.#operation] = offered(this.#model);
    this.#changed("operation");
  }

  /** What is to be done, in the service's fields; `mask` is one to be written when it is sent. */
  take() {
    const { strength, noise, factor, margins, mask } = OPERATIONS[this.#operation];
    const work = { operation: this.#operation };
    if (strength) work.strength = this.#strength / 100;
    if (noise && this.#options.noise !== null) work.noise = this.#options.noise;
    if (factor) {
      work.factor = this.#options.factor;
      work.longest = enlargeable(this.#model, work.factor);
    }
    if (margins) {
      for (const side of SIDES) work[side] = this.#options.sides.has(side) ? this.#options.amount : 0;
    }
    if (mask) work.mask = this.easel.mask.still;
    return work;
  }

  /** To what can be done with the picture; without one, to where one can be chosen. */
  focus() {
    (this.#source ? $("operations").querySelector(":checked") : $("start")).focus();
  }

  render() {
    const source = this.#source;
    $("start").hidden = !this.able || source !== null;
    $("bench").hidden = source === null;
    if (!source) return;
    this.easel.work = this.take();
    $("source-image").src = source.url;
    $("source-name").textContent = source.name;
    $("source-size").textContent = t("pixels", source);
    $("operation-note").textContent = t(`operations.${this.#operation}.1`);
    $("operations").replaceChildren(
      h("legend", { class: "unseen" }, t("operation")),
      ...offered(this.#model).map((name) => this.#radio("operation", name, t(`operations.${name}.0`), name === this.#operation)),
    );
    $("options").replaceChildren(...this.#controls());
  }

  get #strength() {
    return this.#options.strength[this.#operation] ?? OPERATIONS[this.#operation].strength;
  }

  #choose(operation) {
    this.#operation = operation;
    this.#changed("operation");
    this.focus();
  }

  #set(name, value) {
    this.#options[name] = value;
    this.easel.work = this.take();
    this.#changed("values");
  }

  #controls() {
    const { strength, factor, noise, margins } = OPERATIONS[this.#operation];
    return [
      strength && this.#slider("strength", this.#strength, 5, 100, (value) =>
        this.#set("strength", { ...this.#options.strength, [this.#operation]: value })),
      factor && this.#factors(),
      factor && this.#shrunk(),
      noise && this.#noise(),
      margins && this.#margins(),
      margins && this.#slider("amount", this.#options.amount, 5, 100, (value) => this.#set("amount", value)),
    ].filter(Boolean);
  }

  #slider(name, value, min, max, set) {
    const output = h("output", { for: name }, `${value} %`);
    const oninput = ({ target }) => {
      output.textContent = `${target.value} %`;
      set(Number(target.value));
    };
    return h("div", { class: "field" },
      h("label", { for: name }, h("span", {}, t(name)), " ", output),
      h("input", { type: "range", id: name, min, max, value, oninput }),
    );
  }

  #factors() {
    const onchange = ({ target }) => {
      this.#options.factor = Number(target.value);
      this.#changed("controls");
      $("options").querySelector(":checked").focus();
    };
    return h("fieldset", { class: "field" },
      h("legend", {}, t("factor")),
      h("div", { class: "segments", onchange },
        ...FACTORS.map((times) => this.#radio("factor", times, `${times} ×`, times === this.#options.factor)),
      ),
    );
  }

  #shrunk() {
    const { longest } = this.take();
    const [width, height] = this.#source.within(longest);
    const words = width === this.#source.width ? "enlargeable" : "shrunk";
    return h("p", { class: "note" }, t(words, { n: longest, width, height }));
  }

  #noise() {
    const given = this.#options.noise !== null;
    const onchange = ({ target }) => {
      this.#options.noise = target.checked ? null : 0.1;
      this.#changed("controls");
      $("noise-guess").focus();
    };
    const guess = h("input", { type: "checkbox", id: "noise-guess", checked: !given, onchange });
    const slider = given && this.#slider("noise", 100 * this.#options.noise, 1, 50, (value) => this.#set("noise", value / 100));
    return h("div", { class: "field" }, h("label", { class: "check" }, guess, " ", h("span", {}, t("noiseGuess"))), slider || null);
  }

  #margins() {
    const onchange = ({ target }) => {
      const { sides } = this.#options;
      if (target.checked) sides.add(target.value);
      else sides.delete(target.value);
      this.#changed("values");
    };
    return h("fieldset", { class: "field" },
      h("legend", {}, t("sides")),
      h("div", { class: "segments", onchange },
        ...SIDES.map((side) =>
          h("label", {},
            h("input", { type: "checkbox", name: "side", value: side, checked: this.#options.sides.has(side) }),
            h("span", {}, t(`side.${side}`)),
          ),
        ),
      ),
    );
  }

  #radio(name, value, words, checked) {
    return h("label", {}, h("input", { type: "radio", name, value, checked }), h("span", {}, words));
  }
}
