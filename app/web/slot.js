// Pictures in the making, and the addresses of kept ones within the page.

const files = new WeakMap();

/** An address for a file that is kept, made once. */
export function fileUrl(blob) {
  if (!files.has(blob)) files.set(blob, URL.createObjectURL(blob));
  return files.get(blob);
}

/** One picture in the making; `picture` once it is made. */
export class Slot {
  step = 0;
  steps;
  preview = ""; // an object URL
  picture = null;

  constructor(ask, index) {
    this.ask = ask;
    this.index = index;
    this.steps = ask.steps ?? 1;
  }

  show(blob) {
    this.forget();
    this.preview = URL.createObjectURL(blob);
  }

  forget() {
    if (this.preview) URL.revokeObjectURL(this.preview);
    this.preview = "";
  }

  /** Where it can be seen as it stands, or "". */
  get source() {
    return this.picture ? fileUrl(this.picture.blob) : this.preview;
  }
}
