// A run: what was asked for is drawn, shown as it comes, and kept; or a picture is described.

import { draw, pictureOf } from "../tessera.js";
import { form } from "./operations.js";
import { recorded } from "./record.js";
import { currentKey, described } from "./service.js";
import { Slot } from "./slot.js";
import { t } from "./words.js";

const $ = (id) => document.getElementById(id);

export class Drawing {
  #parts;
  #work = null; // the AbortController of the run in progress
  #asked = new WeakMap(); // what a picture of this visit was asked with

  /** `parts`: the stage, gallery, album and live strip, and `say` for screen readers. */
  constructor(parts) {
    this.#parts = parts;
    $("stop").addEventListener("click", () => this.stop());
  }

  get busy() {
    return this.#work !== null;
  }

  /** What a picture was asked with, if that was in this visit. */
  asked(picture) {
    return this.#asked.get(picture);
  }

  /**
   * Draws instead of what was being drawn; returns the pictures. Throws `ServiceError`, but returns
   * what there is when it was stopped.
   */
  async run(ask) {
    const { stage, gallery, say } = this.#parts;
    this.#work?.abort();
    const own = new AbortController();
    this.#work = own;
    const slots = Array.from({ length: ask.n }, (_, index) => new Slot(ask, index));
    stage.begin(slots);
    stage.reveal();
    this.#mark(true);
    say(t("saidDrawing", { n: ask.n }));
    try {
      await this.#follow(ask, slots, own.signal);
    } catch (error) {
      if (!own.signal.aborted) throw error;
    } finally {
      if (this.#work === own) {
        this.#work = null;
        stage.end();
        gallery.mark(stage.picture);
        this.#mark(false);
      }
    }
    return slots.map((slot) => slot.picture).filter(Boolean);
  }

  /** Describes the picture on an easel instead of what was being drawn. Throws `ServiceError`. */
  async describe(ask, easel) {
    const { stage, live, say } = this.#parts;
    if (this.#work) {
      this.#work.abort();
      stage.end();
    }
    const own = new AbortController();
    this.#work = own;
    const began = performance.now();
    Object.assign(easel, { busy: true, told: null });
    stage.show(easel);
    stage.reveal();
    this.#mark(true);
    say(t("describing"));
    try {
      const answer = await described(await form(ask), own.signal);
      const seconds = (performance.now() - began) / 1000;
      easel.told = { ...answer, seconds, asked: ask.work.labels };
      live.took(seconds);
      say(answer.caption || t("noCaption"));
    } catch (error) {
      if (!own.signal.aborted) throw error;
    } finally {
      easel.busy = false;
      if (this.#work === own) {
        this.#work = null;
        stage.render();
        this.#mark(false);
      }
    }
  }

  stop() {
    if (!this.#work) return;
    this.#work.abort();
    this.#parts.say(t("saidStopped"));
  }

  async #follow(ask, slots, signal) {
    const { stage, gallery, album, live, say } = this.#parts;
    const began = performance.now();
    const seconds = () => (performance.now() - began) / 1000;
    const body = ask.work ? await form(ask) : { ...ask, previews: true };
    for await (const { event, data } of draw(body, { key: currentKey(), signal })) {
      const slot = slots[data.index];
      if (event === "progress" || event === "preview") {
        Object.assign(slot, { step: data.step, steps: data.steps });
        if (event === "preview") slot.show(pictureOf(data));
        stage.update(slot);
      } else if (event === "image") {
        slot.step = slot.steps;
        slot.picture = await recorded(ask, data, seconds());
        slot.forget();
        this.#asked.set(slot.picture, ask);
        album.add(slot.picture);
        stage.update(slot);
        gallery.render(slot === stage.shown ? slot.picture : null);
        if (ask.n > 1) say(t("saidDone", { i: data.index + 1, n: ask.n }));
      }
    }
    live.took(seconds());
    if (ask.n === 1) say(t("saidDone", { i: 1, n: 1 }));
  }

  #mark(busy) {
    const focus = [$("draw"), $("stop")].includes(document.activeElement);
    $("draw").hidden = busy;
    $("stop").hidden = !busy;
    if (focus) $(busy ? "stop" : "draw").focus();
    this.#parts.live.busy = busy;
  }
}
