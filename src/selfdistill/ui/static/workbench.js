// A refused mark, or another refusal, is shown where it happened and replaces nothing.
document.addEventListener("htmx:beforeSwap", (event) => {
  const { xhr, elt } = event.detail;
  const article = elt.closest && elt.closest("article");
  if (xhr.status < 400 || !(article || elt.closest("#progress"))) return;
  event.detail.shouldSwap = false;
  const place = article || elt.closest("#progress");
  place.querySelectorAll(":scope > .refused").forEach((old) => old.remove());
  const shown = document.createElement("div");
  shown.className = "refused";
  shown.innerHTML = xhr.responseText; // escaped by the server
  place.append(shown);
});

// Polling does not close what the reader has opened.
document.addEventListener("htmx:beforeSwap", (event) => {
  const target = event.detail.target;
  if (target.id !== "progress" && target.id !== "answers") return;
  const open = [...target.querySelectorAll("details")].map((each) => each.open);
  document.addEventListener("htmx:afterSwap", () => {
    document.querySelectorAll(`#${target.id} details`).forEach((each, place) => { each.open = open[place] ?? each.open; });
  }, { once: true });
});

// A tab in the recipe is two spaces.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Tab" || event.shiftKey || event.target.name !== "text" || event.target.wrap !== "off") return;
  event.preventDefault();
  event.target.setRangeText("  ", event.target.selectionStart, event.target.selectionEnd, "end");
  event.target.dispatchEvent(new Event("input", { bubbles: true }));
});
