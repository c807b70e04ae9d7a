// The pictures that this browser keeps, in IndexedDB, newest first.
//
// A picture is `{path, url, prompt, seed, model, steps, guidance, temperature, top_k, top_p, width,
// height, background, seconds, at, blob}`; one that was made of a file has no `url`, but `work` (what
// was done), `size` (what was asked for) and `before` (how the file looked). Its path, which says all
// that it depends on, is its key: the same picture is kept once.
// The file is kept as well, so that looking at old pictures asks nothing of the service.

const MOST = 300;

export class Album {
  #base = null; // null: no storage in this browser, then pictures live as long as the page
  #pictures = [];

  static async open() {
    const album = new Album();
    try {
      album.#base = await opened();
      const all = await done(album.#store("readonly").getAll());
      // Those of earlier versions are squares of `size`.
      album.#pictures = all
        .map((each) => ({ width: each.size, height: each.size, ...each }))
        .sort((a, b) => b.at - a.at);
    } catch {
      album.#base = null;
    }
    return album;
  }

  /** All pictures, newest first. */
  get pictures() {
    return this.#pictures;
  }

  add(picture) {
    this.#pictures = this.#pictures.filter((each) => each.path !== picture.path);
    this.#pictures.unshift(picture);
    this.#write((store) => store.put(picture));
    for (const old of this.#pictures.splice(MOST)) this.#write((store) => store.delete(old.path));
  }

  remove(picture) {
    this.#pictures = this.#pictures.filter((each) => each !== picture);
    this.#write((store) => store.delete(picture.path));
  }

  clear() {
    this.#pictures = [];
    this.#write((store) => store.clear());
  }

  #store(mode) {
    return this.#base.transaction("pictures", mode).objectStore("pictures");
  }

  #write(change) {
    if (!this.#base) return;
    done(change(this.#store("readwrite"))).catch(() => {
      this.#base = null; // full, or taken away: keep on without
    });
  }
}

function opened() {
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
