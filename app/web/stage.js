// The large picture, what there is to say and do about it, and the small ones of the same run.

import { h, rove } from "./dom.js";
import { face, noise } from "./mosaic.js";
import * as share from "./share.js";
import { t } from "./words.js";

const files = new WeakMap();

/** An address for a kept picture's file, made once. */
export function fileUrl(picture) {
  if (!files.has(picture)) files.set(picture, URL.createObjectURL(picture.blob));
  return files.get(picture);
}

/** What a picture is called by those who cannot see it. */
export const nameOf = ({ prompt, seed }) =>
  prompt ? t("pictureAlt", { prompt }) : t("surprise", { seed });

/** One picture in the making; `picture` once it is made. */
export class Slot {
  step = 0;
  steps;
  preview = ""; // an object URL
  picture = null;

  constructor(ask, index) {
    this.ask = ask;
    this.index = index;
    this.steps = ask.steps;
  }

  show(blob) {
    this.forget();
    this.preview = URL.createObjectURL(blob);
  }

  forget() {
    if (this.preview) URL.revokeObjectURL(this.preview);
    this.preview = "";
  }

  get source() {
    return this.picture ? fileUrl(this.picture) : this.preview;
  }
}

/**
 * `doing` has what the buttons do, each given the picture: again, alike, remove. `say` tells
 * screen readers. Shows a Slot, a kept picture, or, with neither, an invitation.
 */
export class Stage {
  #root = document.querySelector("#stage");
  #frame = document.querySelector("#frame");
  #facts = document.querySelector("#facts");
  #strip = document.querySelector("#run");
  #settle = rove(this.#strip);
  #image = h("img", { alt: "" });
  #bar = h("div", { class: "steps", role: "progressbar", "aria-valuemin": "0" });
  #bare = null; // the mosaic, where there is no picture
  #doing;
  #say;
  #slots = [];
  #shown = null; // a Slot or a picture
  #exact = false;
  #most = 1;
  #before = null; // the picture that was shown before the run

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
    return this.#shown instanceof Slot ? this.#shown.picture : this.#shown;
  }

  /** Whether the same seed gives the same bits here; the invitation says so. */
  set exact(value) {
    this.#exact = value;
    this.render();
  }

  /** How many pictures "more like it" draws. */
  get most() {
    return this.#most;
  }

  set most(value) {
    this.#most = value;
    this.render();
  }

  /** Puts an empty run on the stage. */
  begin(slots) {
    this.#before = this.picture ?? this.#before;
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
    const own = this.#slots.find((slot) => slot === subject || slot.picture === subject);
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

  #leave() {
    if (this.#slots.some((slot) => !slot.picture)) return; // still drawing: stay reachable
    this.#slots = [];
    this.#strip.replaceChildren();
    this.#strip.hidden = true;
  }

  #draw(facts) {
    const subject = this.#shown;
    const { picture } = this;
    const source = subject instanceof Slot ? subject.source : picture ? fileUrl(picture) : "";
    const busy = subject instanceof Slot && !picture;
    this.#root.classList.toggle("busy", busy);
    if (source) {
      this.#image.src = source;
      this.#image.alt = busy ? t("drawing") : nameOf(picture);
      this.#bare = null;
      if (!this.#image.isConnected) this.#frame.replaceChildren(this.#image);
    } else if (!this.#bare || this.#bare.dataset.busy !== String(busy)) {
      this.#bare = busy ? noise() : face();
      this.#bare.dataset.busy = busy;
      this.#frame.replaceChildren(this.#bare);
    }
    if (busy) this.#progress(subject);
    else if (facts) this.#facts.replaceChildren(...(picture ? this.#about(picture) : this.#invite()));
  }

  #progress(slot) {
    const { step, steps, ask } = slot;
    const said = step ? t("progress", { step, steps }) : t("waiting");
    if (!this.#facts.contains(this.#bar)) {
      const title = h("p", { class: "title" }, ask.prompt || t("noPrompt"));
      this.#facts.replaceChildren(title, this.#bar, h("p", { class: "note count" }));
    }
    this.#bar.style.setProperty("--steps", Math.min(steps, 50));
    this.#bar.style.setProperty("--done", step / steps);
    this.#bar.setAttribute("aria-valuemax", steps);
    this.#bar.setAttribute("aria-valuenow", step);
    this.#bar.setAttribute("aria-label", t("drawing"));
    this.#facts.firstChild.textContent = ask.prompt || t("noPrompt");
    this.#facts.lastChild.textContent = said;
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

  #invite() {
    const promise = (name) =>
      h("li", {}, h("strong", {}, t(`promises.${name}.0`)), h("span", {}, t(`promises.${name}.1`)));
    return [
      h("p", { class: "title" }, t("empty")),
      h("p", { class: "note" }, t("emptyNote")),
      h("ul", { class: "promises" }, ...[this.#exact ? "exact" : "seed", "address", "stop"].map(promise)),
    ];
  }

  #about(picture) {
    const { prompt, seed, steps, guidance, model, width, height, seconds } = picture;
    const facts = [
      [t("seed"), seed],
      [t("steps"), steps],
      [t("guidance"), guidance],
      [t("size"), `${width} × ${height}`],
      [t("model"), model],
      seconds ? [t("took"), t("seconds", { n: seconds.toFixed(1) })] : null,
    ].filter(Boolean);
    const list = h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));
    const button = (words, act, kind = "quiet") =>
      h("button", { type: "button", class: kind, onclick: act }, words);
    const copied = h("div", { class: "copied" });
    const copy = (key, text) =>
      button(t(key), async (event) => {
        try {
          await share.copy(text);
          copied.replaceChildren();
          flash(event.target, t("copied"), t(key));
          this.#say(t("copied"));
        } catch {
          const field = h("textarea", { readonly: true, rows: 3, "aria-label": t("copy") }, text);
          copied.replaceChildren(h("p", { class: "note" }, t("notCopied")), field);
          field.select();
        }
      });
    return [
      h("p", { class: prompt ? "title" : "title dim" }, prompt || t("noPrompt")),
      list,
      h("div", { class: "buttons" },
        button(t("again"), () => this.#doing.again(picture)),
        button(t("alike", { n: this.#most }), () => this.#doing.alike(picture)),
        button(t("download"), () => share.download(picture)),
        button(t("remove"), () => this.#doing.remove(picture), "plain"),
      ),
      h("div", { class: "copies", role: "group", "aria-label": t("copy") },
        h("span", { class: "note", "aria-hidden": "true" }, t("copy")),
        copy("copyLink", share.link(picture)),
        copy("copyImg", share.img(picture)),
        copy("copyElement", share.element(picture)),
        copy("copyCurl", share.curl(picture)),
      ),
      copied,
    ];
  }
}

function flash(button, words, back) {
  button.style.minWidth = `${button.offsetWidth}px`;
  button.textContent = words;
  setTimeout(() => {
    button.textContent = back;
  }, 1400);
}
