// The ways in which a picture leaves the page: a file, an address, a line of HTML or of shell.

import { HOME } from "../tessera.js";

const SETTINGS = ["model", "steps", "guidance", "temperature", "top_k", "top_p", "background"];

const escaped = (text) =>
  text.replaceAll("&", "&amp;").replaceAll('"', "&quot;").replaceAll("<", "&lt;");

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A file name that says what it shows: `red-apple-fluent-3d-style-7.png`. */
export function fileName({ prompt, seed }) {
  const words = prompt.toLowerCase().match(/[\p{Letter}\p{Number}]+/gu) ?? ["picture"];
  return `${words.join("-").slice(0, 60)}-${seed}.png`;
}

/** What can be copied of a picture: keys of words, and texts. One made of a file has no address. */
export function ways(picture) {
  if (!picture.url) return [["copyCurl", formCurl(picture)]];
  return [
    ["copyLink", picture.url],
    ["copyImg", img(picture)],
    ["copyElement", element(picture)],
    ["copyCurl", `curl -fsS -o ${fileName(picture)} '${picture.url.replaceAll("'", "%27")}'`],
  ];
}

const img = ({ url, prompt, width, height }) =>
  `<img src="${escaped(url)}" width="${width}" height="${height}" alt="${escaped(prompt)}">`;

function element(picture) {
  const attributes = { ...picture, size: picture.width };
  const named = ["prompt", "seed", ...SETTINGS, "size"]
    .filter((name) => attributes[name] !== "" && attributes[name] !== null && attributes[name] !== undefined)
    .map((name) => `${name}="${escaped(String(attributes[name]))}"`);
  return (
    `<script type="module" src="${new URL("tessera.js", HOME)}"></script>\n` +
    `<tessera-image ${named.join(" ")} live></tessera-image>`
  );
}

function formCurl(picture) {
  const { masked, from, ...options } = picture.work;
  const { prompt, seed } = picture;
  const fields = { ...options, prompt, seed };
  for (const name of [...SETTINGS, "size"]) fields[name] = picture[name];
  const files = [`-F ${quoted(`image=@${from}`)}`, ...(masked ? ["-F mask=@mask.png"] : [])];
  const address = new URL("v1/images/transform", HOME);
  return `curl -fsS -o ${fileName(picture)} ${[...files, ...texts(fields)].join(" ")} ${address}`;
}

/** The line that describes a file. */
export function describingCurl(file, fields) {
  const address = new URL("v1/images/describe", HOME);
  return ["curl -fsS", `-F ${quoted(`image=@${file}`)}`, ...texts(fields), address].join(" ");
}

const texts = (fields) =>
  Object.entries(fields)
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
