// Sizes in pixels: which of them a model draws, from its entry in GET /v1/models.

const TIMES = [1, 2, 4, 8]; // the native size is also offered enlarged
const ASPECTS = [[1, 1], [4, 3], [3, 4], [16, 9], [9, 16]];
const NEAR = 0.04; // how far an aspect may be from the one whose name it bears
const FAR = 0.12; // and at most from the one that was meant

/** A size as the service takes it: an integer for a square, else "WxH". */
export const sizeField = (width, height) => (width === height ? width : `${width}x${height}`);

/** The other way round: `[width, height]`. */
export function parseSize(field) {
  const [width, height = width] = String(field).split("x").map(Number);
  return [width, height];
}

/** Whether a model draws all sizes within bounds, rather than a few. */
export const flexible = (model) => (model?.sizes.multiple ?? 0) > 0;

/** The sizes to choose from, `[[width, height], …]`, with no side over `longest`; the native one first. */
export function sizesOf({ sizes }, longest) {
  const { width, height, others = [] } = sizes;
  const all = [...TIMES.map((times) => [times * width, times * height]), ...others];
  const distinct = [...new Map(all.map((size) => [String(size), size])).values()];
  const possible = distinct.filter((size) => Math.max(...size) <= longest);
  if (possible.length) return possible;
  return [[width, height].map((side) => Math.floor((side * longest) / Math.max(width, height)))];
}

/**
 * Some of the sizes of a flexible model, `[{name: "4:3", size: [width, height]}, …]`, the native
 * aspect first; each has about as many pixels as the native size.
 */
export function shapesOf(model) {
  const { width, height } = model.sizes;
  const native = { name: nameOf([width, height]), size: [width, height] };
  const shapes = ASPECTS.map(([across, down]) => {
    const scale = Math.sqrt((width * height) / (across * down));
    return { name: `${across}:${down}`, size: nearest(model, [across * scale, down * scale]) };
  });
  return [native, ...shapes.filter(({ name, size }) => name !== native.name && off(size, aspect(name)) < FAR)];
}

/** Why a flexible model does not draw a size: `[key, values]` of a text in `sizeProblems`; null if it does. */
export function problemOf({ sizes }, [width, height]) {
  const { others = [], multiple, low, high, pixels } = sizes;
  const sides = [width, height];
  if (!sides.every((side) => Number.isInteger(side) && side > 0)) return ["whole", {}];
  const listed = [[sizes.width, sizes.height], ...others];
  if (listed.some(([across, down]) => across === width && down === height)) return null;
  if (sides.some((side) => side < low || side > high)) return ["range", { low, high }];
  const side = sides.find((one) => one % multiple !== 0);
  if (side) return ["multiple", { side, multiple }];
  return width * height > pixels ? ["pixels", { width, height, pixels }] : null;
}

/** The size nearest to another one, in aspect and pixels, that a flexible model draws. */
export function nearest({ sizes: { multiple, low, high, pixels } }, [width, height]) {
  let times = Math.min(1, Math.sqrt(pixels / (width * height)), high / Math.max(width, height));
  for (;;) {
    const size = [width, height].map((side) => {
      const rounded = multiple * Math.round((side * times) / multiple);
      return Math.min(high, Math.max(low, rounded));
    });
    if (size[0] * size[1] <= pixels || Math.max(...size) <= low) return size;
    times *= 0.98; // it was rounded up
  }
}

const aspect = (name) => {
  const [across, down] = name.split(":").map(Number);
  return across / down;
};

/** How far a size is from an aspect: 0.1 is ten per cent. */
const off = ([width, height], ratio) => Math.abs(Math.log(width / height / ratio));

/** What an aspect is called: "4:3", or "2.35:1". */
function nameOf([width, height]) {
  const names = ASPECTS.map((sides) => sides.join(":"));
  const known = names.find((name) => off([width, height], aspect(name)) < NEAR);
  if (known) return known;
  const divisor = (a, b) => (b ? divisor(b, a % b) : a);
  const sides = [width, height].map((side) => side / divisor(width, height));
  if (Math.max(...sides) < 10) return sides.join(":");
  return width > height ? `${round(width / height)}:1` : `1:${round(height / width)}`;
}

const round = (number) => Number(number.toFixed(2));
