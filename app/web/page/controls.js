// Controls for the numbers that a model takes, built from its entry in GET /v1/models.

import { OPERATIONS } from "../editor/operations.js";
import { label, language, t } from "../i18n/i18n.js";
import { h } from "./dom.js";

/** What is done without a picture to start from. */
const GENERATE = { does: "generate" };

const operationOf = (name) => OPERATIONS[name] ?? GENERATE;

/** Whether a parameter means something without a picture to start from too. */
const general = ({ operations }) => operations.includes(GENERATE.does);

/** Whether there is anything to choose. */
const free = ({ minimum, maximum }) => minimum < maximum;

/** The parameters that mean something to a model in an operation. */
function parametersOf(model, operation) {
  const { does, fixed = [] } = operationOf(operation);
  return (model?.parameters ?? []).filter(
    ({ name, operations }) => operations.includes(does) && !fixed.includes(name),
  );
}

/** Where a parameter's control belongs: "adapter", "operation" (only on a picture) or "general". */
function groupOf(parameter) {
  if (parameter.name === "lora_scale") return "adapter";
  return general(parameter) ? "general" : "operation";
}

/** A parameter's default in an operation, where it is another one than in most. */
function ownDefault({ name, defaults }, operation) {
  const { does, defaults: ofEdit } = operationOf(operation);
  return ofEdit?.[name] ?? defaults[does];
}

/** A parameter's default in an operation. */
export const defaultOf = (parameter, operation) => ownDefault(parameter, operation) ?? parameter.default;

/** The values of parameters, for each model; null is one that is left to the service. */
export class Controls {
  #values = new Map();
  #shown = new Map(); // by place: what its controls are for

  /** What is set for an operation: `{steps: 20, …}`. `lora`: whether an adapter is used. */
  take(model, operation, lora) {
    const values = parametersOf(model, operation)
      .filter((parameter) => free(parameter) && (lora || groupOf(parameter) !== "adapter"))
      .map((parameter) => [parameter.name, this.#get(model, operation, parameter)]);
    return Object.fromEntries(values.filter(([, value]) => value !== null));
  }

  /** Sets what a picture was drawn with; what it does not name, or has by default, follows the default. */
  fill(model, given) {
    for (const parameter of parametersOf(model, "generate").filter(free)) {
      const key = keyOf(model, "generate", parameter);
      const standard = defaultOf(parameter, "generate");
      const value = given[parameter.name] ?? standard;
      if (value === standard) this.#values.delete(key);
      else this.#values.set(key, value);
    }
    this.#shown.clear();
  }

  /**
   * Shows the controls of an operation in `place`: those of the `group`, see `groupOf`. Nothing is
   * rebuilt, and no focus lost, without need.
   */
  render(place, model, operation, group) {
    const parameters = parametersOf(model, operation).filter((parameter) => groupOf(parameter) === group);
    const shown = JSON.stringify([model?.id, operation, language(), parameters]);
    if (this.#shown.get(place) === shown) return;
    this.#shown.set(place, shown);
    place.hidden = parameters.length === 0;
    place.replaceChildren(
      ...parameters.map((parameter) => {
        if (!free(parameter)) return fact(parameter);
        return control(parameter, operation, this.#get(model, operation, parameter), (value) => {
          this.#values.set(keyOf(model, operation, parameter), value);
        });
      }),
    );
  }

  #get(model, operation, parameter) {
    const given = this.#values.get(keyOf(model, operation, parameter));
    return given !== undefined ? given : defaultOf(parameter, operation);
  }
}

/** General parameters have one value in all operations but those with a default of their own. */
function keyOf(model, operation, parameter) {
  const own = !general(parameter) || ownDefault(parameter, operation) !== undefined;
  return [model.id, own ? operation : "", parameter.name].join(" ");
}

/** A parameter that has one value. */
const fact = ({ name, minimum, description }) =>
  h("div", { class: "field parameter" },
    h("p", { class: "parameter-head" }, h("span", {}, label(name)), h("strong", {}, String(minimum))),
    h("p", { class: "note", lang: "en" }, description),
  );

/**
 * A slider and a number for a parameter; `set(value)` is called with each new value. Where the
 * service has no default, a checkbox leaves the value to it: null.
 */
function control(parameter, operation, value, set) {
  const { name, minimum, maximum, step, description } = parameter;
  const standard = defaultOf(parameter, operation);
  const id = `parameter-${name}`;
  const bounds = { min: minimum, max: maximum, step: step || "any", "aria-describedby": `${id}-hint` };
  const slider = h("input", { type: "range", id, ...bounds });
  const number = h("input", { type: "number", id: `${id}-number`, ...bounds, "aria-labelledby": `${id}-label` });
  const automatic = h("input", {
    type: "checkbox", id: `${id}-automatic`, checked: value === null, "aria-describedby": `${id}-label`,
  });
  // A tenth of the way is where a value begins that was left to the service.
  let last = value ?? minimum + Math.round((maximum - minimum) / 10 / (step || 1)) * (step || 1);

  const show = () => {
    slider.value = last;
    number.value = last;
    // A default between two steps is no reason for the browser to refuse the form.
    if (number.validity.stepMismatch) number.step = "any";
    for (const input of [slider, number]) input.hidden = automatic.checked;
  };
  slider.addEventListener("input", () => {
    last = Number(slider.value);
    number.value = slider.value;
    set(last);
  });
  number.addEventListener("input", () => {
    if (number.value === "" || number.validity.rangeUnderflow || number.validity.rangeOverflow) return;
    last = step === 1 ? Math.round(number.value) : Number(number.value);
    slider.value = last;
    set(last);
  });
  number.addEventListener("change", () => {
    if (number.value !== "") {
      const within = Math.min(maximum, Math.max(minimum, number.value));
      last = step === 1 ? Math.round(within) : within;
    }
    show();
    set(last);
  });
  automatic.addEventListener("change", () => {
    show();
    set(automatic.checked ? null : last);
  });
  show();
  return h("div", { class: "field parameter" },
    h("div", { class: "parameter-head" },
      h("label", { for: id, id: `${id}-label` }, label(name)),
      standard === null ? h("label", { class: "check" }, automatic, " ", h("span", {}, t("automatic"))) : null,
      number,
    ),
    slider,
    h("p", { class: "note", id: `${id}-hint`, lang: "en" }, description),
  );
}
