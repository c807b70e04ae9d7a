// /docs: Swagger UI shows what /openapi.json says. Where that needs a key, it is the page's.

import { ServiceError } from "../tessera.js";
import { currentKey, description, useKey } from "./service.js";

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

function colour() {
  const { theme } = document.documentElement.dataset;
  document.documentElement.classList.toggle("dark-mode", theme ? theme === "dark" : dark.matches);
}

async function show() {
  $("trouble").textContent = "";
  try {
    const spec = await description();
    $("ask").hidden = true;
    const ui = globalThis.SwaggerUIBundle({
      spec,
      domNode: $("docs"),
      deepLinking: true,
      defaultModelsExpandDepth: 0,
      validatorUrl: null,
      // As if it had been entered there: it is then part of the curl lines that are shown.
      onComplete: () => currentKey() && ui.preauthorizeApiKey("key", currentKey()),
    });
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    $("trouble").textContent = error.message;
    if (error.status !== 401) return;
    $("ask").hidden = false;
    $("key").focus();
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value);
  show();
});
dark.addEventListener("change", colour);
colour();
show();
