// What is kept of a picture that was drawn: see album.js.

import { pictureOf } from "../tessera.js";
import { forService } from "./operations.js";

/** The picture of an `image` event, with what it was asked with. `seconds`: how long it took. */
export async function recorded(ask, { seed, url, width, height, ...file }, seconds) {
  const { prompt, model, steps, guidance, temperature, top_k, top_p, background, size, source, work } = ask;
  const settings = { prompt, model, steps, guidance, temperature, top_k, top_p, background };
  const picture = { ...settings, seed, url, width, height, seconds };
  Object.assign(picture, { path: pathOf(picture), at: Date.now(), blob: pictureOf(file) });
  if (!work) return picture;
  const masked = work.mask ? !work.mask.empty : false;
  picture.work = { ...forService(work), from: source.fileName, masked };
  return { ...picture, size, before: await source.before(work, width, height) };
}

/** What the album knows a picture by. One that was made of a file has no address. */
function pathOf({ url, seed }) {
  if (!url) return `transform/${seed}/${Date.now()}/${Math.random()}`;
  const address = new URL(url);
  for (const name of ["expires", "signature"]) address.searchParams.delete(name);
  return address.pathname + address.search;
}
