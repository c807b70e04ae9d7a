// Pictures of the visitor's come in: chosen, dropped anywhere on the page, or pasted.

const $ = (id) => document.getElementById(id);

/** `take(file)` is called with each that comes in while `open()` says that one may. */
export function intake(take, open) {
  for (const id of ["start", "source-other"]) {
    $(id).addEventListener("click", () => $("file").click());
  }
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) take(file);
    $("file").value = ""; // so that the same file can be chosen again
  });

  const holds = (event) => open() && event.dataTransfer?.types.includes("Files");
  let depth = 0; // of elements that the pointer has entered with a file
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", (event) => holds(event) && over(1));
  document.addEventListener("dragleave", (event) => holds(event) && over(-1));
  document.addEventListener("dragover", (event) => {
    if (holds(event)) event.preventDefault(); // a place to drop it
  });
  document.addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    over(-Infinity);
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file || !open()) return; // text goes where the cursor is
    event.preventDefault();
    take(file);
  });
}
