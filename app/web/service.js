// What the page asks of the service besides drawing. Knows nothing of the page.

import { HOME, ServiceError } from "../tessera.js";

const KEPT = "tessera-key";

let key = "";
try {
  key = sessionStorage.getItem(KEPT) ?? "";
} catch {
  // storage is off: the key lives as long as the page
}

/** The API key in use, or "". */
export const currentKey = () => key;

/** Uses another API key, in this tab only. */
export function useKey(text) {
  key = text.trim();
  try {
    if (key) sessionStorage.setItem(KEPT, key);
    else sessionStorage.removeItem(KEPT);
  } catch {
    // see above
  }
}

async function ask(path, request = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(new URL(path, HOME), { ...request, headers });
  } catch (error) {
    if (request.signal?.aborted) throw error;
    throw new ServiceError("the service cannot be reached", { code: "network" });
  }
  if (!response.ok) throw await ServiceError.from(response);
  return response;
}

/**
 * What is loaded and allowed: `{models, limits, docs}`, the default model first. Throws
 * `ServiceError`.
 */
export async function offer() {
  const { data, limits, docs } = await (await ask("v1/models")).json();
  return { models: data, limits, docs };
}

/** What a picture shows: `{caption, labels, model}`, for a FormData. Throws `ServiceError`. */
export async function described(body, signal) {
  return (await ask("v1/images/describe", { method: "POST", body, signal })).json();
}

/** The description of the interface. Throws `ServiceError`. */
export async function description() {
  return (await ask("openapi.json")).json();
}

/** Rows that wait and rows in the making, of all models; null where metrics are not shown. */
export async function load() {
  try {
    const text = await (await ask("metrics")).text();
    return { waiting: total(text, "tessera_rows_waiting"), running: total(text, "tessera_rows_running") };
  } catch (error) {
    return error.code === "network" ? { away: true } : null;
  }
}

function total(text, name) {
  let sum = 0;
  for (const [, value] of text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, "gm"))) {
    sum += Number(value);
  }
  return sum;
}
