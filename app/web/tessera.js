/**
 * Pictures from a Tessera service, in one file without dependencies.
 *
 *     <script type="module" src="https://pictures.example.org/tessera.js"></script>
 *     <tessera-image prompt="red fox" seed="ada" size="128" live></tessera-image>
 *
 * Attributes (all may change at any time):
 *   seed      an integer or any text; without it, 0
 *   size      "128" or "128x96": pixels of the picture, and CSS pixels of the element, which becomes
 *             smaller, in the same shape, where there is less room
 *   format    "png" (without it), "webp" or "jpeg"
 *   live      shows the picture while it is drawn; without it, a plain image that caches may keep
 *   alt       its description; without it, the prompt. Empty for decoration
 *   loading   "lazy" waits until it is near the screen (not with `live`)
 *   service   where the service is; without it, where this file came from
 *   any other name of lower-case letters, digits and _, except HTML's own (class, id, title …): a
 *       field of the request, as in the service's addresses: prompt, negative_prompt, lora, model,
 *       background, and the model's parameters, such as steps
 *
 * Events: `progress` (detail: step, steps), `load` (detail: src), `error` (detail: code, message).
 * States, for CSS: `:state(loading)`, `:state(done)`, `:state(failed)`; parts: image, bar, trouble,
 * retry. Property `src` is the picture's address; method `retry()` asks again.
 *
 * Also exports `draw`, `address` and `pictureOf`, to build other elements with.
 */

/** Where this file came from: the service's root. */
export const HOME = new URL("./", import.meta.url).href;

/** Attributes of the element that are no fields of a request: its own, and those of every element. */
const NOT_FIELDS = new Set(
  (
    "seed live alt loading service accesskey autocapitalize autocorrect autofocus class contenteditable dir " +
    "draggable enterkeyhint exportparts hidden id inert inputmode is itemid itemprop itemref itemscope itemtype " +
    "lang nonce part popover role slot spellcheck style tabindex title translate writingsuggestions"
  ).split(" "),
);

/** Fields whose values are text, also where they look like numbers; all others may be numbers. */
const TEXTS = new Set(["prompt", "negative_prompt", "lora", "model", "background", "format"]);

/** An error answer of the service. `code` is for programs; `status` 0: no answer. */
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

/**
 * The address of a picture: the same address always gives the same picture. Fields are in the order
 * of their names, after the prompt, so that caches see one address for one picture.
 */
export function address({ seed = 0, format = "png", prompt, ...fields }, service = HOME) {
  const query = [["prompt", prompt], ...Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1))]
    .filter(([, value]) => value !== undefined && value !== null)
    .map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`)
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

/** Server-sent events whose data is JSON. Comments, ids and retry times are ignored. */
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
  #internals = this.attachInternals();
  #size = new CSSStyleSheet();
  #whole = part("span", "whole");
  #image = part("img", "image");
  #bar = part("span", "bar");
  #trouble = part("span", "trouble");
  #retry = part("button", "retry");
  #due = false; // whether a render is queued
  #shown = ""; // what is shown or on its way: address and whether live
  #blob = ""; // the object URL in use
  #controller = null; // the AbortController of a live drawing

  constructor() {
    super();
    // Any attribute may be a field: observedAttributes would need their names.
    new MutationObserver(() => this.#schedule()).observe(this, { attributes: true });
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
    return address({ ...this.#fields, seed: this.getAttribute("seed") || 0 }, this.#service);
  }

  /** The fields of a request that the attributes name. Empty ones are left out. */
  get #fields() {
    const attributes = [...this.attributes].filter(
      ({ name, value }) => value !== "" && /^[a-z][a-z0-9_]*$/.test(name) && !NOT_FIELDS.has(name) && !isHandler(name),
    );
    return Object.fromEntries(attributes.map(({ name, value }) => [name, value]));
  }

  /** Draws again, also where nothing has changed. */
  retry() {
    this.#shown = "";
    this.#render();
  }

  connectedCallback() {
    this.#schedule();
  }

  disconnectedCallback() {
    queueMicrotask(() => {
      if (this.isConnected) return; // only moved
      this.#stop();
      this.#shown = "";
    });
  }

  get #service() {
    const given = this.getAttribute("service");
    return given ? new URL(given.endsWith("/") ? given : `${given}/`, document.baseURI).href : HOME;
  }

  /** Several attributes changed in one go are one request. */
  #schedule() {
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
    const [, width, height = width] = /^(\d+)(?:x(\d+))?$/.exec(this.getAttribute("size") ?? "") ?? [];
    const sized = `:host { width: ${width}px; max-width: 100%; aspect-ratio: ${width} / ${height}; }`;
    this.#size.replaceSync(width > 0 ? sized : "");
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
    const controller = new AbortController();
    this.#controller = controller;
    const body = { seed: this.getAttribute("seed") || 0, previews: true };
    for (const [name, value] of Object.entries(this.#fields)) {
      body[name] = TEXTS.has(name) || !Number.isFinite(Number(value)) ? value : Number(value);
    }
    try {
      const events = draw(body, { service: this.#service, signal: controller.signal });
      for await (const { event, data } of events) {
        if (event === "progress") this.#progress(data);
        if (event === "preview" || event === "image") this.#show(pictureOf(data));
        if (event === "image") await this.#image.decode().catch(() => {});
      }
      if (!controller.signal.aborted) this.#done();
    } catch (error) {
      if (controller.signal.aborted) return;
      // Where the service does not allow calls from this page (CORS), a plain image still works.
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
    // Without this, an address that failed would not be requested again.
    if (!this.#blob && this.#image.src === picture) this.#image.removeAttribute("src");
    this.#image.src = this.#blob || picture;
    this.#whole.classList.toggle("seen", Boolean(this.#blob));
    if (old) URL.revokeObjectURL(old);
  }

  #done() {
    this.#enter("done");
    this.dispatchEvent(new CustomEvent("load", { detail: { src: this.src } }));
  }

  /** An image's error event has no reason: the service's answer has. */
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
    for (const name of ["loading", "done", "failed"]) {
      try {
        this.#internals.states[name === state ? "add" : "delete"](name);
      } catch {
        // a browser without custom states
      }
    }
  }

  #stop() {
    this.#controller?.abort();
    this.#controller = null;
    if (this.#blob) URL.revokeObjectURL(this.#blob);
    this.#blob = "";
  }
}

const isHandler = (name) => name.startsWith("on") && name in HTMLElement.prototype;

function part(tag, name) {
  const node = document.createElement(tag);
  node.className = name;
  node.part = name;
  return node;
}

if (!customElements.get("tessera-image")) customElements.define("tessera-image", TesseraImage);
