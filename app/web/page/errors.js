// Error messages: what went wrong, and what to do about it.

import { label, t } from "../i18n/i18n.js";
import { h } from "./dom.js";

const UPLOADS = ["unsupported_image", "broken_image", "image_too_large", "body_too_large", "no_mask"];
const FINAL = ["field", "invalid", "prompt_too_long", "model_not_found", ...UPLOADS]; // repeating cannot help

/** The entry of `wrong` in the texts that fits an error. */
function kind({ code, status, param }) {
  if (code === "not_loaded") return "model_not_found";
  if (code === "empty_image") return "broken_image";
  if (status === 401 || status === 403) return "invalid_api_key";
  if (status === 429) return "rate_limit";
  if (typeof t(`wrong.${code}.0`) === "string") return code;
  if (status >= 500 || !status) return "server";
  return param ? "field" : "invalid";
}

/**
 * Shows an error in `place`; `again` is called to try again where that may help. Returns a
 * function that removes the message.
 */
export function showError(place, error, again) {
  const name = kind(error);
  const field = error.param && label(error.param);
  const wait = Math.min(error.retryAfter ?? 0, 600);
  const retry = FINAL.includes(name) ? null : h("button", { type: "button", class: "quiet", onclick: again });
  const remove = () => {
    clearInterval(clock);
    place.replaceChildren();
  };
  const dismiss = h("button", { type: "button", class: "plain", onclick: remove }, t("dismiss"));
  place.replaceChildren(
    h("div", { class: "error", "data-code": error.code },
      h("p", { class: "title" }, t(`wrong.${name}.0`, { field })),
      h("p", {}, t(`wrong.${name}.1`, { field })),
      error.message ? h("p", { class: "message", lang: "en" }, error.message) : null,
      h("div", { class: "buttons" }, retry, dismiss),
    ),
  );
  let left = wait;
  const count = () => {
    if (!retry) return;
    retry.disabled = left > 0;
    retry.textContent = left > 0 ? t("tryIn", { n: left }) : t("tryAgain");
    left -= 1;
  };
  const clock = setInterval(() => (left >= 0 ? count() : clearInterval(clock)), 1000);
  count();
  place.scrollIntoView({ block: "nearest" });
  return remove;
}
