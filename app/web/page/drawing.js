// A run: what was asked for is drawn, shown as it comes, and kept; or a picture is described.

import { aspectOf, toForm } from "../editor/operations.js";
import { t } from "../i18n/i18n.js";
import { draw, pictureOf } from "../../tessera.js";
import { fileUrl } from "./dom.js";
import { toPicture } from "./history.js";
import { Pace } from "./pace.js";
import { currentKey, describe } from "./service.js";
import { parseSize } from "./sizes.js";

const TICK = 1000; // milliseconds between looks at the time that is left

const $ = (id) => document.getElementById(id);

/** A picture that is being drawn; `picture` is set once it is finished. */
export class Pending {
  step = 0;
  steps = 1; // until the first progress is reported
  preview = ""; // an object URL
  picture = null;
  others = null; // pictures of others that wait for the model too; null while unknown
  pace = new Pace();
  #began = performance.now();

  constructor(ask, index) {
    this.ask = ask;
    this.index = index;
  }

  /** Width by height, as far as it is known before there is a picture. */
  get aspect() {
    const { ask, picture } = this;
    if (picture) return picture.width / picture.height;
    if (ask.work) return aspectOf(ask);
    const [width, height] = parseSize(ask.size ?? 1);
    return width / height;
  }

  /** Whether it can be seen through. */
  get clear() {
    return this.ask.background === "transparent";
  }

  /** Seconds since it was asked for. */
  get waited() {
    return (performance.now() - this.#began) / 1000;
  }

  /** Seconds that it will still take; null while unknown, or not worth saying. */
  get left() {
    return this.picture ? null : this.pace.left(this.steps);
  }

  /** Records that so many steps are done. */
  progress(step, steps) {
    Object.assign(this, { step, steps });
    this.pace.record(step);
  }

  show(blob) {
    this.release();
    this.preview = URL.createObjectURL(blob);
  }

  /** Frees the preview. */
  release() {
    if (this.preview) URL.revokeObjectURL(this.preview);
    this.preview = "";
  }

  /** The address of the picture as it stands, or "". */
  get source() {
    return this.picture ? fileUrl(this.picture.blob) : this.preview;
  }
}

export class Drawing {
  #parts;
  #controller = null; // the AbortController of the run in progress
  #asked = new WeakMap(); // what the pictures of this visit were asked with

  /** `parts`: the viewer, gallery, history and status, and `announce` for screen readers. */
  constructor(parts) {
    this.#parts = parts;
    $("stop").addEventListener("click", () => this.stop());
  }

  get busy() {
    return this.#controller !== null;
  }

  /** What a picture was asked with, if that was in this visit. */
  asked(picture) {
    return this.#asked.get(picture);
  }

  /**
   * Draws, after stopping what was being drawn, and returns the pictures: when stopped, those that
   * are finished. Throws `ServiceError`.
   */
  async run(ask) {
    const { viewer, gallery, announce } = this.#parts;
    this.#controller?.abort();
    const own = new AbortController();
    this.#controller = own;
    const run = Array.from({ length: ask.n }, (_, index) => new Pending(ask, index));
    viewer.begin(run);
    viewer.reveal();
    this.#mark(true);
    announce(t("announceDrawing", { n: ask.n }));
    const clock = setInterval(() => this.#tick(run), TICK);
    try {
      await this.#follow(ask, run, own.signal);
    } catch (error) {
      if (!own.signal.aborted) throw error;
    } finally {
      clearInterval(clock);
      document.title = t("title");
      if (this.#controller === own) {
        this.#controller = null;
        viewer.end();
        gallery.mark(viewer.picture);
        this.#mark(false);
      }
    }
    return run.map(({ picture }) => picture).filter(Boolean);
  }

  /** Describes the canvas's picture, after stopping what was being drawn. Throws `ServiceError`. */
  async describe(ask, canvas) {
    const { viewer, status, announce } = this.#parts;
    if (this.#controller) {
      this.#controller.abort();
      viewer.end();
    }
    const own = new AbortController();
    this.#controller = own;
    const began = performance.now();
    Object.assign(canvas, { busy: true, description: null });
    viewer.show(canvas);
    viewer.reveal();
    this.#mark(true);
    announce(t("describing"));
    try {
      const answer = await describe(await toForm(ask), own.signal);
      const seconds = (performance.now() - began) / 1000;
      canvas.description = { ...answer, seconds, asked: ask.work.labels };
      status.record(seconds);
      announce(answer.caption || t("noCaption"));
    } catch (error) {
      if (!own.signal.aborted) throw error;
    } finally {
      canvas.busy = false;
      if (this.#controller === own) {
        this.#controller = null;
        viewer.render();
        this.#mark(false);
      }
    }
  }

  stop() {
    if (!this.#controller) return;
    this.#controller.abort();
    this.#parts.announce(t("announceStopped"));
  }

  async #follow(ask, run, signal) {
    const { viewer, gallery, history, status, announce } = this.#parts;
    const began = performance.now();
    const seconds = () => (performance.now() - began) / 1000;
    const { parameters, ...fields } = ask;
    const body = ask.work ? await toForm(ask) : { ...fields, ...parameters, previews: true };
    for await (const { event, data } of draw(body, { key: currentKey(), signal })) {
      const pending = run[data.index];
      if (event === "progress" || event === "preview") {
        pending.progress(data.step, data.steps);
        if (event === "preview") pending.show(pictureOf(data));
        viewer.update(pending);
      } else if (event === "image") {
        pending.step = pending.steps;
        pending.picture = await toPicture(ask, data, seconds());
        pending.release();
        this.#asked.set(pending.picture, ask);
        history.add(pending.picture);
        viewer.update(pending);
        gallery.render(pending === viewer.shown ? pending.picture : null);
        if (ask.n > 1) announce(t("announceDone", { i: data.index + 1, n: ask.n }));
      }
    }
    status.record(seconds());
    if (ask.n === 1) announce(t("announceDone", { i: 1, n: 1 }));
  }

  /** Shows how long it will still take, or how many wait; in the tab's title too, if it is long. */
  #tick(run) {
    const { viewer, status } = this.#parts;
    const waiting = status.waiting(run[0].ask.model);
    const own = run.filter(({ step, picture }) => !step && !picture).length;
    for (const pending of run.filter(({ picture }) => !picture)) {
      pending.others = waiting === undefined ? null : Math.max(0, waiting - own);
      viewer.update(pending);
    }
    if (!run.some(({ left }) => left !== null)) return;
    const n = Math.floor((100 * run.reduce((sum, { step, steps }) => sum + step / steps, 0)) / run.length);
    document.title = t("titleDrawing", { n });
  }

  #mark(busy) {
    const focused = [$("draw"), $("stop")].includes(document.activeElement);
    $("draw").hidden = busy;
    $("stop").hidden = !busy;
    if (focused) $(busy ? "stop" : "draw").focus();
    this.#parts.status.busy = busy;
  }
}
