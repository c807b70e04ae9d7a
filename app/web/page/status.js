// The strip at the foot: how busy the service is, and how fast it answered this page.

import { t } from "../i18n/i18n.js";
import { h } from "./dom.js";
import { duration } from "./pace.js";
import { fetchStatus } from "./service.js";

const BUSY = 1000; // milliseconds between requests while this page draws
const IDLE = 5000;
const REMEMBERED = 100; // durations

/** The q-quantile of numbers: the smallest that is not exceeded by a share q of them. */
export function quantile(numbers, q) {
  const sorted = [...numbers].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
}

export class Status {
  #list = document.querySelector("#service-status");
  #durations = []; // seconds
  #load = null; // by model: {waiting, running}, in rows; null while unknown
  #state = "ready"; // as last reported
  #model = null;
  #busy = false;
  #allowed = true; // false once the service has refused to tell
  #timer = 0;
  #changed;

  /** `changed(state)` is called when the service's state is another one, e.g. "draining". */
  constructor(changed) {
    this.#changed = changed;
    document.addEventListener("visibilitychange", () => this.#poll());
    this.#poll();
  }

  /** Whether this page is drawing. */
  set busy(value) {
    this.#busy = value;
    this.#poll();
  }

  /** The chosen model, as the service described it just now. */
  set model(model) {
    this.#model = model;
    this.#allowed = true; // the API key may be another one now
    this.render();
    this.#poll();
  }

  /** Rows that wait for a model, or undefined. */
  waiting(id) {
    return this.#load?.[id]?.waiting;
  }

  /** Records how many seconds a request of this page took. */
  record(seconds) {
    this.#durations.push(seconds);
    this.#durations.splice(0, this.#durations.length - REMEMBERED);
    this.render();
  }

  render() {
    const rows = [];
    if (this.#load) {
      const total = (name) => Object.values(this.#load).reduce((sum, model) => sum + model[name], 0);
      rows.push([t("queue"), String(total("waiting"))], [t("rows"), String(total("running"))]);
    }
    if (this.#durations.length) {
      const seconds = (q) => duration(quantile(this.#durations, q), 2);
      rows.push([t("p50"), seconds(0.5)]);
      rows.push([t("p95"), seconds(0.95), t("yours", { n: this.#durations.length })]);
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

  async #poll() {
    clearTimeout(this.#timer);
    if (document.hidden || !this.#allowed) return;
    try {
      const { state, models } = await fetchStatus();
      this.#load = models;
      if (state !== this.#state) {
        this.#state = state;
        this.#changed(state);
      }
    } catch (error) {
      this.#load = null;
      this.#allowed = ![401, 403, 404].includes(error.status);
    }
    this.render();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#poll(), this.#busy ? BUSY : IDLE);
  }
}
