// Controls for the numbers and sizes that a model takes, built from its entry in GET /v1/models.

import { OPERATIONS } from "../editor/operations.js";
import { label, language, t } from "../i18n/i18n.js";
import { h } from "./dom.js";

/** What is done without a picture to start from. */
const GENERATE = { does: "generate" };

const operationOf = (name) => OPERATIONS[name] ?? GENERATE;

/** Whether a parameter means something without a picture to start from too. */
const general = ({ operations }) => operations.includes(GENERATE.does);

/** The parameters of a model that can have more than one value in an operation. */
export function parametersOf(model, operation) {
  const { does, fixed = [] } = operationOf(operation);
  return (model?.parameters ?? []).filter(
    ({ name, minimum, maximum, operations }) =>
      minimum < maximum && operations.includes(does) && !fixed.includes(name),
  );
}

/** The values of parameters, for each model; null is one that is left to the service. */
export class Controls {
  #values = new Map();
  #shown = new Map(); // by place: what its controls are for

  /** What is set for an operation: `{steps: 20, …}`. */
  take(model, operation) {
    const values = parametersOf(model, operation).map((parameter) => [
      parameter.name,
      this.#get(model, operation, parameter),
    ]);
    return Object.fromEntries(values.filter(([, value]) => value !== null));
  }

  /** Sets what a picture was drawn with; what it does not name is set to its default. */
  fill(model, given) {
    for (const parameter of parametersOf(model, "generate")) {
      this.#values.set(keyOf(model, "generate", parameter), given[parameter.name] ?? parameter.default);
    }
    this.#shown.clear();
  }

  /**
   * Shows the controls of an operation in `place`: those of parameters that are `special` to
   * operations on a picture, or all others. Nothing is rebuilt, and no focus lost, without need.
   */
  render(place, model, operation, special) {
    const parameters = parametersOf(model, operation).filter((parameter) => general(parameter) !== special);
    const shown = JSON.stringify([model?.id, operation, language(), parameters]);
    if (this.#shown.get(place) === shown) return;
    this.#shown.set(place, shown);
    place.hidden = parameters.length === 0;
    place.replaceChildren(
      ...parameters.map((parameter) =>
        control(parameter, this.#get(model, operation, parameter), (value) => {
          this.#values.set(keyOf(model, operation, parameter), value);
        }),
      ),
    );
  }

  #get(model, operation, parameter) {
    const given = this.#values.get(keyOf(model, operation, parameter));
    return given === undefined ? (operationOf(operation).defaults?.[parameter.name] ?? parameter.default) : given;
  }
}

/** General parameters have one value in all operations but those with a default of their own. */
function keyOf(model, operation, parameter) {
  const own = !general(parameter) || operationOf(operation).defaults?.[parameter.name] !== undefined;
  return [model.id, own ? operation : "", parameter.name].join(" ");
}

/**
 * A slider and a number for a parameter; `set(value)` is called with each new value. Where the
 * service has no default, a checkbox leaves the value to it: null.
 */
function control({ name, minimum, maximum, default: standard, step, description }, value, set) {
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

// Sizes, in pixels

const TIMES = [1, 2, 4, 8]; // the native size is also offered enlarged
const ASPECTS = [[1, 1], [4, 3], [3, 4], [3, 2], [2, 3], [16, 9], [9, 16]];

/** A size as the service takes it: an integer for a square, else "WxH". */
export const sizeField = (width, height) => (width === height ? width : `${width}x${height}`);

/** The sizes to choose from, `[[width, height], …]`, with no side over `longest`; the native one first. */
export function sizesOf({ sizes }, longest) {
  const { width, height, others = [], multiple } = sizes;
  const enlarged = TIMES.map((times) => [times * width, times * height]);
  const aspects = multiple ? ASPECTS.map((aspect) => withAspect(aspect, sizes)) : [];
  const all = [...enlarged, ...others, ...aspects.filter((size) => allowed(size, sizes))];
  const distinct = [...new Map(all.map((size) => [String(size), size])).values()];
  const possible = distinct.filter((size) => Math.max(...size) <= longest);
  if (possible.length) return possible;
  return [[width, height].map((side) => Math.floor((side * longest) / Math.max(width, height)))];
}

/** About as many pixels as the native size has, in another aspect. */
function withAspect([across, down], { width, height, multiple, low, high, pixels }) {
  const area = Math.min(width * height, pixels);
  const size = [across / down, down / across].map((ratio) => {
    const side = multiple * Math.round(Math.sqrt(area * ratio) / multiple);
    return Math.min(high, Math.max(low, side));
  });
  while (size[0] * size[1] > pixels) size[size[0] > size[1] ? 0 : 1] -= multiple;
  return size;
}

const allowed = (size, { multiple, low, high, pixels }) =>
  size.every((side) => side % multiple === 0 && side >= low && side <= high) && size[0] * size[1] <= pixels;
