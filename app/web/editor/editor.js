// The part of the form about pictures to start from: which ones, and what to do with them.

import { t } from "../i18n/i18n.js";
import { h, icon } from "../page/dom.js";
import { flexible } from "../page/sizes.js";
import { Canvas } from "./canvas.js";
import { available, enlargeable, FACTORS, modelFor, OPERATIONS, picturesOf, sentWith, SIDES } from "./operations.js";
import { Pictures } from "./pictures.js";

const $ = (id) => document.getElementById(id);

export class Editor {
  #controls; // of the model's parameters
  #model = null;
  #models = [];
  #most = Infinity; // pixels of all answers to one request
  #pictures = new Pictures(() => this.#rearranged(), (index) => this.#show(index));
  #operation = "vary";
  #options = { factor: 2, amount: 25, sides: new Set(SIDES), labels: "" };
  #smaller = h("p", { class: "note" });
  #n = 1; // pictures that are asked for
  #changed;
  #draw;
  #announce;
  canvas = null;

  /**
   * `changed(what)` is called when the "operation", the "controls" or just their "values" have
   * changed; `draw(prompt)` to draw a caption; `announce` tells screen readers.
   */
  constructor(controls, changed, draw, announce) {
    this.#controls = controls;
    this.#changed = changed;
    this.#draw = draw;
    this.#announce = announce;
    $("start").prepend(icon("picture"));
    $("operations").addEventListener("change", ({ target }) => this.#choose(target.value));
  }

  /** The picture that is worked on, or null. */
  get source() {
    return this.#pictures.all[0] ?? null;
  }

  /** All that are sent: the operation may take further ones. */
  get sources() {
    return this.#pictures.all.slice(0, this.#mostPictures);
  }

  /** Whether the operation takes several pictures. */
  get several() {
    return this.source !== null && this.#mostPictures > 1;
  }

  /** How many more it takes. */
  get room() {
    return this.source ? this.#mostPictures - this.sources.length : 0;
  }

  get #mostPictures() {
    return picturesOf(this.#operation, this.model);
  }

  get operation() {
    return this.#operation;
  }

  /** The model for the operation. */
  get model() {
    return modelFor(this.#operation, this.#model, this.#models);
  }

  /** Whether anything can be done with a picture. */
  get able() {
    return this.#available.length > 0;
  }

  get #available() {
    return available(this.#model, this.#models);
  }

  /** Sets the chosen model, all of them, and the limits of the service. */
  offer(model, models, limits) {
    this.#model = model;
    this.#models = models;
    this.#most = limits.upload_pixels ?? Infinity;
    const names = this.#available;
    if (!names.includes(this.#operation)) [this.#operation = "vary"] = names;
    if (!this.able && this.source) this.put(null);
  }

  /** Starts from a picture, with that operation; with null from none. */
  put(source, operation = this.#available[0]) {
    this.#pictures.set(source ? [source] : []);
    this.canvas = source && new Canvas(source, this.#draw, this.#announce);
    if (source) this.#operation = operation;
    this.#changed("operation");
  }

  /** Has these pictures too, as many as there is room for. */
  add(sources) {
    const taken = sources.slice(0, this.room);
    this.#pictures.set([...this.sources, ...taken]);
    this.#rearranged(taken.at(-1));
  }

  /** The first picture may be another one now, or none be left; `shown` is to be looked at. */
  #rearranged(shown = this.canvas.picture) {
    if (this.source === null) {
      this.put(null);
      this.focus();
      return;
    }
    if (this.canvas.source !== this.source) this.canvas = new Canvas(this.source, this.#draw, this.#announce);
    this.canvas.picture = this.sources.includes(shown) ? shown : this.source;
    this.#changed("controls");
  }

  #show(index) {
    this.canvas.picture = this.#pictures.all[index];
    this.#changed("controls");
  }

  /** What is to be done, in the service's fields; a `mask` is written when it is sent. */
  take() {
    const { factor, margins, mask, labels } = OPERATIONS[this.#operation];
    const work = { operation: this.#operation, most: this.#most };
    if (labels) work.labels = lines(this.#options.labels);
    if (factor) {
      const { width, height } = this.source;
      const most = enlargeable(this.#model, this.#options.factor);
      const scale = Math.min(most.width / width, most.height / height);
      work.factor = this.#options.factor;
      work.longest = Math.max(1, Math.floor(scale * Math.max(width, height) + 1e-6)); // 3 / 7 * 7 may be below 3
    }
    if (margins) {
      for (const side of SIDES) work[side] = this.#options.sides.has(side) ? this.#options.amount : 0;
    }
    if (mask) work.mask = this.canvas.mask.snapshot;
    return work;
  }

  /** Moves the focus to the operations or, without a picture, to where one can be chosen. */
  focus() {
    (this.source ? $("operations").querySelector(":checked") : $("start")).focus();
  }

  /** `n`: how many pictures are asked for. */
  render(n) {
    const { source } = this;
    $("start").hidden = !this.able || source !== null;
    $("editor").hidden = source === null;
    if (!source) return;
    this.canvas.seen = OPERATIONS[this.#operation].several || flexible(this.model) ? null : this.model.sizes;
    this.canvas.work = this.take();
    this.#pictures.render(this.#mostPictures);
    const note = [t(`operations.${this.#operation}.1`), this.several ? t("severalNote") : ""];
    $("operation-note").textContent = note.join(" ").trim();
    $("operations").replaceChildren(
      h("legend", { class: "visually-hidden" }, t("operation")),
      ...this.#available.map((name) => this.#radio("operation", name, t(`operations.${name}.0`), name === this.#operation)),
    );
    this.#controls.render($("operation-parameters"), this.model, this.#operation, "operation");
    $("options").replaceChildren(...this.#fields());
    this.#n = n;
    this.#measure();
  }

  #choose(operation) {
    this.#operation = operation;
    this.#changed("operation");
    this.focus();
  }

  #set(name, value) {
    this.#options[name] = value;
    this.canvas.work = this.take();
    this.#measure();
    this.#changed("values");
  }

  #fields() {
    const { factor, margins, labels } = OPERATIONS[this.#operation];
    return [
      factor && this.#factors(),
      factor && this.#shrunk(),
      margins && this.#sides(),
      margins && this.#amount(),
      labels && this.#labels(),
      this.#smaller,
    ].filter(Boolean);
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
    const { sized, text, factor, several } = OPERATIONS[this.#operation];
    const { source } = this;
    const [width, height] = source.within(sentWith(source, this.take(), this.#n));
    this.#smaller.hidden = sized || text || factor || several || width === source.width;
    this.#smaller.textContent = t("smaller", { width, height });
  }

  #labels() {
    const oninput = ({ target }) => {
      this.#options.labels = target.value;
      this.canvas.work = this.take();
    };
    const field = h("textarea", {
      id: "labels", rows: 2, maxlength: 2000, placeholder: t("chooseAmongPlaceholder"), "aria-describedby": "labels-note", oninput,
    }, this.#options.labels);
    return h("div", { class: "field" },
      h("label", { for: "labels" }, t("chooseAmong")),
      field,
      h("p", { class: "note", id: "labels-note" }, t("chooseAmongNote")),
    );
  }

  #shrunk() {
    const most = enlargeable(this.#model, this.#options.factor);
    const [width, height] = this.source.within(this.take().longest);
    const key = width === this.source.width ? "enlargeable" : "shrunk";
    return h("p", { class: "note" }, t(key, { most: `${most.width} × ${most.height}`, width, height }));
  }

  #sides() {
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

  #amount() {
    const { amount } = this.#options;
    const output = h("output", { for: "amount" }, `${amount} %`);
    const oninput = ({ target }) => {
      output.textContent = `${target.value} %`;
      this.#set("amount", Number(target.value));
    };
    return h("div", { class: "field" },
      h("label", { for: "amount" }, h("span", {}, t("amount")), " ", output),
      h("input", { type: "range", id: "amount", min: 5, max: 100, value: amount, oninput }),
    );
  }

  #radio(name, value, text, checked) {
    return h("label", {}, h("input", { type: "radio", name, value, checked }), h("span", {}, text));
  }
}

/** What stands on lines, or on one line between commas, each on a line of its own. */
function lines(text) {
  const parts = text.includes("\n") ? text.split("\n") : text.split(/[,，、]/);
  return parts.map((part) => part.trim()).filter(Boolean).join("\n");
}
