// The list of pictures to start from: the first is what is worked on, an edit may look at others.

import { t } from "../i18n/i18n.js";
import { h, icon } from "../page/dom.js";

const $ = (id) => document.getElementById(id);

export class Pictures {
  #list = $("pictures");
  #other = $("source-other");
  #all = []; // Source
  #changed;
  #show;

  /**
   * `changed()` is called when others are there, or in another order; `show(index)` to show one in
   * the viewer.
   */
  constructor(changed, show) {
    this.#changed = changed;
    this.#show = show;
    $("add").prepend(icon("plus"));
  }

  /** All of them, also those that the chosen operation does not take. */
  get all() {
    return this.#all;
  }

  /** Has just these. */
  set(sources) {
    this.#all = sources;
  }

  /** Shows the first `most`, and whether more can be added. */
  render(most) {
    const sources = this.#all.slice(0, most);
    this.#list.replaceChildren(...sources.map((source, index) => this.#row(source, index, sources.length)));
    this.#other.textContent = t("sourceOther"); // it may have been away when the language changed
    if (most === 1) this.#list.querySelector(".remove").before(this.#other);
    this.#list.classList.toggle("several", sources.length > 1);
    $("add").hidden = most < 2 || sources.length >= most;
    $("add-note").textContent = t("picturesUsed", { n: sources.length, most });
  }

  /** Moves the focus to one of the buttons of a picture, or what is nearest to it. */
  focus(index, name) {
    const row = this.#list.children[Math.min(index, this.#list.children.length - 1)];
    (row?.querySelector(`.${name}:not(:disabled)`) ?? row?.querySelector(".thumb"))?.focus();
  }

  #row(source, index, count) {
    const n = index + 1;
    const several = count > 1;
    const button = (name, sign, key, act, disabled = false) =>
      h("button", {
        type: "button", class: `plain icon ${name}`, title: t(key, { n }), "aria-label": t(key, { n }), disabled, onclick: act,
      }, icon(sign));
    const show = h("button", {
      type: "button", class: "thumb full", title: t("sourceShow", { n }), "aria-label": t(several ? "pictureShow" : "sourceShow", { n }),
      onclick: () => this.#show(index),
    }, h("img", { src: source.url, alt: "" }));
    return h("li", { class: "source" },
      show,
      several ? h("span", { class: "number", "aria-hidden": "true" }, String(n)) : null,
      h("p", {},
        h("strong", { class: "source-name" }, source.name),
        h("span", { class: "note source-size" }, t("pixels", source)),
      ),
      several ? button("earlier", "up", "pictureEarlier", () => this.#move(index, -1), index === 0) : null,
      several ? button("later", "down", "pictureLater", () => this.#move(index, 1), n === count) : null,
      button("remove", "cross", several ? "pictureRemove" : "sourceRemove", () => this.#remove(index)),
    );
  }

  #move(index, by) {
    const all = [...this.#all];
    [all[index], all[index + by]] = [all[index + by], all[index]];
    this.#all = all;
    this.#changed();
    this.focus(index + by, by < 0 ? "earlier" : "later");
  }

  #remove(index) {
    this.#all = this.#all.toSpliced(index, 1);
    this.#changed();
    this.focus(index, "remove");
  }
}
