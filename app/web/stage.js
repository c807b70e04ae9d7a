// The large picture, and the small ones of the same run.

import { Compare } from "./compare.js";
import { h, rove } from "./dom.js";
import { Easel } from "./easel.js";
import { about, invitation, nameOf, Progress } from "./facts.js";
import { face, noise } from "./mosaic.js";
import { fileUrl, Slot } from "./slot.js";
import { t } from "./words.js";

/**
 * Shows a Slot, a kept picture, an Easel or, with none of them, an invitation. `doing(picture)` is
 * what can be done with a picture, see `about`; `say` tells screen readers.
 */
export class Stage {
  #root = document.querySelector("#stage");
  #frame = document.querySelector("#frame");
  #facts = document.querySelector("#facts");
  #strip = document.querySelector("#run");
  #settle = rove(this.#strip);
  #image = h("img", { alt: "" });
  #compare = new Compare();
  #progress = new Progress();
  #bare = null; // the mosaic, where there is no picture
  #doing;
  #say;
  #slots = [];
  #shown = null;
  #promised = { exact: false, tiled: false };
  #most = 1;
  #before = null; // what was shown before the run

  constructor(doing, say) {
    this.#doing = doing;
    this.#say = say;
    this.render();
  }

  get shown() {
    return this.#shown;
  }

  /** The finished picture on the stage, or null. */
  get picture() {
    if (this.#shown instanceof Slot) return this.#shown.picture;
    return this.#shown instanceof Easel ? null : this.#shown;
  }

  /** What the invitation says, see `invitation`. */
  promise(promised) {
    this.#promised = promised;
    this.render();
  }

  /** How many pictures "more" draws. */
  get most() {
    return this.#most;
  }

  set most(value) {
    this.#most = value;
    this.render();
  }

  /** Puts an empty run on the stage. */
  begin(slots) {
    this.#before = this.#shown instanceof Easel ? this.#shown : (this.picture ?? this.#before);
    this.#slots.forEach((slot) => slot.forget());
    this.#slots = slots;
    this.#strip.replaceChildren(
      ...slots.map((slot) =>
        h("button", { type: "button", class: "thumb", onclick: () => this.show(slot) }, h("img", { alt: "" })),
      ),
    );
    this.#strip.hidden = slots.length < 2;
    this.show(slots[0]);
    slots.forEach((slot) => this.#thumb(slot));
  }

  /** A slot has changed. */
  update(slot) {
    this.#thumb(slot);
    if (slot === this.#shown) this.#draw(Boolean(slot.picture));
  }

  /** The run is over: what was not finished goes. */
  end() {
    const left = this.#slots.filter((slot) => slot.picture);
    const children = [...this.#strip.children];
    this.#slots.forEach((slot, place) => {
      if (!slot.picture) {
        slot.forget();
        children[place].remove();
      }
    });
    this.#slots = left;
    this.#strip.hidden = left.length < 2;
    if (this.#shown instanceof Slot && !this.#shown.picture) this.show(left[0] ?? this.#before);
  }

  show(subject) {
    this.#shown = subject;
    // A kept picture of this run is that run's; of another, it stands alone.
    const own = subject && this.#slots.find((slot) => slot === subject || slot.picture === subject);
    if (!own) this.#leave();
    [...this.#strip.children].forEach((thumb, place) => {
      thumb.setAttribute("aria-pressed", String(this.#slots[place] === own));
    });
    this.#settle();
    this.render();
  }

  /** Brings the stage into view where it is not, as on a phone. */
  reveal() {
    const { top, bottom } = this.#frame.getBoundingClientRect();
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (top < 0 || bottom > innerHeight) {
      this.#root.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
    }
  }

  /** Everything anew, as after a change of language. */
  render() {
    this.#slots.forEach((slot) => this.#thumb(slot));
    this.#draw(true);
  }

  /** Just what is in the frame, as when a margin is moved. */
  redraw() {
    this.#draw(false);
  }

  #leave() {
    if (this.#slots.some((slot) => !slot.picture)) return; // still drawing: stay reachable
    this.#slots = [];
    this.#strip.replaceChildren();
    this.#strip.hidden = true;
  }

  #draw(facts) {
    const subject = this.#shown;
    const { picture } = this;
    const busy = subject instanceof Slot && !picture;
    this.#root.classList.toggle("busy", busy);
    this.#put(this.#seen(subject, picture, busy));
    if (busy) {
      this.#progress.show(subject);
      if (!this.#facts.contains(this.#progress.nodes[0])) this.#facts.replaceChildren(...this.#progress.nodes);
    } else if (facts) {
      const said = subject instanceof Easel ? subject.facts()
        : picture ? about(picture, this.#doing(picture), this.#most, this.#say)
        : invitation(this.#promised.exact, this.#promised.tiled);
      this.#facts.replaceChildren(...said);
    }
  }

  /** What the frame is to hold. */
  #seen(subject, picture, busy) {
    if (subject instanceof Easel) return subject.frame();
    if (picture?.before) {
      const { width, height, work } = picture;
      this.#compare.show(fileUrl(picture.before), fileUrl(picture.blob), {
        alt: nameOf(picture), width, height, grey: work.operation === "colorize",
      });
      return this.#compare.element;
    }
    const source = subject instanceof Slot ? subject.source : picture && fileUrl(picture.blob);
    if (source) {
      this.#image.src = source;
      this.#image.alt = busy ? t("drawing") : nameOf(picture);
      return this.#image;
    }
    if (this.#bare?.dataset.busy !== String(busy)) {
      this.#bare = busy ? noise() : face();
      this.#bare.dataset.busy = busy;
    }
    return this.#bare;
  }

  #put(node) {
    if (node !== this.#bare) this.#bare = null;
    if (this.#frame.firstChild !== node) this.#frame.replaceChildren(node);
  }

  #thumb(slot) {
    const place = this.#slots.indexOf(slot);
    const thumb = this.#strip.children[place];
    if (!thumb) return;
    const image = thumb.firstChild;
    if (slot.source) image.src = slot.source;
    else image.removeAttribute("src");
    thumb.classList.toggle("busy", !slot.picture);
    thumb.style.setProperty("--done", slot.step / slot.steps);
    const state = slot.picture ? t("tile", { prompt: nameOf(slot.picture), seed: slot.picture.seed })
      : slot.step ? t("progress", slot) : t("waiting");
    thumb.setAttribute("aria-label", `${place + 1}: ${state}`);
  }
}
