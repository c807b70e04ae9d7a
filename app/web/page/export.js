// What leaves the page: a file, an address, a line of HTML or shell.

import { HOME } from "../../tessera.js";

const escaped = (text) =>
  text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

const EXTENSIONS = { "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif" };

/** A file name from the prompt, the seed and the file's format: `red-apple-fluent-3d-style-7.png`. */
export function fileName({ prompt, seed, blob }) {
  const words = prompt.toLowerCase().match(/[\p{Letter}\p{Number}]+/gu) ?? ["picture"];
  return `${words.join("-").slice(0, 60)}-${seed}.${EXTENSIONS[blob.type] ?? "png"}`;
}

/** What can be copied of a picture: `[key of a text, what is copied]`. */
export function copies(picture) {
  if (!picture.url) return [["copyCurl", transformCurl(picture)]]; // made of a file: no address
  return [
    ["copyLink", picture.url],
    ["copyImg", img(picture)],
    ["copyElement", element(picture)],
    ["copyCurl", `curl -fsS -o ${fileName(picture)} '${picture.url.replaceAll("'", "%27")}'`],
  ];
}

const img = ({ url, prompt, width, height }) =>
  `<img src="${escaped(url)}" width="${width}" height="${height}" alt="${escaped(prompt)}">`;

/** The fields of a request for a picture: name and value. */
function fieldsOf({ prompt, negative_prompt, lora, seed, model, parameters, background, size }) {
  const fields = { prompt, negative_prompt, lora, seed, model, ...parameters, background, size };
  return Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
}

function element(picture) {
  const attributes = fieldsOf(picture).map(([name, value]) => `${name}="${escaped(String(value))}"`);
  return (
    `<script type="module" src="${new URL("tessera.js", HOME)}"></script>\n` +
    `<tessera-image ${attributes.join(" ")} live></tessera-image>`
  );
}

function transformCurl(picture) {
  const { masked, from, others = [], ...options } = picture.work;
  const files = [from, ...others].map((file) => `-F ${quoted(`image=@${file}`)}`);
  if (masked) files.push("-F mask=@mask.png");
  const fields = formFields([...Object.entries(options), ...fieldsOf(picture)]);
  const url = new URL("v1/images/transform", HOME);
  return `curl -fsS -o ${fileName(picture)} ${[...files, ...fields].join(" ")} ${url}`;
}

/** The line of shell that describes a file. */
export function describeCurl(file, fields) {
  const url = new URL("v1/images/describe", HOME);
  return ["curl -fsS", `-F ${quoted(`image=@${file}`)}`, ...formFields(Object.entries(fields)), url].join(" ");
}

const formFields = (fields) =>
  fields
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`);

/** Puts text on the clipboard. Throws where the browser does not let the page. */
export async function copy(text) {
  if (!navigator.clipboard) throw new Error("no clipboard outside secure contexts");
  await navigator.clipboard.writeText(text);
}

/** Saves the picture's file. */
export function download(picture) {
  const url = URL.createObjectURL(picture.blob);
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = fileName(picture);
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
