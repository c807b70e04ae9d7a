// The form: what the next picture shall be. Knows the models' ranges, draws nothing.

import { h, icon } from "./dom.js";
import { drawsEmoji, ideas, styleOf, STYLES, withStyle } from "./ideas.js";
import { OPERATIONS } from "./operations.js";
import { spoken, t } from "./words.js";

/** Numbers of a request that a model has its own ranges for; null where they mean nothing to it. */
const SETTINGS = ["steps", "guidance", "temperature", "top_k", "top_p"];

const COUNTS = [1, 2, 4, 8];
const TIMES = [1, 2, 4, 8]; // sizes, as multiples of the model's own
const COMFORTABLE = 256; // pixels that look well on the stage

const $ = (id) => document.getElementById(id);

export class Composer {
  #bench; // what is said of a picture to start from
  #form = $("composer");
  #prompt = $("prompt");
  #models = [];
  #limits = { n: COUNTS.at(-1), size: 1024 }; // until the service says
  #style = "fluent"; // the chip that is pressed
  #bare = null; // the prompt without its style, while it names one
  #page = 0; // of ideas

  /** `submit` is called when a picture is asked for. */
  constructor(bench, submit) {
    this.#bench = bench;
    $("die").append(icon("die"));
    $("more-ideas").append(icon("turn"));
    this.#counts();
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    this.#prompt.addEventListener("keydown", (event) => {
      // While an input method composes, Enter chooses characters (229: so says Safari).
      const composing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || composing) return;
      event.preventDefault();
      this.#form.requestSubmit();
    });
    this.#prompt.addEventListener("input", () => this.#look());
    $("die").addEventListener("click", () => {
      $("seed").value = Math.floor(Math.random() * 100_000);
    });
    $("more-ideas").addEventListener("click", () => {
      this.#page += 1;
      this.#offer();
    });
    $("model").addEventListener("change", () => this.#fit());
    for (const name of SETTINGS) {
      $(name).addEventListener("input", () => this.#echo(name));
    }
    $("count").addEventListener("change", () => this.#bench.render(this.#count));
  }

  /** What there is to choose from: the models, the default one first, and the service's limits. */
  offer({ models, limits }) {
    const before = $("model").value;
    this.#models = models;
    this.#limits = limits;
    this.#prompt.maxLength = limits.prompt_characters;
    this.#counts();
    $("model").replaceChildren(...models.map(({ id }) => h("option", { value: id }, id)));
    if (models.some(({ id }) => id === before)) $("model").value = before;
    $("model-field").hidden = models.length < 2;
    this.#fit();
  }

  get model() {
    return this.#models.find(({ id }) => id === $("model").value) ?? null;
  }

  get #count() {
    return Number(this.#form.elements.n?.value ?? 1);
  }

  /** What is asked for, as the body of a request. A style that was chosen is written out. */
  take() {
    if (this.#style && drawsEmoji(this.model) && !styleOf(this.#prompt.value)) {
      this.#write(withStyle(this.#prompt.value, this.#style));
    }
    const ask = { prompt: this.#prompt.value.trim(), n: this.#count };
    const seed = $("seed").value.trim();
    if (seed) ask.seed = seed;
    if (!this.model) return ask;
    ask.model = this.model.id;
    for (const name of SETTINGS) {
      if (this.model[name]) ask[name] = Number($(name).value);
    }
    ask.size = Number($("size").value);
    if (this.model.transparency && $("transparent").checked) ask.background = "transparent";
    return this.#bench.source ? this.#work(ask) : ask;
  }

  /** The same with the picture to start from, which also says whether it is transparent. */
  #work(ask) {
    const { stepped, sized, told } = OPERATIONS[this.#bench.operation];
    const start = { source: this.#bench.source, work: this.#bench.take() };
    if (told) return { ...start, model: this.#bench.model.id };
    if (!stepped) delete ask.steps;
    if (!sized) delete ask.size;
    ask.background = this.model.transparency && !$("transparent").checked ? "white" : undefined;
    return { ...ask, ...start };
  }

  /** To restyle a picture is to give it the other style; for all else it keeps its own. */
  adapt() {
    const { source, operation } = this.#bench;
    const style = source && styleOf(source.prompt);
    if (!style) return;
    const other = STYLES.find(({ id }) => id !== style).id;
    this.#choose(operation === "restyle" ? other : style);
  }

  /** Fills the form with what a picture, or an address of the page, says. */
  fill({ prompt, seed, model, size, background, ...others }) {
    if (model && this.#models.some(({ id }) => id === model) && model !== $("model").value) {
      $("model").value = model;
      this.#fit();
    }
    if (prompt !== undefined) this.#write(prompt, prompt ? styleOf(prompt) : this.#style);
    if (seed !== undefined) $("seed").value = seed;
    if (size !== undefined) $("size").value = size;
    for (const name of SETTINGS) {
      if (others[name] !== undefined) $(name).value = others[name];
      this.#echo(name);
    }
    if (background !== undefined) $("transparent").checked = background === "transparent";
  }

  focus() {
    this.#prompt.focus();
  }

  /** Everything whose words depend on the language. */
  render() {
    const emoji = drawsEmoji(this.model);
    const { source, operation } = this.#bench;
    const kind = source ? OPERATIONS[operation] : { stepped: true, sized: true };
    this.#bench.render(this.#count);
    for (const name of SETTINGS) this.#show(`${name}-field`, this.#matters(name, kind));
    this.#show("prompt-field", !kind.told);
    this.#show("seed-field", !kind.told);
    this.#show("count-field", !kind.told && this.#limits.n > 1);
    this.#show("size-field", kind.sized);
    this.#show("transparent-field", !kind.told && this.model?.transparency);
    this.#show("model-field", this.#models.length > 1);
    this.#show("fine", !kind.told || this.#models.length > 1);
    $("styles").hidden = !emoji;
    document.querySelector(".ideas").hidden = !emoji || source !== null;
    this.#say($("question"), source ? "questionBench" : "question");
    this.#say($("draw-words"), source ? `operations.${operation}.0` : "draw");
    $("in-words").hidden = !source;
    this.#prompt.required = kind.worded ?? false;
    $("knows").textContent = emoji ? t("knowsEmoji") : (this.model?.description ?? "");
    this.#prompt.placeholder = source ? t("placeholderBench") : emoji ? t("placeholder") : t("placeholderAny");
    $("styles").replaceChildren(
      ...STYLES.map(({ id, label }) =>
        h("button", { type: "button", class: "chip", "data-style": id, onclick: () => this.#choose(this.#style === id ? null : id) }, label),
      ),
    );
    this.#press();
    this.#offer();
    this.#sizes();
  }

  #show(id, shown) {
    $(id).hidden = !shown;
  }

  /** Whether a setting can be one thing or another, for what is to be done. */
  #matters(name, { stepped, told }) {
    const range = this.model?.[name];
    if (!range || range.minimum === range.maximum || told) return false;
    return name !== "steps" || Boolean(stepped);
  }

  #say(node, key) {
    node.dataset.t = key; // so that another language finds it
    node.textContent = t(key);
  }

  #offer() {
    $("ideas").replaceChildren(
      ...ideas(spoken(), this.#page).map((name) =>
        h("button", { type: "button", class: "chip", onclick: () => this.#propose(name) }, name),
      ),
    );
  }

  #propose(name) {
    this.#write(withStyle(name, this.#style));
    this.#form.requestSubmit();
  }

  #choose(id) {
    this.#style = id;
    this.#write(withStyle(this.#prompt.value, this.#style), this.#style);
  }

  #write(prompt, style = styleOf(prompt) ?? this.#style) {
    this.#prompt.value = prompt;
    this.#style = style;
    this.#bare = styleOf(prompt) ? withStyle(prompt, null) : null;
    this.#press();
  }

  #look() {
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

  #fit() {
    const { model } = this;
    if (!model) return;
    for (const name of SETTINGS.filter((each) => model[each])) {
      const { minimum, maximum, default: usual } = model[name];
      // Far more steps than usual change nothing that can be seen.
      const most = name === "steps" ? Math.min(maximum, Math.max(50, usual)) : maximum;
      Object.assign($(name), { min: minimum, max: most, value: usual });
      this.#echo(name);
    }
    this.#bench.offer(model, this.#models, this.#limits);
    this.render();
  }

  #echo(name) {
    const { value } = $(name);
    $(`${name}-value`).textContent = name === "top_k" && value === "0" ? t("all") : value;
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
    const before = Number($("size").value);
    const most = this.#limits.size;
    const sizes = TIMES.map((times) => times * model.size).filter((size) => size <= most);
    if (!sizes.length) sizes.push(most);
    $("size").replaceChildren(
      ...sizes.map((size) =>
        h("option", { value: size }, t(size === model.size ? "sizeOwn" : "sizeTimes", { size })),
      ),
    );
    $("size").value = sizes.includes(before) ? before : (sizes.find((size) => size >= COMFORTABLE) ?? sizes.at(-1));
  }
}
