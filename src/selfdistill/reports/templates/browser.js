"use strict";
// Shared by the browsers of rewrites and answers. Text from the data becomes text nodes, never markup.
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const number = (n) => n.toLocaleString("en");
const counted = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;

function element(name, props, ...children) {
  const node = Object.assign(document.createElement(name), props);
  node.append(...children.filter((child) => child !== null));
  return node;
}

function shorten(text, limit) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > limit ? line.slice(0, limit) + "…" : line;
}

// What a grader read from the reference and from the answer; null if it read nothing.
function values(row) {
  if (row.expected === null && row.found === null) return null;
  const code = (value) => value === null ? "nothing" : element("code", { dir: "auto" }, shorten(value, 160));
  return element("span", { className: "values" }, "expected ", code(row.expected), ", found ", code(row.found));
}

function turns(prompt) {
  return prompt.map(([role, content]) => element("div", { className: "turn" },
    element("b", {}, role), element("pre", { dir: "auto" }, content)));
}

function asked(prompt) {
  return (prompt.filter(([role]) => role === "user").at(-1) || prompt.at(-1) || ["", ""])[1];
}

function folded(label, text, ...parts) {
  return element("details", {},
    element("summary", {}, `${label} `, element("span", { dir: "auto" }, shorten(text, 220))), ...parts);
}

// Options as [value, label]; the first one stands for no choice.
function fill(select, value, ...options) {
  select.replaceChildren(...options.map(([value, label]) => element("option", { value }, label)));
  select.value = value;
  if (select.selectedIndex < 0) select.value = "";
}

// The reasons in `counts`, most frequent first.
function fillReasons(counts, chosen) {
  if (chosen && !counts.has(chosen)) counts.set(chosen, 0);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]).filter(([reason], place) => place < 300 || reason === chosen);
  fill(at("reason"), chosen, ["", "every reason"], ...sorted.map(([reason, n]) => [reason, `${shorten(reason, 60)} (${number(n)})`]));
}

const haystacks = new Map();
function holds(row, q, texts) {
  const wanted = q.toLowerCase().trim();
  if (!wanted) return true;
  if (!haystacks.has(row)) haystacks.set(row, texts(row).join("\n").toLowerCase());
  return haystacks.get(row).includes(wanted);
}

// Shows `find(state)` page by page, each row as `card(row)`. The address holds the state, so report.html can link to a
// selection of rows. An address without a selection opens at `start`. `refill(state)` updates the controls; `note(state)` ends the line with the count.
function browse({ noun, keys, start = {}, refill, find, card, note = () => "" }) {
  const PER_PAGE = 20;
  const state = { q: "", page: 1 };

  function show() {
    const rows = find(state);
    const pages = Math.max(1, Math.ceil(rows.length / PER_PAGE));
    state.page = Math.min(Math.max(1, state.page), pages);
    const first = (state.page - 1) * PER_PAGE;
    const page = rows.slice(first, first + PER_PAGE);
    at("rows").replaceChildren(...page.map(card));
    if (!page.length) at("rows").append(element("p", { className: "nothing" }, `No ${noun} matches.`));
    at("count").textContent = (page.length
      ? `${number(first + 1)}–${number(first + page.length)} of ${counted(rows.length, noun)}` : counted(0, noun)) + note(state);
    at("page").textContent = `page ${number(state.page)} of ${number(pages)}`;
    at("previous").disabled = state.page === 1;
    at("next").disabled = state.page === pages;
  }

  function writeAddress() {
    const words = new URLSearchParams();
    for (const key of ["q", ...keys]) if (state[key]) words.set(key, state[key]);
    if (state.page > 1) words.set("page", state.page);
    history.replaceState(null, "", "#" + words);
  }

  function readAddress() {
    const words = new URLSearchParams(location.hash.slice(1));
    for (const key of ["q", ...keys]) state[key] = words.get(key) || (words.size ? "" : start[key] || "");
    state.page = Number.parseInt(words.get("page") || "1", 10) || 1;
    at("q").value = state.q;
    refill(state);
    show();
  }

  function change(values) {
    Object.assign(state, { page: 1 }, values);
    refill(state);
    show();
    writeAddress();
  }

  function turn(by) {
    state.page += by;
    show();
    writeAddress();
    at("count").scrollIntoView();
  }

  let waiting = 0;
  at("q").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ q: at("q").value }), 150);
  });
  at("tools").addEventListener("submit", (event) => event.preventDefault());
  at("previous").addEventListener("click", () => turn(-1));
  at("next").addEventListener("click", () => turn(1));
  window.addEventListener("hashchange", readAddress);
  return { change, show, start: readAddress };
}
