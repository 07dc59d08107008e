"use strict";
// A click or Enter on a heading sorts the table by its column; a second one reverses the order. A cell's value is its
// `data-value` or its text. Cells without a value come last.
function valueOf(row, column) {
  const cell = row.cells[column];
  return cell.dataset.value ?? cell.textContent.trim();
}

function compare(a, b) {
  const [x, y] = [a, b].map((text) => Number(text.replaceAll(",", "")));
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
}

function sortBy(table, column, turned) {
  const body = table.tBodies[0], sign = turned ? -1 : 1;
  const keyed = [...body.rows].map((row) => [valueOf(row, column), row]);
  keyed.sort(([a], [b]) => a && b ? sign * compare(a, b) : !a - !b);
  body.append(...keyed.map(([, row]) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const turned = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", turned ? "descending" : "ascending");
      sortBy(table, column, turned);
    });
  });
}

// Nothing can be opened on paper.
const opened = [];
addEventListener("beforeprint", () => {
  for (const node of document.querySelectorAll("details:not([open])")) {
    node.open = true;
    opened.push(node);
  }
});
addEventListener("afterprint", () => { for (const node of opened.splice(0)) node.open = false; });
