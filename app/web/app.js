// The page: the form asks, the service draws, the stage shows, the album keeps.

import { draw, pictureOf } from "../tessera.js";
import { Album } from "./album.js";
import { Composer } from "./composer.js";
import { icon } from "./dom.js";
import { Gallery } from "./gallery.js";
import { Live } from "./live.js";
import { currentKey, offer, useKey } from "./service.js";
import { Slot, Stage } from "./stage.js";
import { complain } from "./trouble.js";
import { speak, switchLanguage, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const say = (words) => {
  $("said").textContent = words;
};

const ALIKE = 4; // pictures that "more like it" draws

speak();

const album = await Album.open();
const live = new Live();
const composer = new Composer(start);
const stage = new Stage({ again, alike, remove }, say);
const gallery = new Gallery(album, show, clear);

let work = null; // the AbortController of the run in progress
let state = ["loading", {}]; // what the status line says
let forgive = () => {}; // takes the complaint away

// Drawing

async function start() {
  if (!$("key-field").hidden) useKey($("key").value);
  await run(composer.take());
}

async function run(ask) {
  work?.abort();
  forgive();
  const own = new AbortController();
  work = own;
  const slots = Array.from({ length: ask.n }, (_, index) => new Slot(ask, index));
  stage.begin(slots);
  stage.reveal();
  busy(true);
  say(t("saidDrawing", { n: ask.n }));
  const began = performance.now();
  try {
    const options = { key: currentKey(), signal: own.signal };
    for await (const { event, data } of draw({ ...ask, previews: true }, options)) {
      const slot = slots[data.index];
      if (event === "progress" || event === "preview") {
        slot.step = data.step;
        if (event === "preview") slot.show(pictureOf(data));
        stage.update(slot);
      } else if (event === "image") {
        slot.step = slot.steps;
        slot.picture = keep(ask, data, (performance.now() - began) / 1000);
        slot.forget();
        stage.update(slot);
        gallery.render(slot === stage.shown ? slot.picture : null);
        if (ask.n > 1) say(t("saidDone", { i: data.index + 1, n: ask.n }));
      }
    }
    live.took((performance.now() - began) / 1000);
    if (ask.n === 1) say(t("saidDone", { i: 1, n: 1 }));
    remember(slots[0].picture);
  } catch (error) {
    if (!own.signal.aborted) fail(error, ask);
  } finally {
    if (work === own) {
      work = null;
      stage.end();
      gallery.mark(stage.picture);
      busy(false);
    }
  }
}

function keep(ask, { seed, url, width, height, ...file }, seconds) {
  const address = new URL(url);
  for (const name of ["expires", "signature"]) address.searchParams.delete(name);
  const { prompt, model, steps, guidance, background } = ask;
  const picture = { prompt, model, steps, guidance, background, seed, url, width, height, seconds };
  Object.assign(picture, {
    path: address.pathname + address.search,
    at: Date.now(),
    blob: pictureOf(file),
  });
  album.add(picture);
  return picture;
}

function stop() {
  if (!work) return;
  work.abort();
  say(t("saidStopped"));
}

function fail(error, ask) {
  if (error.status === 401) askForKey();
  if (error.code === "network" || error.code === "not_ready") look();
  forgive = complain($("trouble"), error, () => {
    if (error.status === 401) start();
    else run(ask);
  });
}

function busy(is) {
  const focus = [$("draw"), $("stop")].includes(document.activeElement);
  $("draw").hidden = is;
  $("stop").hidden = !is;
  if (focus) $(is ? "stop" : "draw").focus();
  live.busy = is;
}

/** The page's own address says what it shows, so that it can be sent to somebody. */
function remember({ prompt, seed }) {
  const query = new URLSearchParams({ ...(prompt && { prompt }), seed });
  history.replaceState(null, "", `?${query}`);
}

// What the buttons of a picture do

function show(picture) {
  stage.show(picture);
  gallery.mark(picture);
  stage.reveal();
}

function again(picture) {
  composer.fill({ ...picture, size: picture.width });
  composer.focus();
}

function alike(picture) {
  composer.fill({ ...picture, size: picture.width, seed: "" });
  run({ ...composer.take(), n: stage.most });
}

function remove(picture) {
  const place = album.pictures.indexOf(picture);
  album.remove(picture);
  stage.show(album.pictures[place] ?? album.pictures[place - 1] ?? null);
  gallery.render(stage.shown);
}

function clear() {
  album.clear();
  stage.show(null);
  gallery.render();
}

// The service

function status(name, values = {}) {
  state = [name, values];
  $("status").dataset.state = name;
  $("status").lastElementChild.textContent = t(name, values);
}

async function look() {
  try {
    const found = await offer();
    composer.offer(found);
    stage.most = Math.min(ALIKE, found.limits.n);
    $("docs").hidden = !found.docs;
    tell();
    if (found.models.some(({ numerics }) => numerics === null)) {
      status("loading");
      setTimeout(look, 1000);
    }
  } catch (error) {
    if (error.status === 401) {
      askForKey();
      status("locked");
      return;
    }
    status("away");
    setTimeout(look, 3000);
  }
}

function tell() {
  const { model } = composer;
  if (model) status("ready", { model: model.id });
  live.model = model;
  stage.exact = model?.seed_exact === true;
}

function askForKey() {
  $("key-field").hidden = false;
  $("key").focus();
}

// Language and theme

function render() {
  speak();
  $("language").textContent = t("other");
  $("language").lang = t("other") === "English" ? "en" : "zh";
  composer.render();
  stage.render();
  gallery.render(stage.picture);
  live.render();
  status(...state);
  theme();
}

const dark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const { theme: chosen } = document.documentElement.dataset;
  return chosen ? chosen === "dark" : dark.matches;
}

function theme() {
  const label = t(isDark() ? "themeLight" : "themeDark");
  $("theme").replaceChildren(icon(isDark() ? "sun" : "moon"));
  $("theme").setAttribute("aria-label", label);
  $("theme").title = label;
}

$("theme").addEventListener("click", () => {
  const next = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("tessera-theme", next);
  } catch {
    // only this visit, then
  }
  theme();
});
dark.addEventListener("change", theme);
$("language").addEventListener("click", () => {
  switchLanguage();
  render();
});
$("stop").addEventListener("click", stop);
$("model").addEventListener("change", tell);
$("key").addEventListener("change", () => {
  useKey($("key").value);
  look();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && work && !$("ask").open) {
    event.preventDefault();
    stop();
  }
});

render();
await look();

const shared = new URLSearchParams(location.search);
if (shared.has("prompt") || shared.has("seed")) {
  // The seed is for this one: the form's next picture is a new one.
  composer.fill({ prompt: shared.get("prompt") ?? "" });
  const seed = shared.get("seed");
  if (composer.model) run({ ...composer.take(), ...(seed && { seed }) });
} else if (album.pictures.length) {
  stage.show(album.pictures[0]);
  gallery.mark(album.pictures[0]);
}
if (matchMedia("(hover: hover)").matches && $("key-field").hidden) composer.focus();
