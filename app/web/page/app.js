// The page: the form asks, the service draws, the viewer shows, the history keeps.

import { Canvas } from "../editor/canvas.js";
import { dropzone } from "../editor/dropzone.js";
import { Editor } from "../editor/editor.js";
import { learn } from "../editor/operations.js";
import { Source } from "../editor/source.js";
import { t, translate } from "../i18n/i18n.js";
import { Composer } from "./composer.js";
import { Controls } from "./controls.js";
import { nameOf } from "./details.js";
import { Drawing } from "./drawing.js";
import { showError } from "./errors.js";
import { fileName } from "./export.js";
import { Header } from "./header.js";
import { Gallery, History } from "./history.js";
import { fetchModels, useKey } from "./service.js";
import { Status } from "./status.js";
import { Viewer } from "./viewer.js";
import { ServiceError } from "../../tessera.js";

const $ = (id) => document.getElementById(id);
const announce = (text) => {
  $("announcement").textContent = text;
};

const ALIKE = 4; // pictures that "more" draws

translate();

const history = await History.open();
const controls = new Controls();
const editor = new Editor(controls, editorChanged, drawCaption, announce);
const composer = new Composer(controls, editor, submit);
const viewer = new Viewer(actionsOf, () => drawing.stop(), announce);
const gallery = new Gallery(history, show, clear);
const header = new Header(render);
const status = new Status(stateChanged);
const drawing = new Drawing({ viewer, gallery, history, status, announce });

let limits = {}; // of one request
let removeError = () => {};
let reload = 0; // the timer of the next request for the models

// Drawing

async function submit() {
  if (!$("key-field").hidden) useKey($("key").value);
  await run(composer.take());
}

async function run(ask) {
  removeError();
  try {
    if (ask.work?.operation === "describe") {
      const [source] = ask.sources;
      if (editor.source !== source) editor.put(source, "describe"); // put away meanwhile
      await drawing.describe(ask, editor.canvas);
    } else {
      const pictures = await drawing.run(ask);
      if (pictures.length === ask.n) setAddress(pictures[0]);
    }
  } catch (error) {
    if (error.status === 401) askForKey();
    // What the form offers may not be there any more.
    if (["network", "not_ready"].includes(error.code) || error.status === 404) loadModels();
    removeError = showError($("error"), error, () => {
      if (error.status === 401) submit();
      else run(ask);
    });
  }
}

/** The page's own address names what it shows, so that it can be shared. */
function setAddress(picture) {
  const query = new URLSearchParams(composer.address(picture));
  window.history.replaceState(null, "", picture.url ? `?${query}` : location.pathname);
}

// A picture to start from

/**
 * Starts from files (Blobs). Where the operation takes several, those that are `added` (or dropped)
 * stand beside the ones that are there, as far as there is room.
 */
async function open(files, about, added = editor.several) {
  removeError();
  const most = composer.model?.images ?? 1;
  const room = added ? editor.room : most;
  const each = { ...limits, upload_bytes: limits.upload_bytes / most };
  const opened = [];
  try {
    for (const file of files.slice(0, room)) opened.push(await Source.open(file, about(file), each));
  } catch (error) {
    removeError = showError($("error"), error);
    return;
  }
  if (added) {
    editor.add(opened);
  } else {
    const [first, ...others] = opened;
    editor.put(first);
    if (editor.room) editor.add(others);
    composer.fill({ prompt: first.prompt, seed: "" });
    composer.adapt();
    editor.focus();
  }
  if (files.length > room && editor.several) {
    removeError = showError($("error"), new ServiceError("", { code: "too_many_pictures", param: "image" }));
  }
}

/** The "operation", the "controls" for it, or just their "values" have changed. */
function editorChanged(what) {
  if (what === "operation") composer.adapt();
  if (what !== "values") composer.render(); // else one of the controls is in use
  if (editor.source === null) {
    if (viewer.shown instanceof Canvas) viewer.show(history.pictures[0] ?? null);
  } else if (viewer.shown !== editor.canvas) {
    viewer.show(editor.canvas);
  } else if (what === "values") {
    viewer.redraw();
  } else {
    viewer.render();
  }
  gallery.mark(viewer.picture);
}

// What can be done with a picture

function actionsOf(picture) {
  const about = { prompt: picture.prompt, name: nameOf(picture), file: fileName(picture) };
  return {
    start: editor.able ? () => open([picture.blob], () => about, false) : null,
    again: picture.url ? again : null,
    alike: picture.url || drawing.asked(picture) ? alike : null,
    remove,
  };
}

function show(picture) {
  viewer.show(picture);
  gallery.mark(picture);
  viewer.reveal();
}

/** Draws the caption that a picture was described with, with the chosen model. */
function drawCaption(prompt) {
  editor.put(null);
  composer.fill({ prompt, seed: "" });
  run(composer.take());
}

function again(picture) {
  editor.put(null);
  composer.fill(picture);
  composer.focus();
}

function alike(picture) {
  if (!picture.url) {
    run({ ...drawing.asked(picture), seed: undefined, n: viewer.most });
    return;
  }
  editor.put(null);
  composer.fill({ ...picture, seed: "" });
  run({ ...composer.take(), n: viewer.most });
}

function remove(picture) {
  const index = history.pictures.indexOf(picture);
  history.remove(picture);
  viewer.show(history.pictures[index] ?? history.pictures[index - 1] ?? null);
  gallery.render(viewer.shown);
}

function clear() {
  history.clear();
  viewer.show(null);
  gallery.render();
}

// The service

async function loadModels() {
  clearTimeout(reload);
  try {
    const found = await fetchModels();
    ({ limits } = found);
    learn(found.edits);
    composer.offer(found);
    viewer.most = Math.min(ALIKE, found.limits.n);
    $("docs").hidden = !found.docs;
    showModel();
    if (found.models.some(({ numerics }) => numerics === null)) {
      header.state("starting");
      reload = setTimeout(loadModels, 1000);
    }
  } catch (error) {
    if (error.status === 401) {
      askForKey();
      header.state("locked");
      return;
    }
    header.state("away");
    reload = setTimeout(loadModels, 3000);
  }
}

function showModel() {
  const { model } = composer;
  if (model) header.state("ready", { model: model.id });
  status.model = model;
  viewer.exact = model?.seed_exact === true;
  viewer.transparency = model?.transparency === true;
}

function stateChanged(state) {
  if (state === "ready") loadModels();
  else header.state(state);
}

function askForKey() {
  $("key-field").hidden = false;
  $("key").focus();
}

/** Renders everything in the current language. */
function render() {
  translate();
  header.render();
  composer.render();
  viewer.render();
  gallery.render(viewer.picture);
  status.render();
}

$("model").addEventListener("change", showModel);
$("key").addEventListener("change", () => {
  useKey($("key").value);
  loadModels();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && drawing.busy && !$("ask").open) {
    event.preventDefault();
    drawing.stop();
  }
});

dropzone(
  (files, added) => open(files, ({ name }) => ({ name: name || t("noName"), file: name }), added),
  () => editor.able,
);

render();
await loadModels();

const shared = Object.fromEntries(new URLSearchParams(location.search));
if ("prompt" in shared || "seed" in shared) {
  // The seed is for this picture only: the form's next one is new.
  const { seed, ...fields } = shared;
  composer.follow(fields);
  if (composer.model) run({ ...composer.take(), ...(seed && { seed }) });
} else if (history.pictures.length) {
  viewer.show(history.pictures[0]);
  gallery.mark(history.pictures[0]);
}
if (matchMedia("(hover: hover)").matches && $("key-field").hidden) composer.focus();
