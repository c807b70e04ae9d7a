// What can be done with a picture, by the service's names, and what each of it takes.

/**
 * `strength`: where its slider stands at first, in per cent. `sized`: the answer may have another
 * size. `stepped`: steps mean something. `worded`: it needs a prompt. The rest are controls.
 */
export const OPERATIONS = {
  vary: { strength: 60, sized: true, stepped: true },
  restyle: { strength: 80, sized: true, stepped: true, worded: true },
  inpaint: { strength: 100, stepped: true, mask: true },
  outpaint: { stepped: true, margins: true },
  upscale: { stepped: true, factor: true },
  colorize: { sized: true, stepped: true },
  denoise: { sized: true, noise: true },
};

export const FACTORS = [2, 4];
export const SIDES = ["left", "top", "right", "bottom"];

/** Those that a model can do, in the order in which they are offered. */
export const offered = (model) =>
  Object.keys(OPERATIONS).filter((name) => model?.operations.includes(name));

/** How many pixels the longer side of a picture may have that the model enlarges. */
export const enlargeable = (model, factor) => Math.floor(model.size / factor);

/** The form that asks for it: `ask` is what the composer takes, with `source` and `work`. */
export async function form({ source, work, ...fields }) {
  const { mask, longest: _, ...options } = work;
  const body = new FormData();
  body.set("image", await source.file(work), source.fileName);
  const drawn = mask && (await mask.file(source.width, source.height));
  if (drawn) body.set("mask", drawn, "mask.png");
  for (const [name, value] of Object.entries({ ...fields, ...options, previews: true })) {
    if (value !== undefined) body.set(name, value);
  }
  return body;
}
