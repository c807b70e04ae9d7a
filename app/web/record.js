// What is kept of a picture that was drawn: see album.js.

import { pictureOf } from "../tessera.js";

/** The picture of an `image` event, with what it was asked with. `seconds`: how long it took. */
export async function recorded(ask, { seed, url, width, height, ...file }, seconds) {
  const { prompt, model, steps, guidance, background, size, source, work } = ask;
  const picture = { prompt, model, steps, guidance, background, seed, url, width, height, seconds };
  Object.assign(picture, { path: pathOf(picture), at: Date.now(), blob: pictureOf(file) });
  if (!work) return picture;
  const { mask, longest: _, ...options } = work;
  picture.work = { ...options, from: source.fileName, masked: mask ? !mask.empty : false };
  return { ...picture, size, before: await source.before(work, width, height) };
}

/** What the album knows a picture by. One that was made of a file has no address. */
function pathOf({ url, seed }) {
  if (!url) return `transform/${seed}/${Date.now()}/${Math.random()}`;
  const address = new URL(url);
  for (const name of ["expires", "signature"]) address.searchParams.delete(name);
  return address.pathname + address.search;
}
