// A picture to start from: what is sent to the service, and how it looked before.

import { ServiceError } from "../../tessera.js";

/** What the service decodes; anything else that this browser can show is sent as PNG. */
const DECODED = ["image/png", "image/jpeg", "image/webp", "image/gif"];

const OTHER_ASPECT = 0.04; // what is less is stretched, as the service does too
const PREVIEW = 1024; // pixels along the longer side: enough to look at

/** A size of the same aspect whose longer side has so many pixels; no side is 0. */
export const scaled = ({ width, height }, longer) =>
  [width, height].map((side) => Math.max(1, Math.round((side * longer) / Math.max(width, height))));

/**
 * Whether a WebP has an Exif block. The service turns the picture as that says, and browsers do not.
 */
async function hasExif(blob) {
  const head = new Uint8Array(await blob.slice(0, 21).arrayBuffer());
  const name = String.fromCharCode(...head.slice(8, 16));
  return name === "WEBPVP8X" && (head[20] & 8) !== 0;
}

export class Source {
  #blob;
  #image;

  constructor(blob, image, { name, file, prompt = "" }) {
    this.#blob = blob;
    this.#image = image;
    this.name = name; // for people
    this.fileName = file || "picture.png";
    this.prompt = prompt; // what it was drawn from, where that is known
  }

  /**
   * Opens a file, scaled down where the service would refuse it. Throws `ServiceError` for what
   * this browser cannot show.
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
    const readAlike = DECODED.includes(blob.type) && !(await hasExif(blob));
    if (times === 1 && readAlike) return new Source(blob, image, about);
    const type = blob.type === "image/jpeg" ? blob.type : "image/png";
    const smaller = await rendered(Math.floor(width * times), Math.floor(height * times), type, (brush, w, h) =>
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

  /** Its object URL. */
  get url() {
    return this.#image.src;
  }

  /** Its size once no side is longer than that. */
  within(longest) {
    return scaled(this, Math.min(longest, Math.max(this.width, this.height)));
  }

  /** The file as it is, or drawn in another size. */
  async file(width, height) {
    if (width === this.width && height === this.height) return this.#blob;
    return rendered(width, height, "image/png", (brush) => this.#draw(brush, 0, 0, width, height));
  }

  /** How it looked in the frame of the answer, for comparison. */
  async before(work, width, height) {
    const times = Math.min(1, PREVIEW / Math.max(width, height));
    const small = work.longest && (await createImageBitmap(await this.file(...this.within(work.longest))));
    return rendered(Math.round(width * times), Math.round(height * times), "image/png", (brush, w, h) => {
      const [left, top, right, bottom] = ["left", "top", "right", "bottom"].map((side) => (work[side] ?? 0) / 100);
      let [wide, high] = [w / (1 + left + right), h / (1 + top + bottom)];
      let [x, y] = [left * wide, top * high];
      const stretch = wide / high / (this.width / this.height);
      if (Math.abs(Math.log(stretch)) > OTHER_ASPECT) { // it lies in the middle
        [wide, high] = [wide / Math.max(1, stretch), high * Math.min(1, stretch)];
        [x, y] = [(w - wide) / 2, (h - high) / 2];
      }
      brush.imageSmoothingEnabled = !small; // each of its pixels should be visible
      this.#draw(brush, x, y, wide, high, small || this.#image);
    });
  }

  #draw(brush, x, y, width, height, image = this.#image) {
    brush.imageSmoothingQuality = "high";
    brush.drawImage(image, x, y, width, height);
  }
}

function rendered(width, height, type, draw) {
  const canvas = new OffscreenCanvas(width, height);
  draw(canvas.getContext("2d"), width, height);
  return canvas.convertToBlob({ type, quality: 0.95 });
}
