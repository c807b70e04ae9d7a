// What can be done with a picture, by the service's names, and what each of it takes.

import { scaled } from "./source.js";

/**
 * `strength`: where its slider stands at first, in per cent. `sized`: the answer may have another
 * size. `stepped`: steps mean something. `worded`: it needs a prompt. `told`: the answer is words,
 * and none are asked for. The rest are controls.
 */
export const OPERATIONS = {
  vary: { strength: 60, sized: true, stepped: true },
  restyle: { strength: 80, sized: true, stepped: true, worded: true },
  inpaint: { strength: 100, stepped: true, mask: true },
  outpaint: { stepped: true, margins: true },
  upscale: { stepped: true, factor: true },
  colorize: { sized: true, stepped: true },
  denoise: { sized: true, noise: true },
  describe: { told: true, labels: true },
};

export const FACTORS = [2, 4];
export const SIDES = ["left", "top", "right", "bottom"];

/** The model that does it: the chosen one, or for what is told any that can; undefined: none. */
export function doer(name, model, models) {
  const able = (each) => each?.operations.includes(name);
  return able(model) ? model : OPERATIONS[name].told ? models.find(able) : undefined;
}

/** Those that can be done, in the order in which they are offered. */
export const offered = (model, models) =>
  Object.keys(OPERATIONS).filter((name) => doer(name, model, models));

/** How many pixels the longer side of a picture may have that the model enlarges. */
export const enlargeable = (model, factor) => Math.floor(model.size / factor);

/** What `work` says for the page alone is left out. */
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
  const pixels = (side) => size(side).reduce((product, each) => product * each, n);
  let side = longer;
  if (pixels(side) > most) side = Math.ceil(side * Math.sqrt(most / pixels(side)));
  while (side > 1 && pixels(side) > most) side -= 1; // sides are whole numbers
  return side;
}

/** The form that asks for it: `ask` is what the composer takes, with `source` and `work`. */
export async function form({ source, work, n, size, ...fields }) {
  const { operation, ...options } = forService(work);
  const { told, sized } = OPERATIONS[operation];
  const whole = sized || told; // the answer's size is not the picture's
  const [width, height] = whole ? [source.width, source.height] : scaled(source, sentWith(source, work, n));
  const body = new FormData();
  body.set("image", await source.file(width, height), source.fileName);
  const mask = await work.mask?.file(width, height);
  if (mask) body.set("mask", mask, "mask.png");
  if (!told) Object.assign(options, { operation, n, previews: true });
  if (sized) options.size = fitting(size, (longer) => scaled(source, longer), n, work.most);
  for (const [name, value] of Object.entries({ ...fields, ...options })) {
    if (value !== undefined) body.set(name, value);
  }
  return body;
}
