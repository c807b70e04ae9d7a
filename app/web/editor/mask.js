// A mask painted over a picture, by hand or by keyboard. Strokes are kept, not pixels: they are
// rendered sharply for a picture of any size.

import { t } from "../i18n/i18n.js";
import { h } from "../page/dom.js";

const FINE = 640; // pixels along the longer side of what is painted on
const SAMPLE = 32; // pixels a side: enough to tell how much is painted
const STEP = 0.05; // of the longer side, for each press of an arrow key
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Mask {
  #strokes = []; // {erase, radius, points}, in longer sides of the picture; or {invert: true}
  #canvas = h("canvas", {});
  #brush = h("i", { class: "brush", hidden: true });
  #changed;
  #down = false; // the pointer, or the brush of the keyboard
  #at; // where the keyboard's brush is
  #width;
  #height;
  radius = 0.06;
  erase = false;
  element = h("div", { class: "mask", role: "application", tabindex: 0, "aria-describedby": "mask-keys" });

  /** For a picture of that size; `changed` is called after each stroke, and when the brush moves. */
  constructor(width, height, changed) {
    this.#changed = changed;
    [this.#width, this.#height] = [width, height].map((side) => side / Math.max(width, height));
    this.#at = [this.#width / 2, this.#height / 2];
    this.#canvas.width = Math.max(1, Math.round(FINE * this.#width));
    this.#canvas.height = Math.max(1, Math.round(FINE * this.#height));
    this.element.append(this.#canvas, this.#brush);
    this.element.addEventListener("pointerdown", (event) => this.#press(event));
    this.element.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      this.element.addEventListener(name, () => this.#lift());
    }
    this.element.addEventListener("pointerleave", () => this.#follow(null));
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("focus", () => {
      if (this.element.matches(":focus-visible")) this.#follow(this.#at);
    });
    this.element.addEventListener("blur", () => this.#lift(null));
  }

  get empty() {
    return this.#strokes.length === 0;
  }

  /** How much is painted, 0 to 1. */
  get share() {
    const small = new OffscreenCanvas(SAMPLE, SAMPLE).getContext("2d");
    small.drawImage(this.#canvas, 0, 0, SAMPLE, SAMPLE);
    const { data } = small.getImageData(0, 0, SAMPLE, SAMPLE);
    return data.reduce((sum, value, index) => (index % 4 === 3 ? sum + value : sum), 0) / (255 * SAMPLE * SAMPLE);
  }

  undo() {
    this.#strokes.pop();
    this.#paint();
  }

  clear() {
    this.#strokes = [];
    this.#paint();
  }

  invert() {
    this.#strokes.push({ invert: true });
    this.#paint();
  }

  /** The mask as it is now, whatever is painted later: `{empty, file(width, height)}`. */
  get snapshot() {
    const strokes = structuredClone(this.#strokes);
    return { empty: this.empty, file: (width, height) => maskFile(strokes, width, height) };
  }

  #paint() {
    const brush = this.#canvas.getContext("2d");
    brush.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    draw(brush, this.#strokes, FINE, { paint: "#e01f6f", flip: "xor" });
    this.#changed();
  }

  // By hand

  #press(event) {
    if (event.button !== 0) return;
    event.preventDefault();
    this.element.setPointerCapture(event.pointerId);
    this.element.focus({ focusVisible: false });
    this.#touch(this.#position(event));
  }

  #drag(event) {
    this.#follow(this.#position(event));
    if (!this.#down) return;
    for (const move of event.getCoalescedEvents?.() ?? [event]) {
      this.#strokes.at(-1).points.push(this.#position(move));
    }
    this.#paint();
  }

  #position({ clientX, clientY }) {
    const { left, top, width, height } = this.element.getBoundingClientRect();
    return [((clientX - left) / width) * this.#width, ((clientY - top) / height) * this.#height];
  }

  #touch(at) {
    this.#down = true;
    this.#strokes.push({ erase: this.erase, radius: this.radius, points: [at] });
    this.#paint();
  }

  #lift(at) {
    this.#down = false;
    if (at === null) this.#follow(null);
  }

  /** Shows the brush there; with null, nowhere. */
  #follow(at) {
    this.#brush.hidden = at === null;
    if (at === null) return;
    const { style } = this.#brush;
    style.setProperty("--x", `${(100 * at[0]) / this.#width}%`);
    style.setProperty("--y", `${(100 * at[1]) / this.#height}%`);
    style.setProperty("--across", `${(200 * this.radius) / this.#width}%`);
  }

  // By keyboard

  #key(event) {
    const { key, ctrlKey, metaKey, shiftKey } = event;
    if ((ctrlKey || metaKey) && key === "z") this.undo();
    else if (ctrlKey || metaKey || event.altKey) return;
    else if (key in DIRECTIONS) this.#move(DIRECTIONS[key], shiftKey ? STEP / 5 : STEP);
    else if (key === " " || key === "Enter") this.#toggle();
    else if (key === "e" || key === "E") this.#erase();
    else return;
    event.preventDefault();
  }

  #move([x, y], step) {
    this.#at = [
      Math.max(0, Math.min(this.#width, this.#at[0] + x * step)),
      Math.max(0, Math.min(this.#height, this.#at[1] + y * step)),
    ];
    this.#follow(this.#at);
    if (this.#down) {
      this.#strokes.at(-1).points.push(this.#at);
      this.#paint();
    }
    this.#report();
  }

  #toggle() {
    this.#follow(this.#at);
    if (this.#down) this.#lift();
    else this.#touch(this.#at);
    this.#report();
  }

  #erase() {
    this.erase = !this.erase;
    this.#lift();
    this.#changed();
  }

  #report() {
    const [x, y] = [this.#at[0] / this.#width, this.#at[1] / this.#height].map((part) => Math.round(100 * part));
    this.#changed(t(this.#down ? "brushDown" : "brushUp", { x, y }));
  }
}

/** White where the picture is regenerated, black elsewhere; null where nothing is painted. */
async function maskFile(strokes, width, height) {
  if (!strokes.length) return null;
  const canvas = new OffscreenCanvas(width, height);
  const brush = canvas.getContext("2d");
  brush.fillRect(0, 0, width, height);
  draw(brush, strokes, Math.max(width, height), { paint: "#fff", wipe: "#000", flip: "difference" });
  return canvas.convertToBlob({ type: "image/png" });
}

/** Without `wipe`, what is erased becomes transparent. */
function draw(brush, strokes, longer, { paint, wipe, flip }) {
  for (const { invert, erase, radius, points } of strokes) {
    brush.globalCompositeOperation = invert ? flip : erase && !wipe ? "destination-out" : "source-over";
    brush.fillStyle = brush.strokeStyle = erase ? (wipe ?? paint) : paint;
    if (invert) {
      brush.fillRect(0, 0, longer, longer);
      continue;
    }
    const path = points.map(([x, y]) => [x * longer, y * longer]);
    brush.lineWidth = 2 * radius * longer;
    brush.lineCap = brush.lineJoin = "round";
    brush.beginPath();
    for (const [x, y] of path) brush.lineTo(x, y);
    brush.stroke();
    // A line without length would leave nothing.
    brush.beginPath();
    brush.arc(...path[0], radius * longer, 0, 2 * Math.PI);
    brush.fill();
  }
}
