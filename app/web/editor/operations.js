// What can be done with a picture, by the service's names, and the form that asks for it.

import { flexible, parseSize } from "../page/sizes.js";
import { scaled } from "./source.js";

/**
 * `sized`: the answer may have another size, of the picture's aspect. `text`: the answer is text, and
 * no prompt is asked for. The rest are controls. What the service knows of an edit is added by
 * `learn`: `does`, the model's name for it, as in a parameter's `operations`; `defaults` of
 * parameters, where not the model's; `fixed` parameters, which it does not take; `needs_prompt`;
 * `several`: it takes as many pictures as the model does, and answers in any size.
 */
export const OPERATIONS = {
  edit: {},
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

/** How many pictures an operation takes at most. */
export const picturesOf = (name, model) => (OPERATIONS[name].several ? (model?.images ?? 1) : 1);

/** Which sizes there are to choose from: "list", "shape" (any), or null: the picture decides. */
export function sizesFor(name, model) {
  const { several, sized } = OPERATIONS[name] ?? { sized: true }; // without a picture
  if (flexible(model)) return several || !(name in OPERATIONS) ? "shape" : null;
  return sized ? "list" : null;
}

/** The largest picture that the model enlarges: `{width, height}`. */
export const enlargeable = ({ sizes }, factor) => ({
  width: Math.floor(Math.max(sizes.width, sizes.upscaled) / factor),
  height: Math.floor(Math.max(sizes.height, sizes.upscaled) / factor),
});

/** `work` without what only the page uses. */
export const forService = ({ mask: _, longest: __, most: ___, ...options }) => options;

/** Width and height of the answer for each of the picture's, where margins are added. */
const grown = ({ left = 0, top = 0, right = 0, bottom = 0 }) =>
  [100 + left + right, 100 + top + bottom].map((side) => side / 100);

/** The aspect of the answer: the picture's, unless a size was asked for. */
export function aspectOf({ sources: [source], work, size }) {
  const [across, down] = grown(work);
  const own = (source.width * across) / (source.height * down);
  if (!OPERATIONS[work.operation].several || !size) return own;
  const [width, height] = parseSize(size);
  return width / height;
}

/**
 * The longer side with which a picture is sent: what the operation takes, and no more than the
 * service answers, whose `n` answers may have `work.most` pixels together.
 */
export function sentWith(source, work, n) {
  const { longest = Infinity, factor = 1 } = work;
  const [wide, high] = grown(work).map((times) => factor * times);
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

/** The form of a request: `ask` is what the composer takes, with `sources` and `work`. */
export async function toForm({ sources, work, n, size, parameters, ...fields }) {
  const { operation, ...options } = forService(work);
  const { text, sized, several } = OPERATIONS[operation];
  const [source] = sources;
  const whole = sized || text || several; // the answer's size is not the picture's
  const sent = (one) => (whole ? [one.width, one.height] : scaled(one, sentWith(one, work, n)));
  const body = new FormData();
  for (const one of sources) body.append("image", await one.file(...sent(one)), one.fileName);
  const mask = await work.mask?.file(...sent(source));
  if (mask) body.set("mask", mask, "mask.png");
  if (!text) Object.assign(options, { operation, n, previews: true });
  if (size && several) options.size = parseSize(size).join("x"); // one number is of the first's aspect
  else if (size) options.size = fitting(Math.max(...parseSize(size)), (longer) => scaled(source, longer), n, work.most);
  for (const [name, value] of Object.entries({ ...fields, ...parameters, ...options })) {
    if (value !== undefined) body.set(name, value);
  }
  return body;
}
