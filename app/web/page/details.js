// The text beside the picture in the viewer, and the buttons that do something with it.

import { label, t } from "../i18n/i18n.js";
import { h } from "./dom.js";
import * as files from "./export.js";
import { about, duration } from "./pace.js";

/** A picture's name, as its alternative text and title. */
export const nameOf = ({ prompt, seed }) => prompt || t("noPromptOf", { seed });

/** Where there is no picture yet. `exact`: the service gives the same bits for the same seed. */
export function invitation(exact) {
  const promise = (name) =>
    h("li", {}, h("strong", {}, t(`promises.${name}.0`)), h("span", {}, t(`promises.${name}.1`)));
  return [
    h("p", { class: "title" }, t("empty")),
    h("p", { class: "note" }, t("emptyNote")),
    h("ul", { class: "promises" }, ...[exact ? "exact" : "seed", "address", "stop"].map(promise)),
  ];
}

const LONG = 3; // seconds of waiting that are worth counting

/** How far a picture is, in words: "Step 3 of 28 · about 40 s left". */
export function progressOf({ step, steps, left, waited, others }) {
  if (step === steps) return t("finishing");
  if (step) return joined(t("progress", { step, steps }), left !== null && t("left", { time: about(left) }));
  return joined(
    t("waiting"),
    others && t(others === 1 ? "oneBefore" : "othersBefore", { n: others }),
    waited > LONG && duration(waited, 0),
  );
}

const joined = (...parts) => parts.filter(Boolean).join(" · ");

/** The progress of a picture. One bar is kept, so that it moves rather than jumps. */
export class Progress {
  #title = h("p", { class: "title" });
  #bar = h("div", { class: "steps", role: "progressbar", "aria-valuemin": "0" });
  #text = h("p", { class: "note count" });
  #stop = h("button", { type: "button", class: "quiet" });
  nodes = [this.#title, this.#bar, this.#text, h("div", { class: "buttons" }, this.#stop)];

  /** `stop()` is called to stop the run. */
  constructor(stop) {
    this.#stop.addEventListener("click", stop);
  }

  show(pending) {
    const { step, steps, ask } = pending;
    this.#title.textContent = ask.prompt || (ask.work ? t(`operations.${ask.work.operation}.0`) : t("noPrompt"));
    this.#text.textContent = progressOf(pending);
    this.#stop.textContent = t("stop");
    this.#bar.style.setProperty("--steps", Math.min(steps, 50));
    this.#bar.style.setProperty("--done", step / steps);
    this.#bar.setAttribute("aria-valuemax", steps);
    this.#bar.setAttribute("aria-valuenow", step);
    this.#bar.setAttribute("aria-valuetext", progressOf(pending));
    this.#bar.setAttribute("aria-label", t("drawing"));
  }
}

/**
 * A finished picture. `actions` has what the buttons do: start, again, alike, remove; those that are
 * null are left out. `most` is how many pictures `alike` draws, `announce` tells screen readers.
 */
export function detailsOf(picture, actions, most, announce) {
  const button = (text, act, kind = "quiet") =>
    act && h("button", { type: "button", class: kind, onclick: () => act(picture) }, text);
  return [
    h("p", { class: picture.prompt ? "title" : "title dim" }, picture.prompt || t("noPrompt")),
    list(picture),
    h("div", { class: "buttons" },
      button(t("start"), actions.start),
      button(t("again"), actions.again),
      button(t("alike", { n: most }), actions.alike),
      button(t("download"), files.download),
      button(t("remove"), actions.remove, "plain"),
    ),
    ...copyButtons(files.copies(picture), announce),
  ];
}

/**
 * The description of a picture. `draw(prompt)` is called to draw its caption; `announce` tells
 * screen readers.
 */
export function descriptionOf({ caption, labels, model, seconds, asked }, source, draw, announce) {
  const button = () => h("button", { type: "button", class: "quiet", onclick: () => draw(caption) }, t("drawCaption"));
  return [
    h("p", { class: caption ? "title" : "title dim" }, caption || t("noCaption")),
    h("ol", { class: "labels", "aria-label": t("likely") },
      ...labels.map(({ label: text, probability }) => {
        const row = h("li", {}, h("span", {}, text), h("span", {}, percent(probability)));
        row.style.setProperty("--share", probability);
        return row;
      }),
    ),
    h("p", { class: "note" }, t(asked ? "likelyGiven" : "likelyOwn")),
    pairs([[label("model"), model], [t("took"), duration(seconds)]]),
    h("div", { class: "buttons" }, caption ? button() : null),
    ...copyButtons([["copyCurl", files.describeCurl(source.fileName, { labels: asked, model })]], announce),
  ];
}

/** What is likely but not certain is not shown as 100 %, nor what is unlikely as 0 %. */
function percent(probability) {
  const shown = 100 * probability;
  if (shown > 99.9 && probability < 1) return "> 99.9 %";
  return shown < 0.1 ? "< 0.1 %" : `${shown.toFixed(1)} %`;
}

function list({ seed, negative_prompt, lora, parameters, model, width, height, seconds, work }) {
  return pairs(
    [
      work && [t("operation"), t(`operations.${work.operation}.0`)],
      [label("seed"), seed],
      negative_prompt && [label("negative_prompt"), negative_prompt],
      lora && [label("lora"), lora],
      ...Object.entries(parameters).map(([name, value]) => [label(name), value]),
      [label("size"), `${width} × ${height}`],
      [label("model"), model],
      seconds && [t("took"), duration(seconds)],
    ].filter(Boolean),
  );
}

const pairs = (facts) =>
  h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));

function copyButtons(copies, announce) {
  const fallback = h("div", { class: "copied" });
  return [
    h("div", { class: "copies", role: "group", "aria-label": t("copy") },
      h("span", { class: "note", "aria-hidden": "true" }, t("copy")),
      ...copies.map(([key, text]) => copyButton(key, text, fallback, announce)),
    ),
    fallback,
  ];
}

/** Where the browser does not let the page copy, the text is shown in `fallback`, selected. */
function copyButton(key, text, fallback, announce) {
  const onclick = async ({ target }) => {
    try {
      await files.copy(text);
      fallback.replaceChildren();
      flash(target, t("copied"), t(key));
      announce(t("copied"));
    } catch {
      const field = h("textarea", { readonly: true, rows: 3, "aria-label": t("copy") }, text);
      fallback.replaceChildren(h("p", { class: "note" }, t("notCopied")), field);
      field.select();
    }
  };
  return h("button", { type: "button", class: "quiet", onclick }, t(key));
}

function flash(button, text, back) {
  button.style.minWidth = `${button.offsetWidth}px`;
  button.textContent = text;
  setTimeout(() => {
    button.textContent = back;
  }, 1400);
}
