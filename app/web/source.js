// A picture to start from: what the service is sent, and what it looked like before.

import { ServiceError } from "../tessera.js";

/** What the service reads; anything else that this browser shows is sent as PNG. */
const READ = ["image/png", "image/jpeg", "image/webp", "image/gif"];

const SEEN = 1024; // pixels: no more are needed to look at it

/** A size of the same aspect whose longer side has so many pixels; no side vanishes. */
export const scaled = ({ width, height }, longer) =>
  [width, height].map((side) => Math.max(1, Math.round((side * longer) / Math.max(width, height))));

export class Source {
  #blob;
  #image;

  constructor(blob, image, { name, file, prompt = "" }) {
    this.#blob = blob;
    this.#image = image;
    this.name = name; // for people
    this.fileName = file || "picture.png";
    this.prompt = prompt; // the words that it came from, where they are known
  }

  /**
   * Opens a file, smaller where the service would refuse it. Throws `ServiceError` for what this
   * browser cannot show.
   */
  static async open(blob, about, { upload_bytes: bytes, upload_pixels: pixels }) {
    const image = new Image();
    image.src = URL.createObjectURL(blob);
    await image.decode().catch(() => {});
    const { naturalWidth: width, naturalHeight: height } = image;
    if (!width || !height) {
      URL.revokeObjectURL(image.src);
      throw new ServiceError("", { code: "unsupported_image" });
    }
    const times = Math.min(1, Math.sqrt(pixels / (width * height)), Math.sqrt(bytes / blob.size));
    if (times === 1 && READ.includes(blob.type)) return new Source(blob, image, about);
    const type = blob.type === "image/jpeg" ? blob.type : "image/png";
    const smaller = await drawn(Math.floor(width * times), Math.floor(height * times), type, (brush, w, h) =>
      brush.drawImage(image, 0, 0, w, h),
    );
    URL.revokeObjectURL(image.src);
    return Source.open(smaller, about, { upload_bytes: Infinity, upload_pixels: Infinity });
  }

  get width() {
    return this.#image.naturalWidth;
  }

  get height() {
    return this.#image.naturalHeight;
  }

  /** Its address within the page. */
  get url() {
    return this.#image.src;
  }

  /** Its size once no side is longer than that. */
  within(longest) {
    return scaled(this, Math.min(longest, Math.max(this.width, this.height)));
  }

  /** What is sent: the file as it is, or drawn in another size. */
  async file(width, height) {
    if (width === this.width && height === this.height) return this.#blob;
    return drawn(width, height, "image/png", (brush) => this.#draw(brush, 0, 0, width, height));
  }

  /** How it looked in the frame of the answer, for comparison. */
  async before(work, width, height) {
    const times = Math.min(1, SEEN / Math.max(width, height));
    const small = work.longest && (await createImageBitmap(await this.file(...this.within(work.longest))));
    return drawn(Math.round(width * times), Math.round(height * times), "image/png", (brush, w, h) => {
      const [left, top, right, bottom] = ["left", "top", "right", "bottom"].map((side) => (work[side] ?? 0) / 100);
      const [wide, high] = [w / (1 + left + right), h / (1 + top + bottom)];
      brush.imageSmoothingEnabled = !small; // each of its pixels is to be seen
      this.#draw(brush, left * wide, top * high, wide, high, small || this.#image);
    });
  }

  #draw(brush, x, y, width, height, image = this.#image) {
    brush.imageSmoothingQuality = "high";
    brush.drawImage(image, x, y, width, height);
  }
}

function drawn(width, height, type, draw) {
  const canvas = new OffscreenCanvas(width, height);
  draw(canvas.getContext("2d"), width, height);
  return canvas.convertToBlob({ type, quality: 0.95 });
}
