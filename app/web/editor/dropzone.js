// Pictures that the visitor chooses, drops anywhere on the page, or pastes.

const $ = (id) => document.getElementById(id);

/** `take(file)` is called with each of them, while `accepting()` is true. */
export function dropzone(take, accepting) {
  for (const id of ["start", "source-other"]) {
    $(id).addEventListener("click", () => $("file").click());
  }
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) take(file);
    $("file").value = ""; // so that the same file can be chosen again
  });

  const holds = (event) => accepting() && event.dataTransfer?.types.includes("Files");
  let depth = 0; // of elements that the pointer has entered with a file
  const enter = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", (event) => holds(event) && enter(1));
  document.addEventListener("dragleave", (event) => holds(event) && enter(-1));
  document.addEventListener("dragover", (event) => {
    if (holds(event)) event.preventDefault(); // so that it can be dropped
  });
  document.addEventListener("drop", (event) => {
    if (!holds(event)) return;
    event.preventDefault();
    enter(-Infinity);
    take(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (!file || !accepting()) return; // text goes where the cursor is
    event.preventDefault();
    take(file);
  });
}
