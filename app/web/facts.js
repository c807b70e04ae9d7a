// What is said beside the picture on the stage, and the buttons that do something with it.

import { h } from "./dom.js";
import * as share from "./share.js";
import { t } from "./words.js";

/** What a picture is called by those who cannot see it. */
export const nameOf = ({ prompt, seed }) =>
  prompt ? t("pictureAlt", { prompt }) : t("surprise", { seed });

/**
 * Where there is no picture yet. `exact`: the same seed gives the same bits here; `tiled`: pictures
 * come tile by tile.
 */
export function invitation(exact, tiled) {
  const promise = (name) =>
    h("li", {}, h("strong", {}, t(`promises.${name}.0`)), h("span", {}, t(`promises.${name}.1`)));
  return [
    h("p", { class: "title" }, t(tiled ? "emptyTiled" : "empty")),
    h("p", { class: "note" }, t("emptyNote")),
    h("ul", { class: "promises" }, ...[exact ? "exact" : "seed", "address", "stop"].map(promise)),
  ];
}

/** A picture in the making: one bar that is kept, so that it moves rather than jumps. */
export class Progress {
  #title = h("p", { class: "title" });
  #bar = h("div", { class: "steps", role: "progressbar", "aria-valuemin": "0" });
  #said = h("p", { class: "note count" });
  nodes = [this.#title, this.#bar, this.#said];

  show({ step, steps, ask }) {
    this.#title.textContent = ask.prompt || (ask.work ? t(`operations.${ask.work.operation}.0`) : t("noPrompt"));
    this.#said.textContent = step ? t("progress", { step, steps }) : t("waiting");
    this.#bar.style.setProperty("--steps", Math.min(steps, 50));
    this.#bar.style.setProperty("--done", step / steps);
    this.#bar.setAttribute("aria-valuemax", steps);
    this.#bar.setAttribute("aria-valuenow", step);
    this.#bar.setAttribute("aria-label", t("drawing"));
  }
}

/**
 * A finished picture. `doing` has what the buttons do: start, again, alike, remove; those that are
 * null for a picture are left out. `most` is how many `alike` draws, `say` tells screen readers.
 */
export function about(picture, doing, most, say) {
  const button = (words, act, kind = "quiet") =>
    act && h("button", { type: "button", class: kind, onclick: () => act(picture) }, words);
  const copied = h("div", { class: "copied" });
  return [
    h("p", { class: picture.prompt ? "title" : "title dim" }, picture.prompt || t("noPrompt")),
    list(picture),
    h("div", { class: "buttons" },
      button(t("start"), doing.start),
      button(t("again"), doing.again),
      button(t("alike", { n: most }), doing.alike),
      button(t("download"), share.download),
      button(t("remove"), doing.remove, "plain"),
    ),
    h("div", { class: "copies", role: "group", "aria-label": t("copy") },
      h("span", { class: "note", "aria-hidden": "true" }, t("copy")),
      ...share.ways(picture).map(([key, text]) => copier(key, text, copied, say)),
    ),
    copied,
  ];
}

/**
 * What the service said of a picture. `words` is given the caption, to be drawn; `say` tells
 * screen readers.
 */
export function description({ caption, labels, model, seconds, asked }, source, words, say) {
  const copied = h("div", { class: "copied" });
  const draw = () => words(caption);
  return [
    h("p", { class: caption ? "title" : "title dim" }, caption || t("noCaption")),
    h("ol", { class: "labels", "aria-label": t("likely") },
      ...labels.map(({ label, probability }) => {
        const row = h("li", {}, h("span", {}, label), h("span", {}, percent(probability)));
        row.style.setProperty("--share", probability);
        return row;
      }),
    ),
    h("p", { class: "note" }, t(asked ? "likelyGiven" : "likelyOwn")),
    pairs([[t("model"), model], [t("took"), t("seconds", { n: seconds.toFixed(1) })]]),
    h("div", { class: "buttons" },
      caption ? h("button", { type: "button", class: "quiet", onclick: draw }, t("drawWords")) : null,
    ),
    h("div", { class: "copies", role: "group", "aria-label": t("copy") },
      h("span", { class: "note", "aria-hidden": "true" }, t("copy")),
      copier("copyCurl", share.describingCurl(source.fileName, { labels: asked, model }), copied, say),
    ),
    copied,
  ];
}

/** What is likely, but not certain, is never said to be: nor is what is unlikely impossible. */
function percent(probability) {
  const shown = 100 * probability;
  if (shown > 99.9 && probability < 1) return "> 99.9 %";
  return shown < 0.1 ? "< 0.1 %" : `${shown.toFixed(1)} %`;
}

function list(picture) {
  const { prompt, seed, steps, guidance, temperature, top_k, top_p, model, width, height, seconds, work } = picture;
  const facts = [
    work && [t("operation"), t(`operations.${work.operation}.0`)],
    work?.strength && [t("strength"), `${Math.round(100 * work.strength)} %`],
    [t("seed"), seed],
    steps && [t("steps"), steps],
    prompt && [t("guidance"), guidance],
    temperature !== undefined && [t("temperature"), temperature],
    top_k && [t("top_k"), top_k],
    top_p !== undefined && top_p < 1 && [t("top_p"), top_p],
    [t("size"), `${width} × ${height}`],
    [t("model"), model],
    seconds && [t("took"), t("seconds", { n: seconds.toFixed(1) })],
  ].filter(Boolean);
  return pairs(facts);
}

const pairs = (facts) =>
  h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, String(value))]));

function copier(key, text, copied, say) {
  const onclick = async ({ target }) => {
    try {
      await share.copy(text);
      copied.replaceChildren();
      flash(target, t("copied"), t(key));
      say(t("copied"));
    } catch {
      const field = h("textarea", { readonly: true, rows: 3, "aria-label": t("copy") }, text);
      copied.replaceChildren(h("p", { class: "note" }, t("notCopied")), field);
      field.select();
    }
  };
  return h("button", { type: "button", class: "quiet", onclick }, t(key));
}

function flash(button, words, back) {
  button.style.minWidth = `${button.offsetWidth}px`;
  button.textContent = words;
  setTimeout(() => {
    button.textContent = back;
  }, 1400);
}
