// Error messages: what went wrong, and what to do about it; beside the field that is at fault.

import { label, t } from "../i18n/i18n.js";
import { h } from "./dom.js";

const UPLOADS = ["unsupported_image", "broken_image", "image_too_large", "image_aspect", "body_too_large", "no_mask",
  "ambiguous_mask", "wrong_size", "no_margin"];
const CHOICES = ["model_not_found", "lora_not_found", "too_many_pictures"];
const FINAL = ["field", "invalid", "request_refused", "prompt_too_long", ...CHOICES, ...UPLOADS]; // repeating cannot help

/** The controls of fields whose ids are not their names. */
const CONTROLS = { negative_prompt: "negative-prompt", image: "pictures", n: "count" };

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
 * Shows an error: beside the form's field that it names, if that is there, else in `place`; `again`
 * is called to try again where that may help. Returns a function that removes the message.
 */
export function showError(place, error, again) {
  const name = kind(error);
  const control = FINAL.includes(name) ? controlOf(error.param) : null;
  return control ? besideField(control, name, error) : asCard(place, name, error, again);
}

/** The control of a field of the form, or null. */
function controlOf(param) {
  if (!param) return null;
  const sides = document.getElementById("shape-field");
  const id = param === "size" && !sides.hidden ? "width" : (CONTROLS[param] ?? param);
  const found = document.getElementById(id) ?? document.getElementById(`parameter-${param}`);
  return found?.closest("#composer") && !found.closest("[hidden]") ? found : null;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function besideField(control, name, error) {
  const field = error.param && label(error.param);
  const reason = sentence(error.message.replace(`${error.param}: `, ""));
  const id = `${control.id}-error`;
  const note = h("div", { class: "problem", id, role: "alert", "data-code": error.code },
    h("strong", {}, t(`wrong.${name}.0`, { field })), " ",
    reason ? h("span", { lang: "en" }, reason) : t(`wrong.${name}.1`, { field }),
  );
  const described = control.getAttribute("aria-describedby");
  const place = control.closest(".prompt, .field, .sources");
  const remove = () => {
    place.removeEventListener("input", remove);
    note.remove();
    control.removeAttribute("aria-invalid");
    if (described) control.setAttribute("aria-describedby", described);
    else control.removeAttribute("aria-describedby");
  };
  if (control.matches("input, select, textarea")) control.setAttribute("aria-invalid", "true");
  control.setAttribute("aria-describedby", [described, id].filter(Boolean).join(" "));
  place.addEventListener("input", remove);
  const settings = control.closest("details");
  if (settings) settings.open = true;
  if (place.matches(".field")) place.append(note);
  else place.after(note);
  (control.tabIndex < 0 ? control.querySelector("button, input") : control)?.focus();
  note.scrollIntoView({ block: "nearest" });
  return remove;
}

function asCard(place, name, error, again) {
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
