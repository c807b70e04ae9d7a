// What the viewer shows of a picture to start from: the picture with the mask over it or the margins
// around it, and the tools for them; or its description.

import { t } from "../i18n/i18n.js";
import { descriptionOf } from "../page/details.js";
import { h } from "../page/dom.js";
import { Mask } from "./mask.js";
import { OPERATIONS } from "./operations.js";

export class Canvas {
  #image = h("img", {});
  #sheet = h("div", { class: "sheet" });
  #size = h("input", { type: "range", id: "brush-size", min: 1, max: 30, value: 6 });
  #sizeValue = h("output", { for: "brush-size" });
  #painted = h("p", { class: "note", role: "status" });
  #erase = h("button", { type: "button", class: "quiet", id: "erase" });
  #draw;
  #announce;
  mask;
  work = {}; // what is to be done: decides what is shown around and over the picture
  source; // what is worked on
  picture; // what is looked at, where the operation takes several: the source or another one
  seen = null; // {width, height} in pixels of what the model sees, where that is one for all pictures
  busy = false; // being described
  description = null; // the service's answer, with the "seconds" that it took

  /** `draw(prompt)` is called to draw the caption; `announce` tells screen readers. */
  constructor(source, draw, announce) {
    this.source = this.picture = source;
    this.#draw = draw;
    this.#announce = announce;
    this.mask = new Mask(source.width, source.height, (text) => this.#changed(text));
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

  /** The aspect of what is in the frame. */
  get aspect() {
    const { left = 0, top = 0, right = 0, bottom = 0 } = this.work;
    const { width, height } = this.#shown;
    return (width * (100 + left + right)) / (height * (100 + top + bottom));
  }

  get #shown() {
    return OPERATIONS[this.work.operation]?.several ? this.picture : this.source;
  }

  /** What belongs in the viewer's frame. */
  frame() {
    const { operation, left = 0, top = 0, right = 0, bottom = 0 } = this.work;
    const shown = this.#shown;
    if (this.#image.src !== shown.url) this.#image.src = shown.url;
    const [wide, high] = [100 + left + right, 100 + top + bottom];
    const set = (name, value) => this.#sheet.style.setProperty(name, value);
    set("--ratio", this.aspect);
    set("--left", `${(100 * left) / wide}%`);
    set("--top", `${(100 * top) / high}%`);
    set("--wide", `${10000 / wide}%`);
    set("--high", `${10000 / high}%`);
    this.#sheet.className = `sheet ${operation}`;
    this.#image.alt = shown.name;
    this.mask.element.setAttribute("aria-label", t("maskName"));
    const mask = operation === "inpaint" ? this.mask.element : null;
    this.#sheet.replaceChildren(...[this.#image, mask].filter(Boolean));
    return this.#sheet;
  }

  /** What belongs beside it. */
  details() {
    const title = h("p", { class: "title" }, this.#shown.name);
    const { operation } = this.work;
    // A picture is never scaled to be enlarged: the form shows how small it has to be.
    const seen = this.seen && operation !== "upscale" && h("p", { class: "note" }, t("seen", this.seen));
    const submit = h("button", { type: "submit", form: "composer", class: "primary" }, t(`operations.${operation}.0`));
    if (operation === "describe" && this.busy) return [title, h("p", { class: "note count" }, t("describing"))];
    if (operation === "describe" && this.description) {
      return descriptionOf(this.description, this.source, this.#draw, this.#announce);
    }
    if (operation !== "inpaint") return [title, seen || null, submit].filter(Boolean);
    const button = (key, act) => h("button", { type: "button", class: "quiet", onclick: act }, t(key));
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
        button("startOver", () => this.mask.clear()),
      ),
      this.#painted,
      submit,
      h("p", { class: "note keys", id: "mask-keys" }, t("maskKeys")),
    ];
  }

  #changed(text) {
    this.#erase.textContent = t("erase");
    this.#erase.setAttribute("aria-pressed", String(this.mask.erase));
    const n = Math.round(100 * this.mask.share);
    this.#painted.textContent = this.mask.empty ? t("maskEmpty") : t("maskShare", { n });
    if (text) this.#announce(text);
  }
}
