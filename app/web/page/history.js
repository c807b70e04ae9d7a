// The pictures that this browser keeps, newest first: in IndexedDB, and as tiles on the page.
//
// A picture is `{path, url, prompt, negative_prompt, lora, seed, model, parameters, width, height,
// size, background, seconds, at, blob}`. One that was made of a file has no `url`, but `work` (what was
// done to it) and `before` (how the file looked). Its path, which says all that it depends on, is
// its key: the same picture is kept once. The file is kept as well, so that looking at old pictures
// asks nothing of the service.

import { forService, OPERATIONS } from "../editor/operations.js";
import { t } from "../i18n/i18n.js";
import { pictureOf } from "../../tessera.js";
import { nameOf } from "./details.js";
import { fileUrl, h, rovingFocus } from "./dom.js";
import { parseSize, sizeField } from "./sizes.js";

const MOST = 300; // pictures
const AT_ONCE = 40; // tiles

/** The picture of an `image` event, with what was asked for. `seconds`: how long it took. */
export async function toPicture(ask, { seed, url, width, height, ...file }, seconds) {
  const { prompt, negative_prompt, lora, model, parameters, background, sources, work } = ask;
  const asked = { prompt, negative_prompt, lora, model, parameters, background };
  const picture = { ...asked, seed, url, width, height, seconds };
  Object.assign(picture, { path: pathOf(picture), at: Date.now(), blob: pictureOf(file) });
  if (!work) return { ...picture, size: sizeField(width, height) };
  const masked = work.mask ? !work.mask.empty : false;
  const [from, ...others] = sources.map(({ fileName }) => fileName);
  picture.work = { ...forService(work), from, ...(others.length && { others }), masked };
  if (ask.size) picture.size = OPERATIONS[work.operation].several ? parseSize(ask.size).join("x") : Math.max(width, height);
  return { ...picture, before: await sources[0].before(work, width, height) };
}

function pathOf({ url, seed }) {
  if (!url) return `transform/${seed}/${Date.now()}/${Math.random()}`;
  const address = new URL(url);
  for (const name of ["expires", "signature"]) address.searchParams.delete(name);
  return address.pathname + address.search;
}

export class History {
  #database = null; // null: no storage in this browser, then pictures live as long as the page
  #pictures = [];

  static async open() {
    const history = new History();
    try {
      history.#database = await openDatabase();
      const all = await done(history.#store("readonly").getAll());
      history.#pictures = all.map(upgraded).sort((a, b) => b.at - a.at);
    } catch {
      history.#database = null;
    }
    return history;
  }

  /** All pictures, newest first. */
  get pictures() {
    return this.#pictures;
  }

  add(picture) {
    this.#pictures = this.#pictures.filter(({ path }) => path !== picture.path);
    this.#pictures.unshift(picture);
    this.#write((store) => store.put(picture));
    for (const old of this.#pictures.splice(MOST)) this.#write((store) => store.delete(old.path));
  }

  remove(picture) {
    this.#pictures = this.#pictures.filter((kept) => kept !== picture);
    this.#write((store) => store.delete(picture.path));
  }

  clear() {
    this.#pictures = [];
    this.#write((store) => store.clear());
  }

  #store(mode) {
    return this.#database.transaction("pictures", mode).objectStore("pictures");
  }

  #write(change) {
    if (!this.#database) return;
    done(change(this.#store("readwrite"))).catch(() => {
      this.#database = null; // full, or taken away: continue without
    });
  }
}

function openDatabase() {
  const request = indexedDB.open("tessera", 1);
  request.onupgradeneeded = () => {
    request.result.createObjectStore("pictures", { keyPath: "path" });
  };
  return done(request);
}

function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/** A picture as it is kept now: earlier versions had parameters beside everything else, or just a `size`. */
function upgraded(kept) {
  if (kept.parameters) return kept;
  const { path, url, prompt, seed, model, size, background, seconds, at, blob, before, work, ...rest } = kept;
  const { width = size, height = size, ...numbers } = rest;
  const picture = { path, url, prompt, seed, model, size, background, width, height, seconds, at, blob };
  if (!work) return { ...picture, parameters: defined(numbers), size: sizeField(width, height) };
  const { operation, factor, left, top, right, bottom, labels, from, masked, ...special } = work;
  const options = defined({ operation, factor, left, top, right, bottom, labels, from, masked });
  return { ...picture, before, work: options, parameters: defined({ ...special, ...numbers }) };
}

const defined = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

/** The tiles. */
export class Gallery {
  #root = document.querySelector("#gallery");
  #tiles = document.querySelector("#tiles");
  #more = document.querySelector("#more");
  #updateFocus = rovingFocus(this.#tiles);
  #most = AT_ONCE;
  #history;
  #choose;

  /** `choose(picture)` is called for the tile that was clicked; `clear()` once that is confirmed. */
  constructor(history, choose, clear) {
    this.#history = history;
    this.#choose = choose;
    const ask = document.querySelector("#ask");
    document.querySelector("#clear").addEventListener("click", () => {
      ask.returnValue = "";
      ask.showModal();
    });
    ask.addEventListener("close", () => {
      if (ask.returnValue === "yes") clear();
    });
    this.#more.addEventListener("click", () => {
      const next = this.#tiles.children.length;
      this.#most += AT_ONCE;
      this.render();
      this.#tiles.children[next]?.focus();
    });
  }

  /** Shows what is kept; `current` is the picture in the viewer. */
  render(current = null) {
    const { pictures } = this.#history;
    this.#root.hidden = pictures.length === 0;
    this.#more.hidden = pictures.length <= this.#most;
    this.#tiles.replaceChildren(
      ...pictures.slice(0, this.#most).map((picture) => {
        const name = t("tile", { prompt: nameOf(picture), seed: picture.seed });
        const tile = h(
          "button",
          {
            type: "button",
            class: picture.background === "transparent" ? "tile" : "tile full",
            title: name,
            "aria-label": name,
            "aria-pressed": String(picture === current),
            onclick: () => this.#choose(picture),
          },
          h("img", { src: fileUrl(picture.blob), alt: "", loading: "lazy" }),
        );
        tile.style.setProperty("--ratio", Math.min(2, Math.max(0.5, picture.width / picture.height)));
        return tile;
      }),
    );
    this.#updateFocus();
  }

  /** Marks the picture in the viewer, without rebuilding the tiles. */
  mark(current) {
    const { pictures } = this.#history;
    [...this.#tiles.children].forEach((tile, index) => {
      tile.setAttribute("aria-pressed", String(pictures[index] === current));
    });
  }
}
