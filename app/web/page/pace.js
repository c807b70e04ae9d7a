// How long a picture will still take, by the steps that it has done.

import { t } from "../i18n/i18n.js";

const REMEMBERED = 9; // steps: the pace changes with what else the service draws
const WORTHWHILE = 3; // seconds left from which on it is worth saying

export class Pace {
  #done = []; // [seconds, step] of the latest steps
  #worthwhile = false;

  /** Records that `step` was done just now. */
  record(step, now = performance.now() / 1000) {
    if (this.#done.at(-1)?.[1] === step) return; // a preview of it
    this.#done.push([now, step]);
    this.#done.splice(0, this.#done.length - REMEMBERED);
  }

  /** Seconds until the last of so many steps; null while unknown, or not worth saying. */
  left(steps, now = performance.now() / 1000) {
    if (this.#done.length < 2) return null;
    const [[began, from], [last, step]] = [this.#done[0], this.#done.at(-1)];
    const left = (steps - step) * ((last - began) / (step - from)) - (now - last);
    if (left > WORTHWHILE) this.#worthwhile = true;
    return this.#worthwhile ? Math.max(0, left) : null;
  }
}

/** A duration in words; with so many decimals where it is under a minute. */
export function duration(seconds, decimals = 1) {
  if (seconds < 60) return t("seconds", { n: seconds.toFixed(decimals) });
  const whole = Math.round(seconds);
  const [m, s] = [Math.floor(whole / 60), whole % 60];
  if (whole < 3600) return t(s ? "minutesSeconds" : "minutes", { m, s });
  return t("hours", { h: Math.floor(whole / 3600), m: Math.floor((whole % 3600) / 60) });
}

/** The same about: 47 s are 45 s, 133 s are 2 min 10 s. */
export function about(seconds) {
  const round = seconds < 20 ? 1 : seconds < 60 ? 5 : seconds < 600 ? 10 : 60;
  return duration(Math.max(1, round * Math.round(seconds / round)), 0);
}
