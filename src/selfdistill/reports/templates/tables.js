// A button under each table saves it as CSV: the shown texts in the shown order. A number has no thousands separators and
// the sign that spreadsheets read. An empty first cell repeats the one above it, which the page leaves out.
function shownText(cell) {
  const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT), parts = [];
  while (texts.nextNode()) {
    const { data, parentElement: parent } = texts.currentNode;
    if (parent.closest(".said summary, .phone")) continue; // the first line of a text that follows; a heading for phones
    parts.push(parent.closest(".said pre") ? data : data.replace(/\s+/g, " ").trim());
  }
  return parts.filter(Boolean).join(" ");
}

function csvCell(text) {
  let value = /^[−+-]?[\d,]+(\.\d+)?$/.test(text) ? text.replaceAll(",", "").replace("−", "-").replace(/^\+/, "") : text;
  if (value === text && /^\s*[=+@-]/.test(text) && Number.isNaN(Number(text))) value = `'${text}`; // no formula
  return /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

function csvOf(table) {
  let above = "";
  const lines = [...table.rows].map((row) => [...row.cells].flatMap((cell, place) => {
    const text = shownText(cell);
    const value = place || row.parentElement === table.tHead ? text : (above = text || above);
    return [value, ...Array(cell.colSpan - 1).fill("")];
  }));
  return lines.map((line) => line.map(csvCell).join(",")).join("\n") + "\n";
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function toolButton(text, label, action) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "tool";
  button.textContent = text;
  button.setAttribute("aria-label", label);
  button.addEventListener("click", () => action(button));
  return button;
}

for (const box of document.querySelectorAll("[data-csv]")) {
  const table = box.querySelector("table"), name = `${box.dataset.csv}.csv`;
  box.after(toolButton("CSV", `Save the table as ${name}`, () => save(name, csvOf(table))));
}

// The clipboard's interface exists on pages from disk too, but a browser may refuse it: then the selection is copied.
async function copy(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(node);
    return document.execCommand("copy");
  }
}

for (const node of document.querySelectorAll("pre.command, main p.note code")) {
  node.after(toolButton("Copy", `Copy: ${node.textContent}`, async (button) => {
    button.textContent = await copy(node) ? "Copied" : "Press Ctrl+C";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  }));
}
