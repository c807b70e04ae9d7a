// What can be done with a picture, by the service's names, and the form that asks for it.

import { scaled } from "./source.js";

/**
 * `sized`: the answer may have another size. `text`: the answer is text, and no prompt is asked for.
 * The rest are controls. What the service knows of an edit is added by `learn`: `does`, the model's
 * name for it, as in a parameter's `operations`; `defaults` of parameters, where not the model's;
 * `fixed` parameters, which it does not take; `needs_prompt`.
 */
export const OPERATIONS = {
  vary: { sized: true },
  restyle: { sized: true },
  inpaint: { mask: true },
  outpaint: { margins: true },
  upscale: { factor: true },
  colorize: { sized: true },
  denoise: { sized: true },
  describe: { does: "describe", text: true, labels: true },
};

/** Adds what `GET /v1/models` says of the edits. */
export function learn(edits) {
  for (const [name, edit] of Object.entries(edits)) Object.assign((OPERATIONS[name] ??= {}), edit);
}

export const FACTORS = [2, 4];
export const SIDES = ["left", "top", "right", "bottom"];

/** The model for an operation: the chosen one, or for text any that can; undefined: none. */
export function modelFor(name, model, models) {
  const able = (candidate) => candidate?.operations.includes(name);
  return able(model) ? model : OPERATIONS[name].text ? models.find(able) : undefined;
}

/** The operations that can be asked for, in the order in which they are offered. */
export const available = (model, models) =>
  Object.keys(OPERATIONS).filter((name) => modelFor(name, model, models));

/** The largest picture that the model enlarges: `{width, height}`. */
export const enlargeable = ({ sizes }, factor) => ({
  width: Math.floor(sizes.width / factor),
  height: Math.floor(sizes.height / factor),
});

/** `work` without what only the page uses. */
export const forService = ({ mask: _, longest: __, most: ___, ...options }) => options;

/**
 * The longer side with which a picture is sent: what the operation takes, and no more than the
 * service answers, whose `n` answers may have `work.most` pixels together.
 */
export function sentWith(source, work, n) {
  const { longest = Infinity, factor = 1, left = 0, top = 0, right = 0, bottom = 0 } = work;
  const [wide, high] = [100 + left + right, 100 + top + bottom].map((side) => (factor * side) / 100);
  const answer = (longer) => {
    const [width, height] = scaled(source, longer);
    return [Math.ceil(width * wide), Math.ceil(height * high)];
  };
  return fitting(Math.min(longest, Math.max(source.width, source.height)), answer, n, work.most);
}

/** The longer side, at most `longer`, with which `n` pictures of that size have `most` pixels. */
function fitting(longer, size, n, most) {
  const pixels = (side) => size(side).reduce((product, length) => product * length, n);
  let side = longer;
  if (pixels(side) > most) side = Math.ceil(side * Math.sqrt(most / pixels(side)));
  while (side > 1 && pixels(side) > most) side -= 1; // sides are whole numbers
  return side;
}

/** The longer side of a size: an integer, or "WxH". */
const longerSide = (size) => Math.max(...String(size).split("x").map(Number));

/** The form of a request: `ask` is what the composer takes, with `source` and `work`. */
export async function toForm({ source, work, n, size, parameters, ...fields }) {
  const { operation, ...options } = forService(work);
  const { text, sized } = OPERATIONS[operation];
  const whole = sized || text; // the answer's size is not the picture's
  const [width, height] = whole ? [source.width, source.height] : scaled(source, sentWith(source, work, n));
  const body = new FormData();
  body.set("image", await source.file(width, height), source.fileName);
  const mask = await work.mask?.file(width, height);
  if (mask) body.set("mask", mask, "mask.png");
  if (!text) Object.assign(options, { operation, n, previews: true });
  if (sized) options.size = fitting(longerSide(size), (longer) => scaled(source, longer), n, work.most);
  for (const [name, value] of Object.entries({ ...fields, ...parameters, ...options })) {
    if (value !== undefined) body.set(name, value);
  }
  return body;
}
