// The pictures that this browser keeps, as tiles.

import { h, rove } from "./dom.js";
import { nameOf } from "./facts.js";
import { fileUrl } from "./slot.js";
import { t } from "./words.js";

const AT_ONCE = 40;

export class Gallery {
  #root = document.querySelector("#gallery");
  #tiles = document.querySelector("#tiles");
  #more = document.querySelector("#more");
  #settle = rove(this.#tiles);
  #most = AT_ONCE;
  #album;
  #choose;

  /** `choose` is given the picture that was clicked; `clear` is called once that is confirmed. */
  constructor(album, choose, clear) {
    this.#album = album;
    this.#choose = choose;
    const ask = document.querySelector("#ask");
    document.querySelector("#clear").addEventListener("click", () => {
      ask.returnValue = "";
      ask.showModal();
    });
    ask.addEventListener("close", () => {
      if (ask.returnValue === "yes") clear();
    });
    this.#more.addEventListener("click", () => {
      const next = this.#tiles.children.length;
      this.#most += AT_ONCE;
      this.render();
      this.#tiles.children[next]?.focus();
    });
  }

  /** Shows what the album holds; `current` is the picture on the stage. */
  render(current = null) {
    const { pictures } = this.#album;
    this.#root.hidden = pictures.length === 0;
    this.#more.hidden = pictures.length <= this.#most;
    this.#tiles.replaceChildren(
      ...pictures.slice(0, this.#most).map((picture) => {
        const label = t("tile", { prompt: nameOf(picture), seed: picture.seed });
        return h(
          "button",
          {
            type: "button",
            class: "tile",
            title: label,
            "aria-label": label,
            "aria-pressed": String(picture === current),
            onclick: () => this.#choose(picture),
          },
          h("img", { src: fileUrl(picture.blob), alt: "", loading: "lazy" }),
        );
      }),
    );
    this.#settle();
  }

  /** Marks the picture on the stage, without making the tiles again. */
  mark(current) {
    const { pictures } = this.#album;
    [...this.#tiles.children].forEach((tile, place) => {
      tile.setAttribute("aria-pressed", String(pictures[place] === current));
    });
  }
}
