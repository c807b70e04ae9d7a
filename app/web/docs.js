// /docs: Swagger UI shows /openapi.json. Where that needs an API key, the page's is used.

import { currentKey, fetchOpenApi, useKey } from "./page/service.js";
import { ServiceError } from "../tessera.js";

const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const { theme } = document.documentElement.dataset;
  document.documentElement.classList.toggle("dark-mode", theme ? theme === "dark" : dark.matches);
}

async function show() {
  $("error").textContent = "";
  try {
    const spec = await fetchOpenApi();
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
    $("error").textContent = error.message;
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
dark.addEventListener("change", applyTheme);
applyTheme();
show();
