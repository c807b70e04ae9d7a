// The strip at the foot: how busy the service is, and how fast it answered this page.

import { h } from "./dom.js";
import { load } from "./service.js";
import { t } from "./words.js";

const BUSY = 700; // milliseconds between looks while this page draws
const IDLE = 5000;
const REMEMBERED = 100;

/** The q-quantile of numbers: the smallest that is not exceeded by a share q of them. */
export function quantile(numbers, q) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
}

export class Live {
  #list = document.querySelector("#live");
  #took = [];
  #load = null;
  #model = null;
  #busy = false;
  #shown = true; // false once the service has said that its metrics are not for us
  #timer = 0;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#look());
    this.#look();
  }

  /** Whether this page is drawing. */
  set busy(value) {
    this.#busy = value;
    this.#look();
  }

  set model(model) {
    this.#model = model;
    this.render();
  }

  /** A request of this page took so many seconds. */
  took(seconds) {
    this.#took.push(seconds);
    this.#took.splice(0, this.#took.length - REMEMBERED);
    this.render();
  }

  render() {
    const rows = [];
    if (this.#load) {
      rows.push([t("queue"), String(this.#load.waiting)], [t("rows"), String(this.#load.running)]);
    }
    if (this.#took.length) {
      const seconds = (q) => t("seconds", { n: quantile(this.#took, q).toFixed(2) });
      rows.push([t("p50"), seconds(0.5)]);
      rows.push([t("p95"), seconds(0.95), t("yours", { n: this.#took.length })]);
    }
    if (this.#model?.device) rows.push([t("device"), this.#model.device]);
    if (typeof this.#model?.seed_exact === "boolean") {
      const exact = this.#model.seed_exact;
      rows.push([t("exact"), t(exact ? "exactYes" : "exactNo"), this.#model.numerics]);
    }
    this.#list.replaceChildren(
      ...rows.map(([name, value, note]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, value, note ? h("small", {}, ` ${note}`) : null)),
      ),
    );
  }

  async #look() {
    clearTimeout(this.#timer);
    if (document.hidden || !this.#shown) return;
    const found = await load();
    this.#shown = found !== null;
    this.#load = found && !found.away ? found : null;
    this.render();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), this.#busy ? BUSY : IDLE);
  }
}
