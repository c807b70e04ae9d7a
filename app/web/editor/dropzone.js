// Pictures that the visitor chooses, drops anywhere on the page, or pastes.

const $ = (id) => document.getElementById(id);

/**
 * `take(files, added)` is called with them, while `accepting()` is true; `added` is true where they
 * are to stand beside those that are there, undefined where that is open.
 */
export function dropzone(take, accepting) {
  let added;
  for (const id of ["start", "source-other", "add"]) {
    $(id).addEventListener("click", () => {
      added = id === "add";
      $("file").click();
    });
  }
  $("file").addEventListener("change", () => {
    const files = [...$("file").files];
    if (files.length) take(files, added);
    added = undefined;
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
    take([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length || !accepting()) return; // text goes where the cursor is
    event.preventDefault();
    take(files);
  });
}
