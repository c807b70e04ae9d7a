// Requests of the page other than drawing, and the API key that they carry.

import { HOME, ServiceError } from "../../tessera.js";

const STORED = "tessera-key";

let key = "";
try {
  key = sessionStorage.getItem(STORED) ?? "";
} catch {
  // storage is off: the key lives as long as the page
}

/** The API key in use, or "". */
export const currentKey = () => key;

/** Uses another API key, in this tab only. */
export function useKey(text) {
  key = text.trim();
  try {
    if (key) sessionStorage.setItem(STORED, key);
    else sessionStorage.removeItem(STORED);
  } catch {
    // see above
  }
}

async function request(path, options = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let response;
  try {
    response = await fetch(new URL(path, HOME), { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ServiceError("the service cannot be reached", { code: "network" });
  }
  if (!response.ok) throw await ServiceError.from(response);
  return response.json();
}

/** The models, the default one first, edits and limits: `{models, edits, limits, docs}`. Throws `ServiceError`. */
export async function fetchModels() {
  const { data, ...rest } = await request("v1/models");
  return { models: data, ...rest };
}

/**
 * How the service is. Throws `ServiceError`. GET /v1/status answers at least
 *
 *     {"state": "starting" | "ready" | "draining" | "failed" | "stopped",
 *      "models": {"emoji-flow": {"waiting": 3, "running": 8}, …}}
 *
 * where `waiting` and `running` count rows. The page uses no other field.
 */
export const fetchStatus = () => request("v1/status");

/** What a picture shows: `{caption, labels, model}`, for a FormData. Throws `ServiceError`. */
export const describe = (body, signal) => request("v1/images/describe", { method: "POST", body, signal });

/** The OpenAPI document. Throws `ServiceError`. */
export const fetchOpenApi = () => request("openapi.json");
