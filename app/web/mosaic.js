// Eight by eight tiles: what the page shows where there is no picture yet.

import { h } from "./dom.js";

const FACE = `
  ..gggg..
  .gggggg.
  gggggggg
  ggkggkgg
  gggggggg
  gkggggkg
  .gkkkkg.
  ..gggg..`;

const NAMES = { g: "gold", k: "dark", ".": "stone" };

/** A face of gold and lapis. */
export const face = () => tiles([...FACE.replace(/\s/g, "")].map((letter) => NAMES[letter]));

/** Tiles that have not found their colour; CSS lets them glimmer. */
export const noise = () => tiles(Array.from({ length: 64 }, () => "stone"));

function tiles(names) {
  const all = names.map((name, place) => {
    // The same unevenness every time: a hash of the place.
    const roll = ((place * 2654435761) >>> 16) % 5;
    return h("i", { class: `${name} v${roll}` });
  });
  return h("div", { class: "mosaic", "aria-hidden": "true" }, ...all);
}
