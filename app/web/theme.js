// Runs before the page is painted, so that a chosen theme does not flash: not a module.
const chosen = (() => {
  try {
    return localStorage.getItem("tessera-theme");
  } catch {
    return null; // storage is off
  }
})();
if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
