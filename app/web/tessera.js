/**
 * Pictures from a Tessera service, in one file without dependencies.
 *
 *     <script type="module" src="https://pictures.example.org/tessera.js"></script>
 *     <tessera-image prompt="red fox" seed="ada" size="128" live></tessera-image>
 *
 * Attributes (all may change at any time):
 *   prompt, seed, model, steps, guidance, temperature, top_k, top_p, background, size   as in the
 *       service's addresses; without a seed it is 0. `size` is also how large the picture is shown,
 *       in CSS pixels.
 *   live      shows the picture while it is drawn; without it, a plain image that caches may keep
 *   alt       its description; without it, the prompt. Empty for decoration
 *   loading   "lazy" waits until it is near the screen (not with `live`)
 *   service   where the service is; without it, where this file came from
 *
 * Events: `progress` (detail: step, steps), `load` (detail: src), `error` (detail: code, message).
 * States, for CSS: `:state(loading)`, `:state(done)`, `:state(failed)`; parts: image, bar, trouble,
 * retry. Property `src` is the picture's address; method `retry()` asks again.
 *
 * Also exports `draw` and `address`, for those who would rather build their own.
 */

/** Where this file came from: the service's root. */
export const HOME = new URL("./", import.meta.url).href;

const FIELDS = ["prompt", "model", "steps", "guidance", "temperature", "top_k", "top_p", "background", "size"];
const NUMBERS = new Set(["steps", "guidance", "temperature", "top_k", "top_p", "size"]);

/** What the service answered instead of a picture. `code` is for programs; `status` 0: no answer. */
export class ServiceError extends Error {
  constructor(message, { code, status = 0, param = null, retryAfter = null }) {
    super(message);
    this.name = "ServiceError";
    Object.assign(this, { code, status, param, retryAfter });
  }

  static async from(response) {
    const body = await response.json().catch(() => null);
    const error = body?.error ?? { message: `${response.status} ${response.statusText}` };
    const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
    return new ServiceError(error.message, {
      code: error.code ?? "http_error",
      status: response.status,
      param: error.param,
      retryAfter: Number.isFinite(seconds) ? seconds : null,
    });
  }
}

/** The address of a picture: the same address always gives the same picture. */
export function address({ seed = 0, format = "png", ...fields }, service = HOME) {
  const query = FIELDS.filter((name) => fields[name] !== undefined && fields[name] !== null)
    .map((name) => `${name}=${encodeURIComponent(fields[name])}`)
    .join("&");
  const path = `v1/images/${encodeURIComponent(seed)}.${format}`;
  return new URL(query ? `${path}?${query}` : path, service).href;
}

/**
 * Draws, and yields `{event, data}` as it happens: "progress" and "preview" (index, step, steps),
 * "image" (index, seed, url, width, height, b64_json), "done". `body` is that of POST /v1/images,
 * or a FormData, that of POST /v1/images/transform. Aborting `signal` stops the work on the
 * service. Throws `ServiceError`.
 */
export async function* draw(body, { service = HOME, key = "", signal } = {}) {
  const headers = { Accept: "text/event-stream" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const request = { method: "POST", headers, body, signal };
  const transform = body instanceof FormData; // fetch names the type of a form itself
  if (!transform) {
    headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(new URL(transform ? "v1/images/transform" : "v1/images", service), request);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ServiceError("the service cannot be reached from this page", { code: "network" });
  }
  if (!response.ok) throw await ServiceError.from(response);
  let whole = false;
  try {
    for await (const { event, data } of messages(response.body)) {
      if (event === "error") {
        const { message, ...error } = data.error;
        throw new ServiceError(message, { status: response.status, ...error });
      }
      whole = event === "done";
      yield { event, data };
    }
  } catch (error) {
    if (error instanceof ServiceError || signal?.aborted) throw error;
  }
  if (!whole) throw new ServiceError("the connection broke off", { code: "broken" });
}

/** Server-sent events whose data is JSON. Comments, ids and retry times are passed over. */
async function* messages(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) {
        const fields = { event: "message", data: "" };
        for (const line of block.split("\n")) {
          const [, name, text] = /^(event|data): ?(.*)$/.exec(line) ?? [];
          if (name === "data") fields.data += text;
          else if (name) fields.event = text;
        }
        if (fields.data) yield { event: fields.event, data: JSON.parse(fields.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** The file in a `preview` or `image` event. */
export function pictureOf({ b64_json: text, format = "png" }) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new Blob([bytes], { type: `image/${format}` });
}

const STYLE = `
  :host { display: inline-block; position: relative; vertical-align: middle; line-height: 0;
    overflow: hidden; contain: content; }
  :host([hidden]) { display: none; }
  img { width: 100%; height: 100%; object-fit: contain; }
  img:not([src]) { visibility: hidden; }
  .bar { position: absolute; inset: auto 0 0 0; height: max(2px, 2.5%); opacity: 0;
    background: linear-gradient(currentColor, currentColor) 0 / calc(100% * var(--done, 0)) 100%
      no-repeat; transition: opacity .3s, background-size .15s linear; }
  .loading .bar { opacity: .55; }
  .loading:not(.seen)::before { content: ""; position: absolute; inset: 0; border-radius: 12%;
    background: currentColor; opacity: .07; animation: breathe 1.4s ease-in-out infinite; }
  .whole { display: block; width: 100%; height: 100%; }
  .trouble { position: absolute; inset: 0; display: grid; place-content: center;
    justify-items: center; gap: .4em; font: 500 13px/1.35 system-ui, sans-serif; text-align: center;
    background: color-mix(in srgb, currentColor 8%, transparent); border-radius: 12%; }
  .trouble[hidden] { display: none; }
  button { font: inherit; color: inherit; background: none; border: 1px solid currentColor;
    border-radius: 99px; min-width: 24px; min-height: 24px; padding: .1em .7em; cursor: pointer; }
  button:focus-visible { outline: 2px solid currentColor; outline-offset: 2px; }
  @keyframes breathe { 50% { opacity: .14; } }
  @media (prefers-reduced-motion: reduce) { .loading::before { animation: none !important; } }
`;

const sheet = new CSSStyleSheet();
sheet.replaceSync(STYLE);

const CHINESE = () => /^zh/i.test(document.documentElement.lang || navigator.language);

class TesseraImage extends HTMLElement {
  static observedAttributes = [...FIELDS, "seed", "live", "alt", "loading", "service"];

  #internals = this.attachInternals();
  #size = new CSSStyleSheet();
  #whole = part("span", "whole");
  #image = part("img", "image");
  #bar = part("span", "bar");
  #trouble = part("span", "trouble");
  #retry = part("button", "retry");
  #due = false; // whether a render is queued
  #shown = ""; // what is shown or on its way: address and manner
  #blob = ""; // the object URL in use
  #work = null; // the AbortController of a live drawing

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet, this.#size];
    this.#retry.type = "button";
    this.#retry.addEventListener("click", (event) => {
      event.preventDefault(); // the element may stand inside a link
      event.stopPropagation();
      this.retry();
    });
    this.#trouble.hidden = true;
    this.#trouble.append(this.#retry);
    this.#bar.setAttribute("aria-hidden", "true");
    this.#whole.append(this.#image, this.#bar, this.#trouble);
    root.append(this.#whole);
    this.#image.addEventListener("load", () => {
      if (this.#image.src === this.src) this.#done();
    });
    this.#image.addEventListener("error", () => {
      if (this.#image.src === this.src) this.#explain();
    });
  }

  /** The picture's address, from the attributes. */
  get src() {
    const fields = {};
    for (const name of FIELDS) {
      const value = this.getAttribute(name);
      if (value !== null && value !== "") fields[name] = value;
    }
    return address({ ...fields, seed: this.getAttribute("seed") || 0 }, this.#service);
  }

  /** Asks again, also where nothing has changed. */
  retry() {
    this.#shown = "";
    this.#render();
  }

  connectedCallback() {
    this.#soon();
  }

  disconnectedCallback() {
    queueMicrotask(() => {
      if (this.isConnected) return; // only moved
      this.#stop();
      this.#shown = "";
    });
  }

  attributeChangedCallback() {
    this.#soon();
  }

  get #service() {
    const given = this.getAttribute("service");
    return given ? new URL(given.endsWith("/") ? given : `${given}/`, document.baseURI).href : HOME;
  }

  /** Several attributes changed in one go are one request. */
  #soon() {
    if (this.#due) return;
    this.#due = true;
    queueMicrotask(() => {
      this.#due = false;
      if (this.isConnected) this.#render();
    });
  }

  #render() {
    const given = this.getAttribute("alt");
    const prompt = this.getAttribute("prompt");
    this.#image.alt = given ?? (prompt || (CHINESE() ? "生成的图片" : "generated picture"));
    const size = Number(this.getAttribute("size"));
    this.#size.replaceSync(size > 0 ? `:host { width: ${size}px; height: ${size}px; }` : "");
    this.#image.loading = this.getAttribute("loading") === "lazy" ? "lazy" : "eager";
    const live = this.hasAttribute("live");
    const shown = `${live} ${this.src}`;
    if (shown === this.#shown) return;
    this.#stop();
    this.#shown = shown;
    this.#enter("loading");
    if (live) this.#draw();
    else this.#show(this.src);
  }

  async #draw() {
    const work = new AbortController();
    this.#work = work;
    const body = { seed: this.getAttribute("seed") || 0, previews: true };
    for (const name of FIELDS) {
      const value = this.getAttribute(name);
      if (value) body[name] = NUMBERS.has(name) ? Number(value) : value;
    }
    try {
      const events = draw(body, { service: this.#service, signal: work.signal });
      for await (const { event, data } of events) {
        if (event === "progress") this.#progress(data);
        if (event === "preview" || event === "image") this.#show(pictureOf(data));
        if (event === "image") await this.#image.decode().catch(() => {});
      }
      if (!work.signal.aborted) this.#done();
    } catch (error) {
      if (work.signal.aborted) return;
      // Without leave to call the service (CORS), the plain picture still works.
      if (error.code === "network") this.#show(this.src);
      else this.#fail(error);
    }
  }

  #progress({ step, steps }) {
    this.#bar.style.setProperty("--done", step / steps);
    this.dispatchEvent(new CustomEvent("progress", { detail: { step, steps } }));
  }

  /** Shows an address, or a Blob. */
  #show(picture) {
    const old = this.#blob;
    this.#blob = picture instanceof Blob ? URL.createObjectURL(picture) : "";
    // Without this, an address that failed would not be asked for again.
    if (!this.#blob && this.#image.src === picture) this.#image.removeAttribute("src");
    this.#image.src = this.#blob || picture;
    this.#whole.classList.toggle("seen", Boolean(this.#blob));
    if (old) URL.revokeObjectURL(old);
  }

  #done() {
    this.#enter("done");
    this.dispatchEvent(new CustomEvent("load", { detail: { src: this.src } }));
  }

  /** An image says that it failed, not why. The service does. */
  async #explain() {
    const src = this.src;
    const answer = await fetch(src).catch(() => null);
    if (src !== this.src) return;
    if (answer && !answer.ok) this.#fail(await ServiceError.from(answer));
    else this.#fail(new ServiceError("the picture cannot be loaded", { code: "network" }));
  }

  #fail({ message, code }) {
    this.#retry.textContent = CHINESE() ? "重试" : "Retry";
    this.#retry.title = message;
    this.#image.removeAttribute("src");
    this.#enter("failed");
    this.dispatchEvent(new CustomEvent("error", { detail: { code, message } }));
  }

  #enter(state) {
    this.#trouble.hidden = state !== "failed";
    this.#whole.classList.toggle("loading", state === "loading");
    if (state === "loading") this.#bar.style.setProperty("--done", 0);
    this.#internals.ariaBusy = String(state === "loading");
    for (const each of ["loading", "done", "failed"]) {
      try {
        this.#internals.states[each === state ? "add" : "delete"](each);
      } catch {
        // a browser without custom states
      }
    }
  }

  #stop() {
    this.#work?.abort();
    this.#work = null;
    if (this.#blob) URL.revokeObjectURL(this.#blob);
    this.#blob = "";
  }
}

function part(tag, name) {
  const node = document.createElement(tag);
  node.className = name;
  node.part = name;
  return node;
}

if (!customElements.get("tessera-image")) customElements.define("tessera-image", TesseraImage);
