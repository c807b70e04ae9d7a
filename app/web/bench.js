// The part of the form about a picture to start from: which one, what to do with it, how far.

import { h, icon } from "./dom.js";
import { Easel } from "./easel.js";
import { doer, enlargeable, FACTORS, offered, OPERATIONS, sentWith, SIDES } from "./operations.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);

export class Bench {
  #model = null;
  #models = [];
  #most = Infinity; // pixels of all answers to one request
  #source = null;
  #operation = "vary";
  #options = { strength: {}, factor: 2, noise: null, amount: 25, sides: new Set(SIDES), labels: "" };
  #smaller = h("p", { class: "note" });
  #n = 1; // pictures that shall be made of it
  #changed;
  #words;
  #say;
  easel = null;

  /**
   * `changed` is told whether the "operation", the "controls" or just their "values" have; `words`
   * is given those that a picture was described with, to be drawn.
   */
  constructor(changed, words, say) {
    this.#changed = changed;
    this.#words = words;
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

  /** The model that is to do it. */
  get model() {
    return doer(this.#operation, this.#model, this.#models);
  }

  /** Whether anything can be done with a picture. */
  get able() {
    return this.#offered.length > 0;
  }

  get #offered() {
    return offered(this.#model, this.#models);
  }

  /** The chosen model, all of them, and the limits of the service. */
  offer(model, models, limits) {
    this.#model = model;
    this.#models = models;
    this.#most = limits.upload_pixels ?? Infinity;
    const names = this.#offered;
    if (!names.includes(this.#operation)) [this.#operation = "vary"] = names;
    if (!this.able && this.#source) this.put(null);
  }

  /** Puts a picture there, or with null takes it away; `operation` is to be done with it. */
  put(source, operation = this.#offered[0]) {
    this.#source = source;
    this.easel = source && new Easel(source, this.#words, this.#say);
    if (source) this.#operation = operation;
    this.#changed("operation");
  }

  /** What is to be done, in the service's fields; `mask` is one to be written when it is sent. */
  take() {
    const { noise, factor, margins, mask, labels } = OPERATIONS[this.#operation];
    const work = { operation: this.#operation, most: this.#most };
    if (this.#starts) work.strength = this.#strength / 100;
    if (labels) work.labels = lines(this.#options.labels);
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

  /** `n`: how many pictures shall be made of it. */
  render(n) {
    const source = this.#source;
    $("start").hidden = !this.able || source !== null;
    $("bench").hidden = source === null;
    if (!source) return;
    this.easel.seen = this.model.size;
    this.easel.work = this.take();
    $("source-image").src = source.url;
    $("source-name").textContent = source.name;
    $("source-size").textContent = t("pixels", source);
    $("operation-note").textContent = t(`operations.${this.#operation}.1`);
    $("operations").replaceChildren(
      h("legend", { class: "unseen" }, t("operation")),
      ...this.#offered.map((name) => this.#radio("operation", name, t(`operations.${name}.0`), name === this.#operation)),
    );
    $("options").replaceChildren(...this.#controls());
    this.#n = n;
    this.#measure();
  }

  /** Whether the model can start from a picture and leave more or less of it. */
  get #starts() {
    // Tokens are drawn anew or kept, with nothing between.
    return OPERATIONS[this.#operation].strength !== undefined && !this.model.temperature;
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
    this.#measure();
    this.#changed("values");
  }

  #controls() {
    const { factor, noise, margins, labels } = OPERATIONS[this.#operation];
    return [
      this.#starts && this.#slider("strength", this.#strength, 5, 100, (value) =>
        this.#set("strength", { ...this.#options.strength, [this.#operation]: value })),
      factor && this.#factors(),
      factor && this.#shrunk(),
      noise && this.#noise(),
      margins && this.#margins(),
      margins && this.#slider("amount", this.#options.amount, 5, 100, (value) => this.#set("amount", value)),
      labels && this.#labels(),
      this.#smaller,
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

  /** What is kept to the last pixel is as large as the picture: many large ones are too much. */
  #measure() {
    const { sized, told, factor } = OPERATIONS[this.#operation];
    const source = this.#source;
    const [width, height] = source.within(sentWith(source, this.take(), this.#n));
    this.#smaller.hidden = sized || told || factor || width === source.width;
    this.#smaller.textContent = t("smaller", { width, height });
  }

  #labels() {
    const oninput = ({ target }) => {
      this.#options.labels = target.value;
      this.easel.work = this.take();
    };
    const field = h("textarea", {
      id: "labels", rows: 2, maxlength: 2000, placeholder: t("labelsPlaceholder"), "aria-describedby": "labels-note", oninput,
    }, this.#options.labels);
    return h("div", { class: "field" },
      h("label", { for: "labels" }, t("labels")),
      field,
      h("p", { class: "note", id: "labels-note" }, t("labelsNote")),
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
      this.#set("sides", sides);
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

/** What stands on lines, or on one line between commas, each on a line of its own. */
function lines(text) {
  const parts = text.includes("\n") ? text.split("\n") : text.split(/[,，、]/);
  return parts.map((part) => part.trim()).filter(Boolean).join("\n");
}
