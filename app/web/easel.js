// What stands on the stage while a picture is made ready: the picture, the mask over it or the
// margins around it, and the tools for them; or what was said of it.

import { h } from "./dom.js";
import { description } from "./facts.js";
import { Mask } from "./mask.js";
import { t } from "./words.js";

export class Easel {
  #source;
  #image = h("img", {});
  #sheet = h("div", { class: "sheet" });
  #size = h("input", { type: "range", id: "brush-size", min: 1, max: 30, value: 6 });
  #sizeValue = h("output", { for: "brush-size" });
  #painted = h("p", { class: "note", role: "status" });
  #erase = h("button", { type: "button", class: "quiet", id: "erase" });
  #words;
  #say;
  #work = {}; // what is to be done
  mask;
  seen = 0; // pixels along each side of what the model sees
  busy = false; // being described
  told = null; // the service's description, with the "seconds" that it took, once there is one

  /** `words` is given those of the description, to be drawn. */
  constructor(source, words, say) {
    this.#source = source;
    this.#words = words;
    this.#say = say;
    this.mask = new Mask(source.width, source.height, (words) => this.#changed(words));
    this.#image.src = source.url;
    this.#size.addEventListener("input", () => {
      this.mask.radius = this.#size.value / 100;
      this.#sizeValue.textContent = `${this.#size.value} %`;
    });
    this.#erase.addEventListener("click", () => {
      this.mask.erase = !this.mask.erase;
      this.#changed();
    });
  }

  /** What is to be done with the picture: decides what is shown around and over it. */
  set work(work) {
    this.#work = work;
  }

  /** What the frame of the stage holds. */
  frame() {
    const { operation, left = 0, top = 0, right = 0, bottom = 0 } = this.#work;
    const { width, height } = this.#source;
    const [wide, high] = [100 + left + right, 100 + top + bottom];
    const set = (name, value) => this.#sheet.style.setProperty(name, value);
    set("--ratio", (width * wide) / (height * high));
    set("--left", `${(100 * left) / wide}%`);
    set("--top", `${(100 * top) / high}%`);
    set("--wide", `${10000 / wide}%`);
    set("--high", `${10000 / high}%`);
    this.#sheet.className = `sheet ${operation}`;
    this.#image.alt = this.#source.name;
    this.mask.element.setAttribute("aria-label", t("maskName"));
    const mask = operation === "inpaint" ? this.mask.element : null;
    this.#sheet.replaceChildren(...[this.#image, mask].filter(Boolean));
    return this.#sheet;
  }

  /** What is said beside it. */
  facts() {
    const title = h("p", { class: "title" }, this.#source.name);
    const { operation } = this.#work;
    // What is enlarged is not seen whole: the form says how small it has to be.
    const seen = operation !== "upscale" && h("p", { class: "note" }, t("sees", { n: this.seen }));
    const go = h("button", { type: "submit", form: "composer", class: "primary" }, t(`operations.${operation}.0`));
    if (operation === "describe" && this.busy) return [title, h("p", { class: "note count" }, t("describing"))];
    if (operation === "describe" && this.told) return description(this.told, this.#source, this.#words, this.#say);
    if (operation !== "inpaint") return [title, seen || null, go].filter(Boolean);
    const button = (words, act) => h("button", { type: "button", class: "quiet", onclick: act }, t(words));
    this.#changed();
    this.#size.dispatchEvent(new Event("input"));
    return [
      title,
      h("p", { class: "note" }, t("maskNote")),
      h("div", { class: "field" },
        h("label", { for: "brush-size" }, h("span", {}, t("brushSize")), " ", this.#sizeValue),
        this.#size,
      ),
      h("div", { class: "buttons" },
        this.#erase,
        button("undo", () => this.mask.undo()),
        button("invert", () => this.mask.invert()),
        button("wipe", () => this.mask.clear()),
      ),
      this.#painted,
      go,
      h("p", { class: "note keys", id: "mask-keys" }, t("maskKeys")),
    ];
  }

  #changed(words) {
    this.#erase.textContent = t("erase");
    this.#erase.setAttribute("aria-pressed", String(this.mask.erase));
    const n = Math.round(100 * this.mask.share);
    this.#painted.textContent = this.mask.empty ? t("maskEmpty") : t("maskShare", { n });
    if (words) this.#say(words);
  }
}
