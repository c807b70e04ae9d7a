// What went wrong, in words, with what to do.

import { h } from "./dom.js";
import { t } from "./words.js";

const FIELDS = [
  "prompt", "seed", "n", "steps", "guidance", "temperature", "top_k", "top_p", "size", "background", "model",
  "image", "mask", "noise", "labels",
];
const PICTURES = ["unsupported_image", "broken_image", "image_too_large", "body_too_large", "no_mask"];
const HOPELESS = ["field", "invalid", "prompt_too_long", "model_not_found", ...PICTURES];

/** The entry of `wrong` in the dictionary that fits an error. */
function kind({ code, status, param }) {
  if (code === "not_loaded") return "model_not_found";
  if (code === "empty_image") return "broken_image";
  if (status === 401 || status === 403) return "invalid_api_key";
  if (status === 429) return "rate_limit";
  if (typeof t(`wrong.${code}.0`) === "string") return code;
  if (status >= 500 || !status) return "server";
  return FIELDS.includes(param) ? "field" : "invalid";
}

/**
 * Shows an error in `place`; `again` tries again where that may help. Returns a function that
 * takes it away.
 */
export function complain(place, error, again) {
  const name = kind(error);
  const field = t(`partName.${error.param}`);
  const wait = Math.min(error.retryAfter ?? 0, 600);
  const retry = HOPELESS.includes(name) ? null : h("button", { type: "button", class: "quiet", onclick: again });
  const gone = () => {
    clearInterval(clock);
    place.replaceChildren();
  };
  const dismiss = h("button", { type: "button", class: "plain", onclick: gone }, t("dismiss"));
  place.replaceChildren(
    h("div", { class: "trouble", "data-code": error.code },
      h("p", { class: "title" }, t(`wrong.${name}.0`, { field })),
      h("p", {}, t(`wrong.${name}.1`, { field })),
      error.message ? h("p", { class: "told", lang: "en" }, error.message) : null,
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
  return gone;
}
