// The page: the form asks, the service draws, the stage shows, the album keeps.

import { Album } from "./album.js";
import { Bench } from "./bench.js";
import { Composer } from "./composer.js";
import { Drawing } from "./drawing.js";
import { Easel } from "./easel.js";
import { nameOf } from "./facts.js";
import { Gallery } from "./gallery.js";
import { Header } from "./header.js";
import { intake } from "./intake.js";
import { Live } from "./live.js";
import { offer, useKey } from "./service.js";
import { fileName } from "./share.js";
import { Source } from "./source.js";
import { Stage } from "./stage.js";
import { complain } from "./trouble.js";
import { speak, t } from "./words.js";

const $ = (id) => document.getElementById(id);
const say = (words) => {
  $("said").textContent = words;
};

const ALIKE = 4; // pictures that "more" draws

speak();

const album = await Album.open();
const live = new Live();
const bench = new Bench(prepare, drawWords, say);
const composer = new Composer(bench, submit);
const stage = new Stage(doing, say);
const gallery = new Gallery(album, show, clear);
const header = new Header(render);
const drawing = new Drawing({ stage, gallery, album, live, say });

let limits = {}; // of one request
let forgive = () => {}; // takes the complaint away

// Drawing

async function submit() {
  if (!$("key-field").hidden) useKey($("key").value);
  await run(composer.take());
}

async function run(ask) {
  forgive();
  try {
    if (ask.work?.operation === "describe") {
      if (bench.source !== ask.source) bench.put(ask.source, "describe"); // put away meanwhile
      await drawing.describe(ask, bench.easel);
    } else {
      const pictures = await drawing.run(ask);
      if (pictures.length === ask.n) remember(pictures[0]);
    }
  } catch (error) {
    if (error.status === 401) askForKey();
    if (error.code === "network" || error.code === "not_ready") look();
    forgive = complain($("trouble"), error, () => {
      if (error.status === 401) submit();
      else run(ask);
    });
  }
}

/** The page's own address says what it shows, so that it can be sent to somebody. */
function remember({ url, prompt, seed }) {
  const query = new URLSearchParams({ ...(prompt && { prompt }), seed });
  history.replaceState(null, "", url ? `?${query}` : location.pathname);
}

// A picture to start from

async function open(file, about) {
  forgive();
  try {
    bench.put(await Source.open(file, about, limits));
  } catch (error) {
    forgive = complain($("trouble"), error);
    return;
  }
  composer.fill({ prompt: about.prompt ?? "", seed: "" });
  bench.focus();
}

/** The "operation", the "controls" for it, or just their "values" are others than before. */
function prepare(what) {
  if (what === "operation") composer.adapt();
  if (what !== "values") composer.render(); // else one of the controls is in use
  if (bench.source === null) {
    if (stage.shown instanceof Easel) stage.show(album.pictures[0] ?? null);
  } else if (stage.shown !== bench.easel) {
    stage.show(bench.easel);
  } else if (what === "values") {
    stage.redraw();
  } else {
    stage.render();
  }
  gallery.mark(stage.picture);
}

// What can be done with a picture

function doing(picture) {
  const { prompt } = picture;
  return {
    start: bench.able ? () => open(picture.blob, { prompt, name: nameOf(picture), file: fileName(picture) }) : null,
    again: picture.url ? again : null,
    alike: picture.url || drawing.asked(picture) ? alike : null,
    remove,
  };
}

function show(picture) {
  stage.show(picture);
  gallery.mark(picture);
  stage.reveal();
}

/** The words that a picture was described with become a picture, of the chosen model. */
function drawWords(prompt) {
  bench.put(null);
  composer.fill({ prompt, seed: "" });
  run(composer.take());
}

function again(picture) {
  bench.put(null);
  composer.fill({ ...picture, size: picture.width });
  composer.focus();
}

function alike(picture) {
  if (!picture.url) {
    run({ ...drawing.asked(picture), seed: undefined, n: stage.most });
    return;
  }
  bench.put(null);
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

async function look() {
  try {
    const found = await offer();
    ({ limits } = found);
    composer.offer(found);
    stage.most = Math.min(ALIKE, found.limits.n);
    $("docs").hidden = !found.docs;
    tell();
    if (found.models.some(({ numerics }) => numerics === null)) {
      header.status("loading");
      setTimeout(look, 1000);
    }
  } catch (error) {
    if (error.status === 401) {
      askForKey();
      header.status("locked");
      return;
    }
    header.status("away");
    setTimeout(look, 3000);
  }
}

function tell() {
  const { model } = composer;
  if (model) header.status("ready", { model: model.id });
  live.model = model;
  stage.promise({ exact: model?.seed_exact === true, tiled: Boolean(model?.temperature) });
}

function askForKey() {
  $("key-field").hidden = false;
  $("key").focus();
}

// Everything in the language that is spoken

function render() {
  speak();
  header.render();
  composer.render();
  stage.render();
  gallery.render(stage.picture);
  live.render();
}

$("model").addEventListener("change", tell);
$("key").addEventListener("change", () => {
  useKey($("key").value);
  look();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && drawing.busy && !$("ask").open) {
    event.preventDefault();
    drawing.stop();
  }
});

intake((file) => open(file, { name: file.name || t("noName"), file: file.name }), () => bench.able);

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
