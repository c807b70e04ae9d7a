// Elements without innerHTML, and addresses of files within the page.

const ICONS = {
  dice: "M5 3h14a2 2 0 0 1 2 2v14a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2ZM8.5 8.5h.01M15.5 8.5h.01M12 12h.01M8.5 15.5h.01M15.5 15.5h.01",
  reload: "M20 11a8 8 0 1 0-2.3 6.3M20 4v7h-7",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8ZM12 2v2.5M12 19.5V22M4.9 4.9l1.8 1.8M17.3 17.3l1.8 1.8M2 12h2.5M19.5 12H22M4.9 19.1l1.8-1.8M17.3 6.7l1.8-1.8",
  moon: "M20.5 14.5A8.5 8.5 0 0 1 9.5 3.5a8.5 8.5 0 1 0 11 11Z",
  cross: "M6 6l12 12M18 6 6 18",
  swap: "M7 4 3 8l4 4M3 8h14M17 12l4 4-4 4M21 16H7",
  up: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  plus: "M12 5v14M5 12h14",
  picture: "M4 5h16v14H4ZM4 16l4.5-4.5L13 16l2.5-2.5L20 18M15.5 9.5h.01",
};

/** An element: `h("button", {class: "quiet", onclick: f}, "text", child)`. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** A line icon of 20 px, hidden from screen readers: the button around it has a label. */
export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  const path = document.createElementNS(namespace, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

const urls = new WeakMap();

/** An object URL for a file that is kept; the same one every time. */
export function fileUrl(blob) {
  if (!urls.has(blob)) urls.set(blob, URL.createObjectURL(blob));
  return urls.get(blob);
}

/** The nearest of some nodes in the next row below one (`down`: 1) or above it (-1). */
function beyond(node, nodes, down) {
  const box = (one) => one.getBoundingClientRect();
  const { top, left, width } = box(node);
  const further = nodes.filter((one) => down * (box(one).top - top) > 1);
  const row = Math.min(...further.map((one) => down * box(one).top)) + 1;
  const off = (one) => Math.abs(box(one).left + box(one).width / 2 - left - width / 2);
  return further.filter((one) => down * box(one).top <= row).sort((a, b) => off(a) - off(b))[0];
}

/**
 * Gives a group of buttons one tab stop; arrow keys, Home and End move the focus within it.
 * Returns a function to call after the group's children have changed.
 */
export function rovingFocus(group) {
  const buttons = () => [...group.querySelectorAll("button")];
  const update = () => {
    const all = buttons();
    const stop = all.find((button) => button.getAttribute("aria-pressed") === "true") ?? all[0];
    for (const button of all) button.tabIndex = button === stop ? 0 : -1;
  };
  group.addEventListener("keydown", (event) => {
    const all = buttons();
    const at = all.indexOf(event.target);
    const to = {
      ArrowRight: all[at + 1],
      ArrowLeft: all[at - 1],
      ArrowDown: beyond(event.target, all, 1),
      ArrowUp: beyond(event.target, all, -1),
      Home: all[0],
      End: all.at(-1),
    };
    if (at < 0 || !(event.key in to)) return;
    event.preventDefault();
    to[event.key]?.focus();
  });
  group.addEventListener("focusin", (event) => {
    for (const button of buttons()) button.tabIndex = button === event.target ? 0 : -1;
  });
  return update;
}
