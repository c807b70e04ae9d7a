// The form: what the next picture will be.

import { OPERATIONS, sizesFor } from "../editor/operations.js";
import { language, t } from "../i18n/i18n.js";
import { defaultOf } from "./controls.js";
import { h, icon } from "./dom.js";
import { Shape } from "./shape.js";
import { flexible, parseSize, sizeField, sizesOf } from "./sizes.js";
import { styleOf, suggestionsFor, withStyle } from "./suggestions.js";

const COUNTS = [1, 2, 4, 8];
const COMFORTABLE = 256; // pixels that look well in the viewer
const LINE = 36; // characters of a placeholder that fit in one

const $ = (id) => document.getElementById(id);

export class Composer {
  #controls; // of the models' parameters
  #editor; // the part about a picture to start from
  #form = $("composer");
  #prompt = $("prompt");
  #shape = new Shape();
  #models = [];
  #limits = { n: COUNTS.at(-1), size: 1024 }; // until the service reports its own
  #style; // the name of the one whose chip is pressed, or null
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
    $("lora").addEventListener("change", () => this.#adapters());
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

  get #styles() {
    return this.model?.styles ?? [];
  }

  get #count() {
    return Number(this.#form.elements.n?.value ?? 1);
  }

  get #operation() {
    return this.#editor.source ? this.#editor.operation : "generate";
  }

  /** What is known of the operation. */
  get #kind() {
    return OPERATIONS[this.#operation] ?? {};
  }

  /**
   * What is asked for: the fields of a request, but the model's `parameters` by themselves, and with
   * `sources` and `work` where there are pictures to start from. A chosen style is written out.
   */
  take() {
    if (this.#style && !this.#kind.several && !this.#styleOf(this.#prompt.value)) {
      this.#write(this.#withStyle(this.#prompt.value, this.#style));
    }
    const ask = { prompt: this.#prompt.value.trim(), n: this.#count, parameters: {} };
    const seed = $("seed").value.trim();
    if (seed) ask.seed = seed;
    const { model } = this;
    if (!model) return ask;
    const negative = $("negative-prompt").value.trim();
    if (model.negative_prompt && negative) ask.negative_prompt = negative;
    if (this.#lora) ask.lora = this.#lora;
    ask.model = model.id;
    ask.parameters = this.#controls.take(model, this.#operation, this.#lora !== "");
    ask.size = this.#size;
    if (model.transparency && $("transparent").checked) ask.background = "transparent";
    return this.#editor.source ? this.#edit(ask) : ask;
  }

  /** The same with the pictures to start from, which also decide whether it is transparent. */
  #edit(ask) {
    const start = { sources: this.#editor.sources, work: this.#editor.take() };
    if (this.#kind.text) {
      const { model } = this.#editor;
      return { ...start, model: model.id, parameters: this.#controls.take(model, this.#operation, false) };
    }
    ask.background = this.model.transparency && !$("transparent").checked ? "white" : undefined;
    return { ...ask, ...start };
  }

  /** As the service takes it; undefined: it is left to it. */
  get #size() {
    const kind = sizesFor(this.#operation, this.model);
    if (kind === "shape") return this.#shape.field;
    return kind === "list" ? sizeField(...parseSize($("size").value)) : undefined;
  }

  /** The chosen adapter, or "". */
  get #lora() {
    return this.model?.loras?.length ? $("lora").value : "";
  }

  /**
   * To restyle is to change to another style; all other operations keep the picture's own. What is
   * to be done by an edit is not what the picture shows.
   */
  adapt() {
    const { source, operation } = this.#editor;
    if (!source) return;
    const { several } = OPERATIONS[operation];
    if (several && this.#prompt.value === source.prompt) this.#write("");
    if (!several && this.#prompt.value === "") this.#write(source.prompt);
    const style = this.#styleOf(source.prompt);
    if (!style || several) return;
    const other = this.#styles.find(({ name }) => name !== style)?.name ?? style;
    this.#choose(operation === "restyle" ? other : style);
  }

  /** Fills the form with what a picture was drawn with. */
  fill({ prompt, negative_prompt, lora, seed, model, size, background, parameters }) {
    if (model && this.#models.some(({ id }) => id === model) && model !== $("model").value) {
      $("model").value = model;
      this.#adopt();
    }
    if (prompt !== undefined) this.#write(prompt, prompt ? this.#styleOf(prompt) : this.#style);
    if (seed !== undefined) $("seed").value = seed;
    if (size !== undefined && flexible(this.model)) this.#shape.field = size;
    if ([...$("size").options].some(({ value }) => value === String(size))) $("size").value = size;
    if (background !== undefined) $("transparent").checked = background === "transparent";
    if (parameters === undefined || !this.model) return;
    $("negative-prompt").value = negative_prompt ?? "";
    if (this.model.loras?.includes(lora ?? "") || !lora) $("lora").value = lora ?? "";
    this.#controls.fill(this.model, parameters);
    this.#parameters();
    this.#adapters();
  }

  /** Fills the form with the fields of an address of the page. */
  follow({ prompt = "", model, negative_prompt, lora, size, background, ...others }) {
    const numbers = Object.entries(others).map(([name, text]) => [name, Number(text)]);
    const parameters = Object.fromEntries(numbers.filter(([, number]) => Number.isFinite(number)));
    this.fill({ prompt, model, negative_prompt, lora, size, background, parameters });
  }

  /** The fields that the page's own address has for a picture: those that are not as they are by default. */
  address({ prompt, seed, model: id, negative_prompt, lora, size, background, parameters }) {
    const model = this.#models.find((one) => one.id === id);
    const standard = new Map(model?.parameters.map((parameter) => [parameter.name, defaultOf(parameter, "generate")]));
    const fields = {
      prompt,
      seed,
      model: id === this.#models[0]?.id ? null : id,
      negative_prompt,
      lora,
      size: model && String(size) === this.#standardSize(model) ? null : size,
      background: model?.transparency && background !== "transparent" ? "white" : null,
      ...Object.fromEntries(Object.entries(parameters).filter(([name, value]) => value !== standard.get(name))),
    };
    return Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  }

  focus() {
    this.#prompt.focus();
  }

  /** Renders everything that depends on the language, the model or the operation. */
  render() {
    const { model } = this;
    const { source } = this.#editor;
    const kind = this.#kind;
    // What a model that only changes pictures needs first.
    const idle = model !== null && source === null && !model.operations.includes("generate");
    const unasked = idle || Boolean(kind.text);
    this.#editor.render(this.#count);
    this.#parameters();
    $("prompt-field").hidden = unasked;
    $("seed-field").hidden = unasked;
    $("count-field").hidden = unasked || this.#limits.n === 1;
    $("draw").disabled = idle;
    $("transparent-field").hidden = unasked || !model?.transparency;
    $("negative-prompt-field").hidden = unasked || !model?.negative_prompt;
    $("model-field").hidden = this.#models.length < 2;
    $("styles").hidden = this.#styles.length === 0 || Boolean(kind.several);
    this.#setText($("question"), source ? "questionEdit" : idle ? "questionIdle" : "question");
    this.#setText($("draw-text"), source ? `operations.${this.#operation}.0` : "draw");
    $("prompt-label").hidden = !source;
    this.#prompt.required = Boolean(kind.needs_prompt);
    const chinese = language() === "zh" && model?.description_chinese;
    $("about-model").textContent = chinese || (model?.description ?? "");
    $("about-model").lang = chinese ? "zh" : "en";
    this.#prompt.placeholder = this.#placeholder();
    $("styles").replaceChildren(
      ...this.#styles.map(({ name, label }) =>
        h("button", { type: "button", class: "chip", "data-style": name, onclick: () => this.#choose(this.#style === name ? null : name) }, label),
      ),
    );
    this.#press();
    this.#suggest(source === null && !idle);
    this.#sizes(idle ? null : sizesFor(this.#operation, model));
    this.#adapters();
    const settings = ["negative-prompt-field", "lora-field", "parameters", "size-field", "transparent-field"];
    $("fine").hidden = idle || settings.every((id) => $(id).hidden);
  }

  #placeholder() {
    if (this.#kind.several) return t("placeholderChange");
    if (this.#editor.source) return t("placeholderEdit");
    const { prompts } = suggestionsFor(this.model, language(), 0);
    return prompts.find(({ length }) => length <= LINE) ?? prompts[0] ?? t("placeholder");
  }

  #parameters() {
    const model = this.#editor.source ? this.#editor.model : this.model;
    this.#controls.render($("parameters"), model, this.#operation, "general");
  }

  /** Renders what there is to choose from of the model's adapters. */
  #adapters() {
    const { loras = [] } = this.model ?? {};
    $("lora-field").hidden = loras.length === 0 || Boolean(this.#kind.text);
    const chosen = loras.includes($("lora").value) ? $("lora").value : "";
    $("lora").replaceChildren(
      h("option", { value: "" }, t("noLora")),
      ...loras.map((name) => h("option", { value: name }, name)),
    );
    $("lora").value = chosen;
    this.#controls.render($("lora-parameters"), chosen ? this.model : null, this.#operation, "adapter");
  }

  /** Sets a text that another language replaces. */
  #setText(node, key) {
    node.dataset.t = key;
    node.textContent = t(key);
  }

  #suggest(shown = true) {
    const { prompts, more } = suggestionsFor(this.model, language(), this.#page);
    $("suggestions").hidden = !shown || prompts.length === 0;
    $("more-suggestions").hidden = !more;
    $("suggestion-list").replaceChildren(
      ...prompts.map((prompt) =>
        h("button", { type: "button", class: "chip", title: prompt, onclick: () => this.#propose(prompt) }, prompt),
      ),
    );
  }

  #propose(prompt) {
    this.#write(this.#withStyle(prompt, this.#style));
    this.#form.requestSubmit();
  }

  #styleOf(prompt) {
    return styleOf(prompt, this.#styles);
  }

  #withStyle(prompt, style) {
    return withStyle(prompt, style, this.#styles);
  }

  #choose(style) {
    this.#style = style;
    this.#write(this.#withStyle(this.#prompt.value, style), style);
  }

  #write(prompt, style = this.#styleOf(prompt) ?? this.#style) {
    this.#prompt.value = prompt;
    this.#style = style;
    this.#bare = this.#styleOf(prompt) ? this.#withStyle(prompt, null) : null;
    this.#press();
  }

  #readStyle() {
    const prompt = this.#prompt.value;
    const named = this.#styleOf(prompt);
    // Naming a style presses its chip; deleting just the name releases it.
    if (named) this.#style = named;
    else if (this.#bare !== null && prompt.startsWith(this.#bare)) this.#style = null;
    this.#bare = named ? this.#withStyle(prompt, null) : null;
    this.#press();
  }

  #press() {
    for (const chip of $("styles").children) {
      chip.setAttribute("aria-pressed", String(chip.dataset.style === this.#style));
    }
  }

  /**
   * Renders the form for the chosen model. In place of a style that it does not know, it gets its
   * first, and the prompt no longer names the one of the model before.
   */
  #adopt() {
    if (!this.model) return;
    const [first] = this.#styles;
    const known = this.#style === null || this.#styles.some(({ name }) => name === this.#style);
    if (first && !known) this.#style = first.name;
    if (this.#bare !== null && !this.#styleOf(this.#prompt.value)) this.#write(this.#bare, this.#style);
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

  /** Renders the sizes, as a "list" or a "shape", see `sizesFor`. */
  #sizes(kind) {
    const { model } = this;
    $("size-field").hidden = kind !== "list";
    $("shape-field").hidden = kind !== "shape";
    // Of what is hidden nothing may keep the form from being sent.
    $("shape-field").disabled = kind !== "shape";
    if (model && flexible(model)) this.#shape.render(model, Boolean(this.#kind.several));
    if (!model || flexible(model)) return;
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
    $("size").value = values.includes(before) ? before : this.#standardSize(model);
  }

  /** The size that is chosen where nobody has chosen one: one that looks well in the viewer. */
  #standardSize(model) {
    if (flexible(model)) return String(sizeField(model.sizes.width, model.sizes.height));
    const sizes = sizesOf(model, this.#limits.size);
    return String(sizeField(...(sizes.find((size) => Math.max(...size) >= COMFORTABLE) ?? sizes.at(-1))));
  }
}
