// The large picture, and the small ones of the same run.

import { Canvas } from "../editor/canvas.js";
import { t } from "../i18n/i18n.js";
import { detailsOf, invitation, nameOf, Progress, progressOf } from "./details.js";
import { fileUrl, h, rovingFocus } from "./dom.js";
import { Pending } from "./drawing.js";

const WIDE = 1.45; // the aspect from which on the text is below a picture, rather than beside it
const WIDEST = 2.4; // aspects beyond this, or its inverse, leave some of the frame empty

/**
 * Shows a Pending, a kept picture, a Canvas or, with null, an invitation. `actionsOf(picture)` is
 * what can be done with a picture, see `detailsOf`; `stop()` stops a run; `announce` tells screen
 * readers.
 */
export class Viewer {
  #root = document.querySelector("#viewer");
  #frame = document.querySelector("#frame");
  #details = document.querySelector("#details");
  #strip = document.querySelector("#run");
  #updateFocus = rovingFocus(this.#strip);
  #image = h("img", { alt: "" });
  #compare = new Compare();
  #progress;
  #mosaic = null; // where there is no picture
  #actionsOf;
  #announce;
  #run = [];
  #shown = null;
  #exact = false;
  #transparency = false;
  #most = 1;
  #before = null; // what was shown before the run

  constructor(actionsOf, stop, announce) {
    this.#actionsOf = actionsOf;
    this.#progress = new Progress(stop);
    this.#announce = announce;
    this.render();
  }

  get shown() {
    return this.#shown;
  }

  /** The finished picture that is shown, or null. */
  get picture() {
    if (this.#shown instanceof Pending) return this.#shown.picture;
    return this.#shown instanceof Canvas ? null : this.#shown;
  }

  /** Whether the service gives the same bits for the same seed. */
  set exact(value) {
    this.#exact = value;
    this.render();
  }

  /** Whether the model's pictures can be transparent: single things, rather than scenes. */
  set transparency(value) {
    this.#transparency = value;
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

  /** Shows a run that begins: a Pending for each picture. */
  begin(run) {
    this.#before = this.#shown instanceof Canvas ? this.#shown : (this.picture ?? this.#before);
    this.#run.forEach((pending) => pending.release());
    this.#run = run;
    this.#strip.replaceChildren(
      ...run.map((pending) =>
        h("button", { type: "button", class: "thumb", onclick: () => this.show(pending) }, h("img", { alt: "" })),
      ),
    );
    this.#strip.hidden = run.length < 2;
    this.show(run[0]);
    run.forEach((pending) => this.#thumb(pending));
  }

  /** Shows what has changed of a picture in the run. */
  update(pending) {
    this.#thumb(pending);
    if (pending === this.#shown) this.#draw(Boolean(pending.picture));
  }

  /** Ends the run: what is not finished is removed. */
  end() {
    const left = this.#run.filter(({ picture }) => picture);
    const children = [...this.#strip.children];
    this.#run.forEach((pending, index) => {
      if (!pending.picture) {
        pending.release();
        children[index].remove();
      }
    });
    this.#run = left;
    this.#strip.hidden = left.length < 2;
    if (this.#shown instanceof Pending && !this.#shown.picture) this.show(left[0] ?? this.#before);
  }

  show(subject) {
    this.#shown = subject;
    // A kept picture of this run is shown with it, any other alone.
    const own = subject && this.#run.find((pending) => pending === subject || pending.picture === subject);
    if (!own) this.#leave();
    [...this.#strip.children].forEach((thumb, index) => {
      thumb.setAttribute("aria-pressed", String(this.#run[index] === own));
    });
    this.#updateFocus();
    this.render();
  }

  /** Scrolls to the viewer where it is out of sight, as on a phone. */
  reveal() {
    const { top, bottom } = this.#frame.getBoundingClientRect();
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (top < 0 || bottom > innerHeight) {
      this.#root.scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
    }
  }

  /** Renders everything, as after a change of language. */
  render() {
    this.#run.forEach((pending) => this.#thumb(pending));
    this.#draw(true);
  }

  /** Renders just what is in the frame, as when a margin is moved. */
  redraw() {
    this.#draw(false);
  }

  #leave() {
    if (this.#run.some(({ picture }) => !picture)) return; // still drawing: the run stays reachable
    this.#run = [];
    this.#strip.replaceChildren();
    this.#strip.hidden = true;
  }

  #draw(details) {
    const subject = this.#shown;
    const { picture } = this;
    const busy = subject instanceof Pending && !picture;
    this.#root.classList.toggle("busy", busy);
    this.#put(this.#content(subject, picture, busy));
    this.#fit(subject, picture);
    if (busy) {
      this.#progress.show(subject);
      if (!this.#details.contains(this.#progress.nodes[0])) this.#details.replaceChildren(...this.#progress.nodes);
    } else if (details) {
      const nodes = subject instanceof Canvas ? subject.details()
        : picture ? detailsOf(picture, this.#actionsOf(picture), this.#most, this.#announce)
        : invitation(this.#exact);
      this.#details.replaceChildren(...nodes);
    }
  }

  /** What belongs in the frame. */
  #content(subject, picture, busy) {
    if (subject instanceof Canvas) return subject.frame();
    if (picture?.before) {
      const { width, height, work } = picture;
      this.#compare.show(fileUrl(picture.before), fileUrl(picture.blob), {
        alt: nameOf(picture), width, height, gray: work.operation === "colorize",
      });
      return this.#compare.element;
    }
    const source = subject instanceof Pending ? subject.source : picture && fileUrl(picture.blob);
    if (source) {
      this.#image.src = source;
      this.#image.alt = busy ? t("drawing") : nameOf(picture);
      return this.#image;
    }
    const columns = busy ? Math.max(1, Math.round(8 * subject.aspect)) : 8;
    const pattern = busy ? ".".repeat(8 * columns) : this.#transparency ? FACE : HILLS; // CSS lets dots glimmer
    if (this.#mosaic?.dataset.pattern !== pattern) {
      this.#mosaic = mosaic(pattern, columns);
      this.#mosaic.dataset.pattern = pattern;
    }
    return this.#mosaic;
  }

  /** Gives the frame the aspect of what is in it. What can be seen through has room around it. */
  #fit(subject, picture) {
    const sheet = subject instanceof Canvas || Boolean(picture?.before);
    const aspect = picture ? picture.width / picture.height : (subject?.aspect ?? 1);
    const frame = Math.min(WIDEST, Math.max(1 / WIDEST, aspect));
    const clear = subject === null || sheet || subject.clear || picture?.background === "transparent";
    this.#frame.style.setProperty("--frame", frame);
    this.#frame.classList.toggle("full", !clear);
    this.#root.classList.toggle("wide", frame >= WIDE);
  }

  #put(node) {
    if (node !== this.#mosaic) this.#mosaic = null;
    if (this.#frame.firstChild !== node) this.#frame.replaceChildren(node);
  }

  #thumb(pending) {
    const index = this.#run.indexOf(pending);
    const thumb = this.#strip.children[index];
    if (!thumb) return;
    const image = thumb.firstChild;
    if (pending.source) image.src = pending.source;
    else image.removeAttribute("src");
    thumb.classList.toggle("busy", !pending.picture);
    thumb.style.setProperty("--done", pending.step / pending.steps);
    thumb.style.setProperty("--ratio", Math.max(1 / WIDEST, pending.aspect));
    const { picture } = pending;
    thumb.classList.toggle("full", picture ? picture.background !== "transparent" : !pending.clear);
    const state = picture ? t("tile", { prompt: nameOf(picture), seed: picture.seed }) : progressOf(pending);
    thumb.setAttribute("aria-label", `${index + 1}: ${state}`);
  }
}

/** Before and after, one upon the other, with a line between them that can be moved. */
class Compare {
  #before = h("img", { alt: "" });
  #after = h("img", { class: "after", alt: "" });
  #labels = [h("span", { "aria-hidden": "true" }), h("span", { "aria-hidden": "true" })];
  #range = h("input", { type: "range", min: 0, max: 100, value: 50 });
  element = h("div", { class: "sheet compare" }, this.#before, this.#after, ...this.#labels, this.#range);

  constructor() {
    this.#range.addEventListener("input", () => this.#move());
  }

  /** Shows two addresses, of pictures of that size. `gray`: the first without its colours. */
  show(before, after, { alt, width, height, gray }) {
    this.element.classList.toggle("gray", gray);
    if (this.#after.src !== after) {
      this.#range.value = 50;
      this.#before.src = before;
      this.#after.src = after;
    }
    this.#after.alt = alt;
    this.element.style.setProperty("--ratio", width / height);
    this.#labels.forEach((label, index) => {
      label.textContent = t(index ? "after" : "before");
    });
    this.#range.setAttribute("aria-label", t("compare"));
    this.#move();
  }

  #move() {
    const at = this.#range.value;
    this.element.style.setProperty("--at", `${at}%`);
    this.#range.setAttribute("aria-valuetext", t("compareAt", { n: 100 - at }));
  }
}

// What the frame shows where there is no picture yet: eight rows of tiles.

const FACE = `
  ..gggg..
  .gggggg.
  gggggggg
  ggkggkgg
  gggggggg
  gkggggkg
  .gkkkkg.
  ..gggg..`;

const HILLS = `
  ........
  .....gg.
  .....gg.
  ........
  ..k.....
  .kkk..k.
  kkkkkkkk
  kkkkkkkk`;

const COLOURS = { g: "gold", k: "dark", ".": "stone" };

function mosaic(pattern, columns) {
  const tiles = [...pattern.replace(/\s/g, "")].map((letter, index) => {
    // The same unevenness every time: a hash of the index.
    const shade = ((index * 2654435761) >>> 16) % 5;
    return h("i", { class: `${COLOURS[letter]} v${shade}` });
  });
  const node = h("div", { class: "mosaic", "aria-hidden": "true" }, ...tiles);
  node.style.setProperty("--columns", columns);
  return node;
}
