// The form: what the next picture will be.

import { OPERATIONS } from "../editor/operations.js";
import { language, t } from "../i18n/i18n.js";
import { sizeField, sizesOf } from "./controls.js";
import { h, icon } from "./dom.js";
import { drawsEmoji, styleOf, STYLES, suggestions, withStyle } from "./suggestions.js";

const COUNTS = [1, 2, 4, 8];
const COMFORTABLE = 256; // pixels that look well in the viewer

const $ = (id) => document.getElementById(id);

export class Composer {
  #controls; // of the models' parameters
  #editor; // the part about a picture to start from
  #form = $("composer");
  #prompt = $("prompt");
  #models = [];
  #limits = { n: COUNTS.at(-1), size: 1024 }; // until the service reports its own
  #style = "fluent"; // the chip that is pressed
  #bare = null; // the prompt without its style, while it names one
  #page = 0; // of suggestions

  /** `submit()` is called when a picture is asked for. */
  constructor(controls, editor, submit) {
    this.#controls = controls;
    this.#editor = editor;
    $("random-seed").append(icon("dice"));
    $("more-suggestions").append(icon("reload"));
    this.#counts();
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses characters (229: Safari reports it so).
      const composing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || composing) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#prompt.addEventListener("input", () => this.#readStyle());
    $("random-seed").addEventListener("click", () => {
      $("seed").value = Math.floor(Math.random() * 100_000);
    });
    $("more-suggestions").addEventListener("click", () => {
      this.#page += 1;
      this.#suggest();
    });
    $("model").addEventListener("change", () => this.#adopt());
    $("count").addEventListener("change", () => this.#editor.render(this.#count));
  }

  /** Sets what there is to choose from: the models, the default one first, and the limits. */
  offer({ models, limits }) {
    const before = $("model").value;
    this.#models = models;
    this.#limits = limits;
    this.#prompt.maxLength = $("negative-prompt").maxLength = limits.prompt_characters;
    this.#counts();
    $("model").replaceChildren(...models.map(({ id }) => h("option", { value: id }, id)));
    if (models.some(({ id }) => id === before)) $("model").value = before;
    this.#adopt();
  }

  get model() {
    return this.#models.find(({ id }) => id === $("model").value) ?? null;
  }

  get #count() {
    return Number(this.#form.elements.n?.value ?? 1);
  }

  get #operation() {
    return this.#editor.source ? this.#editor.operation : "generate";
  }

  /**
   * What is asked for: the fields of a request, but the model's `parameters` by themselves, and with
   * `source` and `work` where there is a picture to start from. A chosen style is written out.
   */
  take() {
    if (this.#style && drawsEmoji(this.model) && !styleOf(this.#prompt.value)) {
      this.#write(withStyle(this.#prompt.value, this.#style));
    }
    const ask = { prompt: this.#prompt.value.trim(), n: this.#count, parameters: {} };
    const seed = $("seed").value.trim();
    if (seed) ask.seed = seed;
    const { model } = this;
    if (!model) return ask;
    const negative = $("negative-prompt").value.trim();
    if (model.negative_prompt && negative) ask.negative_prompt = negative;
    ask.model = model.id;
    ask.parameters = this.#controls.take(model, this.#operation);
    ask.size = this.#size;
    if (model.transparency && $("transparent").checked) ask.background = "transparent";
    return this.#editor.source ? this.#edit(ask) : ask;
  }

  /** The same with the picture to start from, which also decides whether it is transparent. */
  #edit(ask) {
    const { sized, text } = OPERATIONS[this.#operation];
    const start = { source: this.#editor.source, work: this.#editor.take() };
    if (text) {
      const { model } = this.#editor;
      return { ...start, model: model.id, parameters: this.#controls.take(model, this.#operation) };
    }
    if (!sized) delete ask.size;
    ask.background = this.model.transparency && !$("transparent").checked ? "white" : undefined;
    return { ...ask, ...start };
  }

  get #size() {
    const [width, height] = $("size").value.split("x").map(Number);
    return sizeField(width, height ?? width);
  }

  /** To restyle is to change to the other style; all other operations keep the picture's own. */
  adapt() {
    const { source, operation } = this.#editor;
    const style = source && styleOf(source.prompt);
    if (!style) return;
    const other = STYLES.find(({ id }) => id !== style).id;
    this.#choose(operation === "restyle" ? other : style);
  }

  /** Fills the form with what a picture was drawn with, or an address of the page names. */
  fill({ prompt, negative_prompt, seed, model, size, background, parameters }) {
    if (model && this.#models.some(({ id }) => id === model) && model !== $("model").value) {
      $("model").value = model;
      this.#adopt();
    }
    if (prompt !== undefined) this.#write(prompt, prompt ? styleOf(prompt) : this.#style);
    if (seed !== undefined) $("seed").value = seed;
    if ([...$("size").options].some(({ value }) => value === String(size))) $("size").value = size;
    if (background !== undefined) $("transparent").checked = background === "transparent";
    if (parameters === undefined || !this.model) return;
    $("negative-prompt").value = negative_prompt ?? "";
    this.#controls.fill(this.model, parameters);
    this.#parameters();
  }

  focus() {
    this.#prompt.focus();
  }

  /** Renders everything that depends on the language, the model or the operation. */
  render() {
    const emoji = drawsEmoji(this.model);
    const { source } = this.#editor;
    const kind = OPERATIONS[this.#operation] ?? { sized: true };
    this.#editor.render(this.#count);
    this.#parameters();
    $("prompt-field").hidden = Boolean(kind.text);
    $("seed-field").hidden = Boolean(kind.text);
    $("count-field").hidden = kind.text || this.#limits.n === 1;
    $("size-field").hidden = !kind.sized;
    $("transparent-field").hidden = kind.text || !this.model?.transparency;
    $("negative-prompt-field").hidden = kind.text || !this.model?.negative_prompt;
    $("model-field").hidden = this.#models.length < 2;
    $("fine").hidden = kind.text && this.#models.length < 2 && $("parameters").hidden;
    $("styles").hidden = !emoji;
    $("suggestions").hidden = !emoji || source !== null;
    this.#setText($("question"), source ? "questionEdit" : "question");
    this.#setText($("draw-text"), source ? `operations.${this.#operation}.0` : "draw");
    $("prompt-label").hidden = !source;
    this.#prompt.required = Boolean(kind.needs_prompt);
    $("about-model").textContent = emoji ? t("aboutEmoji") : (this.model?.description ?? "");
    this.#prompt.placeholder = t(source ? "placeholderEdit" : emoji ? "placeholderEmoji" : "placeholder");
    $("styles").replaceChildren(
      ...STYLES.map(({ id, label }) =>
        h("button", { type: "button", class: "chip", "data-style": id, onclick: () => this.#choose(this.#style === id ? null : id) }, label),
      ),
    );
    this.#press();
    this.#suggest();
    this.#sizes();
  }

  #parameters() {
    const model = this.#editor.source ? this.#editor.model : this.model;
    this.#controls.render($("parameters"), model, this.#operation, false);
  }

  /** Sets a text that another language replaces. */
  #setText(node, key) {
    node.dataset.t = key;
    node.textContent = t(key);
  }

  #suggest() {
    $("suggestion-list").replaceChildren(
      ...suggestions(language(), this.#page).map((prompt) =>
        h("button", { type: "button", class: "chip", onclick: () => this.#propose(prompt) }, prompt),
      ),
    );
  }

  #propose(prompt) {
    this.#write(withStyle(prompt, this.#style));
    this.#form.requestSubmit();
  }

  #choose(style) {
    this.#style = style;
    this.#write(withStyle(this.#prompt.value, style), style);
  }

  #write(prompt, style = styleOf(prompt) ?? this.#style) {
    this.#prompt.value = prompt;
    this.#style = style;
    this.#bare = styleOf(prompt) ? withStyle(prompt, null) : null;
    this.#press();
  }

  #readStyle() {
    const prompt = this.#prompt.value;
    const named = styleOf(prompt);
    // Naming a style presses its chip; deleting just the name releases it.
    if (named) this.#style = named;
    else if (this.#bare !== null && prompt.startsWith(this.#bare)) this.#style = null;
    this.#bare = named ? withStyle(prompt, null) : null;
    this.#press();
  }

  #press() {
    for (const chip of $("styles").children) {
      chip.setAttribute("aria-pressed", String(chip.dataset.style === this.#style));
    }
  }

  /** Renders the form for the chosen model. */
  #adopt() {
    if (!this.model) return;
    this.#editor.offer(this.model, this.#models, this.#limits);
    this.render();
  }

  #counts() {
    const most = Math.min(this.#limits.n, COUNTS.at(-1));
    if ($("count").dataset.most === String(most)) return; // a focus in it stays
    const before = Math.min(this.#count, most);
    $("count").dataset.most = most;
    $("count").replaceChildren(
      ...[...COUNTS.filter((n) => n < most), most].map((n) =>
        h("label", {},
          h("input", { type: "radio", name: "n", value: n, checked: n === before }),
          h("span", {}, String(n)),
        ),
      ),
    );
  }

  #sizes() {
    const { model } = this;
    if (!model) return;
    const before = $("size").value;
    const { width: nativeWidth, height: nativeHeight } = model.sizes;
    const sizes = sizesOf(model, this.#limits.size);
    $("size").replaceChildren(
      ...sizes.map(([width, height]) => {
        const native = width === nativeWidth && height === nativeHeight;
        const text = width === height ? width : `${width} × ${height}`;
        return h("option", { value: sizeField(width, height) }, t(native ? "sizeNative" : "sizeOther", { size: text }));
      }),
    );
    const values = sizes.map((size) => String(sizeField(...size)));
    const comfortable = sizes.findIndex((size) => Math.max(...size) >= COMFORTABLE);
    $("size").value = values.includes(before) ? before : values.at(comfortable);
  }
}
